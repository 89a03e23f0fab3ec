//! `helix endpoints`: how apps are reached, and what of them is exposed.

use clap::{Args, Subcommand};
use helix_client::Seen;
use helix_model::endpoint::Reach;
use helix_model::view::ResourceView;
use helix_model::{Endpoint, Kind};
use serde_json::json;

use super::kinds::{self, DescribeOne, EventsOf, ListArgs, Verb};
use crate::duration::now;
use crate::failure::Result;
use crate::render::list;
use crate::session::Session;

/// What can be done with endpoints.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix endpoints list\n  helix endpoints list --public\n  helix endpoints describe http"
)]
pub(crate) struct EndpointsArgs {
    #[command(subcommand)]
    verb: EndpointsVerb,
}

#[derive(Debug, Subcommand)]
enum EndpointsVerb {
    List(EndpointsListArgs),
    Describe(DescribeOne),
    Events(EventsOf),
}

/// List what there is
///
/// Narrowed to the app and env that flags, variables or the helix.toml here name;
/// with --public over the whole org.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix endpoints list\n  helix endpoints list --public\n  helix endpoints list --public --json"
)]
struct EndpointsListArgs {
    #[command(flatten)]
    list: ListArgs,
    /// All of the org that the internet can reach, as far as addresses tell
    #[arg(long, conflicts_with_all = ["all", "limit", "cursor"])]
    public: bool,
}

impl EndpointsArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, EndpointsVerb::Events(events) if events.follows())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: EndpointsArgs) -> Result<u8> {
    let verb = match args.verb {
        EndpointsVerb::List(args) if args.public => return public(session).await,
        EndpointsVerb::List(args) => Verb::List(args.list),
        EndpointsVerb::Describe(args) => Verb::Describe(args),
        EndpointsVerb::Events(args) => Verb::Events(args),
    };
    kinds::run_verb(session, Kind::Endpoint, verb).await
}

/// What of the org is exposed to the internet.
async fn public(session: &mut Session<'_>) -> Result<u8> {
    let client = session.client()?;
    let scope = session.settings.org_scope();
    let mut exposed: Vec<ResourceView> = Vec::new();
    for view in client.list_all(Kind::Endpoint, &scope).await? {
        let seen = Seen::<Endpoint>::new(view.clone())?;
        if seen.current.seen.reach == Some(Reach::Internet) {
            exposed.push(view);
        }
    }
    let document = json!({ "items": exposed });
    session.ui.result(&document, |style| list::public(&exposed, now(), style))?;
    Ok(0)
}
