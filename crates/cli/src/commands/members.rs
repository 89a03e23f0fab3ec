//! `helix members`: who is what in an org.

use clap::{Args, Subcommand};
use helix_model::api::access::MemberRequest;
use helix_model::{Kind, Name, Role};

use super::kinds;
use crate::failure::Result;
use crate::render;
use crate::session::Session;

/// Members of the org: list, describe, events, set, remove
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix members list\n  helix members set alice --role developer\n  helix members remove alice --org acme"
)]
pub(crate) struct MembersArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Any(kinds::Verb),
    Set(SetArgs),
    Remove(RemoveArgs),
}

/// Make a user a member, or give a member another role
///
/// readonly sees and reads logs; developer also deploys, scales and runs
/// commands; admin also manages members and service tokens and reads the audit
/// trail; owner also makes owners. docs/access.md has the whole table.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix members set alice --role admin --org acme")]
struct SetArgs {
    /// The user's name
    user: Name,
    /// readonly, developer, admin or owner
    #[arg(long)]
    role: Role,
}

/// Take a member out of the org
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix members remove alice")]
struct RemoveArgs {
    /// The user's name
    user: String,
}

impl MembersArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, Verb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: MembersArgs) -> Result<u8> {
    let client = session.client()?;
    let org = session.settings.org.clone();
    let receipt = match args.verb {
        Verb::Any(verb) => return kinds::run_verb(session, Kind::Member, verb).await,
        Verb::Set(SetArgs { user, role }) => {
            client.set_member(&MemberRequest { org: org.clone(), user, role }).await?
        }
        Verb::Remove(args) => {
            client.remove_member(&args.user, &session.settings.org_scope()).await?
        }
    };
    session.ui.result(&receipt, |style| render::receipt::receipt(&receipt, org.as_str(), style))?;
    Ok(0)
}
