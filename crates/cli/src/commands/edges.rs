//! `helix edges`: the machines that take user traffic; giving one up.

use clap::{Args, Subcommand};
use helix_model::Kind;

use super::kinds::{self, Verb};
use super::nodes::{self, GiveUp};
use crate::failure::Result;
use crate::session::Session;

/// What can be done with edges.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix edges list\n  helix edges describe front-2\n  helix edges destroy front-2"
)]
pub(crate) struct EdgesArgs {
    #[command(subcommand)]
    verb: EdgesVerb,
}

#[derive(Debug, Subcommand)]
enum EdgesVerb {
    #[command(flatten)]
    Any(Verb),
    /// Give up an edge that never comes back
    ///
    /// Only an edge that does not answer can go. Nothing waits for it any more. Should
    /// the machine come back all the same, it is a new edge.
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  helix edges destroy front-2\n  helix edges destroy front-2 --yes --json"
    )]
    Destroy(GiveUp),
}

impl EdgesArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, EdgesVerb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: EdgesArgs) -> Result<u8> {
    match args.verb {
        EdgesVerb::Any(verb) => kinds::run_verb(session, Kind::Edge, verb).await,
        EdgesVerb::Destroy(args) => {
            nodes::give_up(session, Kind::Edge, args, "will be given up").await
        }
    }
}
