//! `helix nodes`: the machines that run instances; emptying one, giving one up.

use clap::{Args, Subcommand};
use helix_model::api::{AvailabilityRequest, DestroyQuery, WaitOutcome};
use helix_model::node::Availability;
use helix_model::reference::Scope;
use helix_model::{Code, Kind, Receipt};
use serde_json::json;

use super::deploy::{Precondition, WaitFlags};
use super::destroy;
use super::kinds::{self, Verb};
use crate::failure::{Failure, Result};
use crate::session::Session;

/// What can be done with nodes.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix nodes list\n  helix nodes drain rack-3\n  helix nodes destroy rack-3"
)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    verb: NodesVerb,
}

#[derive(Debug, Subcommand)]
enum NodesVerb {
    #[command(flatten)]
    Any(Verb),
    /// Place nothing more on a node; what it has stays
    #[command(
        after_help = "Examples:\n  helix nodes cordon rack-3\n  helix nodes cordon rack-3 --json"
    )]
    Cordon(UseArgs),
    /// Use a node again that was cordoned or drained
    #[command(
        after_help = "Examples:\n  helix nodes uncordon rack-3\n  helix nodes uncordon rack-3 --json"
    )]
    Uncordon(UseArgs),
    Drain(DrainArgs),
    /// Give up a machine that never comes back
    ///
    /// Only a node that does not answer can go. Its instances are forgotten and begin
    /// elsewhere. Should the machine come back all the same, it is a new node and
    /// stops what it still runs.
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  helix nodes destroy rack-3\n  helix nodes destroy rack-3 --yes --json"
    )]
    Destroy(GiveUp),
}

#[derive(Debug, Args)]
struct UseArgs {
    /// Id or name
    #[arg(value_name = "NAME")]
    reference: String,
    #[command(flatten)]
    precondition: Precondition,
}

/// Move everything off a node
///
/// Each instance goes once another took its place elsewhere and its open work is
/// done. Nothing is placed on the node until `helix nodes uncordon`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix nodes drain rack-3\n  helix nodes drain rack-3 --wait-timeout 1h\n  helix nodes drain rack-3 --no-wait"
)]
struct DrainArgs {
    #[command(flatten)]
    node: UseArgs,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Which machine is given up.
#[derive(Debug, Args)]
pub(crate) struct GiveUp {
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
        NodesVerb::Cordon(args) => {
            set(session, &args, Availability::Cordoned).await?.tell(session, "is cordoned")
        }
        NodesVerb::Uncordon(args) => {
            set(session, &args, Availability::Active).await?.tell(session, "is in use")
        }
        NodesVerb::Drain(args) => run_drain(session, args).await,
        NodesVerb::Destroy(args) => {
            let what = "will be given up, and what ran there begins elsewhere";
            give_up(session, Kind::Node, args, what).await
        }
    }
}

/// A node of which was said what it may be used for.
struct Said {
    name: String,
    scope: Scope,
    receipt: Receipt,
}

impl Said {
    fn tell(&self, session: &mut Session<'_>, what: &str) -> Result<u8> {
        let document = json!({ "target": self.name, "receipt": self.receipt });
        session.ui.result(&document, |style| {
            format!("{} node {} {what}", style.tick(), style.bold(&self.name))
        })?;
        Ok(0)
    }
}

async fn set(
    session: &mut Session<'_>,
    args: &UseArgs,
    availability: Availability,
) -> Result<Said> {
    let scope = session.settings.scope_for(Kind::Node, &args.reference)?;
    let expected_version = args.precondition.expected_version;
    let request = AvailabilityRequest { availability, expected_version };
    let receipt = session.client()?.set_availability(&args.reference, &request, &scope).await?;
    let named = receipt.subject.as_ref().map(|subject| subject.path.clone());
    let name = named.unwrap_or_else(|| args.reference.clone());
    Ok(Said { name, scope, receipt })
}

async fn run_drain(session: &mut Session<'_>, args: DrainArgs) -> Result<u8> {
    let said = set(session, &args.node, Availability::Draining).await?;
    let Some(limit) = args.wait.limit() else {
        return said.tell(session, "is being drained");
    };
    session.ui.step(&format!("draining node {}", said.name));
    let client = session.client()?;
    let empty = "reconciling=false";
    let waited = client.wait_for(Kind::Node, &said.name, empty, limit, &said.scope).await?;
    if waited.outcome != WaitOutcome::Satisfied {
        let why = waited.resource.difference.as_deref().unwrap_or("it has not said why");
        let detail = format!("node {} is not empty after {} s: {why}", said.name, limit.as_secs());
        let name = &said.name;
        return Err(Failure::new(Code::TimedOut, detail)
            .hint(format!("it goes on by itself: `helix wait node/{name} --for {empty}`"))
            .with("receipt", &said.receipt)
            .with("resource", &waited.resource));
    }
    said.tell(session, "is drained: nothing runs there any more")
}

/// Destroys a machine that is gone, once the person has agreed to what that means.
pub(super) async fn give_up(
    session: &mut Session<'_>,
    kind: Kind,
    args: GiveUp,
    what: &str,
) -> Result<u8> {
    let scope = session.settings.scope_for(kind, &args.reference)?;
    let client = session.client()?;
    let view = client.get(kind, &args.reference, &scope).await?;
    destroy::confirm(session, &view, what)?;
    let expected_version = args.precondition.expected_version;
    let query = DestroyQuery { cascade: false, expected_version };
    let receipt = client.destroy(kind, &view.id.to_string(), &query, &scope).await?;
    let document = json!({ "target": view.path, "receipt": receipt, "gone": true });
    session.ui.result(&document, |style| {
        format!("{} {kind} {} is gone", style.tick(), style.bold(&view.path))
    })?;
    Ok(0)
}
