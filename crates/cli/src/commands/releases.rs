//! `helix releases`: what was deployed, or could be.

use clap::{Args, Subcommand};
use helix_client::Seen;
use helix_model::{Kind, Release, diff};
use serde_json::json;

use super::deploy::{Precondition, WaitFlags};
use super::kinds::{self, Verb};
use super::plan;
use crate::failure::Result;
use crate::render;
use crate::session::Session;

/// What can be done with releases.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix releases list\n  helix releases diff v3 v4\n  helix releases promote v4 --env production"
)]
pub(crate) struct ReleasesArgs {
    #[command(subcommand)]
    verb: ReleasesVerb,
}

#[derive(Debug, Subcommand)]
enum ReleasesVerb {
    #[command(flatten)]
    Any(Verb),
    Diff(DiffReleasesArgs),
    Promote(PromoteArgs),
}

/// Show in what two releases differ
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix releases diff v3 v4\n  helix releases diff v3 v4 --json"
)]
struct DiffReleasesArgs {
    /// The one before
    #[arg(value_name = "BEFORE")]
    before: String,
    /// The one after
    #[arg(value_name = "AFTER")]
    after: String,
}

/// Deploy a release that is there
///
/// Nothing is built: an env gets the very image and manifest that another has had.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix releases promote v4 --env production\n  helix releases promote v4 --no-wait --json"
)]
struct PromoteArgs {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

impl ReleasesArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, ReleasesVerb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: ReleasesArgs) -> Result<u8> {
    match args.verb {
        ReleasesVerb::Any(verb) => kinds::run_verb(session, Kind::Release, verb).await,
        ReleasesVerb::Diff(args) => differ(session, args).await,
        ReleasesVerb::Promote(args) => {
            let target = session.settings.target()?;
            let expected = args.precondition.expected_version;
            plan::promote(session, target, args.reference, expected, &args.wait).await
        }
    }
}

async fn differ(session: &mut Session<'_>, args: DiffReleasesArgs) -> Result<u8> {
    let client = session.client()?;
    let scope = session.settings.scope_for(Kind::Release, &args.before)?;
    let before: Seen<Release> = client.one(&args.before, &scope).await?;
    let after: Seen<Release> = client.one(&args.after, &scope).await?;
    let differences = diff::releases(Some(&before.desired), &after.desired);
    let (from, to) = (before.view.name.to_string(), after.view.name.to_string());
    let document = json!({ "before": before.view, "after": after.view, "changes": differences });
    session.ui.result(&document, |style| render::diff::between(&from, &to, &differences, style))?;
    Ok(0)
}
