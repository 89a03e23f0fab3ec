//! `helix replicas`: the servers of one installation.

use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::output::{Emphasis, Table};
use crate::session::Session;

/// Replicas of the server: list
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix replicas list\n  helix replicas list --json")]
pub(crate) struct ReplicasArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Which are there, which of them reconciles, and which nodes each has
    #[command(after_help = "Examples:\n  helix replicas list\n  helix replicas list --json")]
    List,
}

pub(crate) async fn run(session: &mut Session<'_>, args: &ReplicasArgs) -> Result<u8> {
    let Verb::List = args.verb;
    let replicas = session.client()?.replicas().await?;
    session.ui.result(&replicas, |style| {
        if replicas.items.is_empty() {
            return "the server has its storage for itself: there are no replicas\n".to_owned();
        }
        let mut table = Table::new(["URL", "RECONCILES", "ANSWERED", "NODES"]);
        let mark = |is: bool| if is { "yes" } else { "" }.to_owned();
        for it in &replicas.items {
            let nodes: Vec<&str> = it.nodes.iter().map(helix_model::Name::as_str).collect();
            let cells = [it.url.clone(), mark(it.reconciles), mark(it.answered), nodes.join(" ")];
            table.row(Emphasis::Normal, cells);
        }
        table.render(style)
    })?;
    Ok(0)
}
