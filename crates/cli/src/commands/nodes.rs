//! `helix nodes`: the machines that run instances, and giving one up.

use clap::{Args, Subcommand};
use helix_model::Kind;
use helix_model::api::DestroyQuery;
use serde_json::json;

use super::deploy::Precondition;
use super::destroy;
use super::kinds::{self, Verb};
use crate::failure::Result;
use crate::session::Session;

/// What can be done with nodes.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix nodes list\n  helix nodes describe rack-3\n  helix nodes destroy rack-3"
)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    verb: NodesVerb,
}

#[derive(Debug, Subcommand)]
enum NodesVerb {
    #[command(flatten)]
    Any(Verb),
    #[command(visible_alias = "rm")]
    Destroy(DestroyNodeArgs),
}

/// Give up a machine that never comes back
///
/// Only a node that does not answer can go. Its instances are forgotten and begin
/// elsewhere. Should the machine come back all the same, it is a new node and
/// stops what it still runs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix nodes destroy rack-3\n  helix nodes destroy rack-3 --yes --json"
)]
struct DestroyNodeArgs {
    /// Id or name
    #[arg(value_name = "NAME")]
    reference: String,
    #[command(flatten)]
    precondition: Precondition,
}

impl NodesArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, NodesVerb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: NodesArgs) -> Result<u8> {
    match args.verb {
        NodesVerb::Any(verb) => kinds::run_verb(session, Kind::Node, verb).await,
        NodesVerb::Destroy(args) => run_destroy(session, args).await,
    }
}

async fn run_destroy(session: &mut Session<'_>, args: DestroyNodeArgs) -> Result<u8> {
    let scope = session.settings.scope_for(Kind::Node, &args.reference)?;
    let client = session.client()?;
    let view = client.get(Kind::Node, &args.reference, &scope).await?;
    destroy::confirm(session, &view, "will be given up, and what ran there begins elsewhere")?;
    let expected_version = args.precondition.expected_version;
    let query = DestroyQuery { cascade: false, expected_version };
    let receipt = client.destroy(Kind::Node, &view.id.to_string(), &query, &scope).await?;
    let document = json!({ "target": view.path, "receipt": receipt, "gone": true });
    session.ui.result(&document, |style| {
        format!("{} node {} is gone", style.tick(), style.bold(&view.path))
    })?;
    Ok(0)
}
