//! `helix apps|envs|…`: list, describe and events, the same for every kind.

use clap::{Args, Subcommand};
use helix_client::ListQuery;
use helix_model::view::ResourceView;
use helix_model::{AnyId, Kind};

use super::{create, describe, destroy, events};
use crate::duration::now;
use crate::failure::Result;
use crate::render::{Names, list};
use crate::session::Session;

/// What can be done with any kind.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix apps list\n  helix instances describe web-1\n  helix releases list --all --json"
)]
pub(crate) struct KindArgs {
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done with a kind that people make and destroy by name.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix apps list\n  helix envs create web@staging\n  helix envs destroy web@staging"
)]
pub(crate) struct OwnedArgs {
    #[command(subcommand)]
    verb: OwnedVerb,
}

#[derive(Debug, Subcommand)]
enum OwnedVerb {
    #[command(flatten)]
    Any(Verb),
    Create(create::CreateArgs),
    #[command(visible_alias = "rm")]
    Destroy(destroy::DestroyArgs),
}

/// What can be done with every kind.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    List(ListArgs),
    Describe(DescribeOne),
    Events(EventsOf),
}

/// List what there is
///
/// Narrowed to the app and env that flags, variables or the helix.toml here
/// name.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix instances list\n  helix deploys list --all\n  helix apps list --limit 200 --json"
)]
pub(crate) struct ListArgs {
    /// Everything in the project, not only what belongs to this app
    #[arg(short, long)]
    all: bool,
    /// How many at once
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=200), default_value_t = 50)]
    limit: u16,
    /// Go on where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

/// Show everything about one
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix apps describe hello\n  helix instances describe web-1\n  helix releases describe hello:v3 --json"
)]
pub(crate) struct DescribeOne {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
}

/// Show what happened to one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix apps events hello\n  helix instances events web-1 -f")]
pub(crate) struct EventsOf {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    #[command(flatten)]
    flow: events::Flow,
}

impl EventsOf {
    /// Whether the result is a stream.
    pub(crate) fn follows(&self) -> bool {
        self.flow.follow
    }
}

impl KindArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        self.verb.streams()
    }
}

impl Verb {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(self, Verb::Events(events) if events.follows())
    }
}

impl OwnedArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, OwnedVerb::Any(Verb::Events(events)) if events.follows())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, kind: Kind, args: KindArgs) -> Result<u8> {
    run_verb(session, kind, args.verb).await
}

/// The same for kinds that people make and destroy.
pub(crate) async fn run_owned(
    session: &mut Session<'_>,
    kind: Kind,
    args: OwnedArgs,
) -> Result<u8> {
    match args.verb {
        OwnedVerb::Any(verb) => run_verb(session, kind, verb).await,
        OwnedVerb::Create(args) => create::run(session, kind, args).await,
        OwnedVerb::Destroy(args) => destroy::run(session, kind, args).await,
    }
}

/// The same for kinds that have verbs of their own beside these.
pub(crate) async fn run_verb(session: &mut Session<'_>, kind: Kind, verb: Verb) -> Result<u8> {
    match verb {
        Verb::List(args) => run_list(session, kind, args).await,
        Verb::Describe(args) => describe::show(session, kind, &args.reference).await,
        Verb::Events(args) => {
            let scope = session.settings.scope_for(kind, &args.reference)?;
            let subject = format!("{kind}/{}", args.reference);
            events::show(session, Some(subject), scope, &args.flow).await
        }
    }
}

async fn run_list(session: &mut Session<'_>, kind: Kind, args: ListArgs) -> Result<u8> {
    let client = session.client()?;
    let scope = session.settings.list_scope(kind, args.all)?;
    let query = ListQuery { limit: Some(usize::from(args.limit)), cursor: args.cursor };
    let page = client.list(kind, &query, &scope).await?;
    let mut names = Names::default();
    if !session.ui.json() {
        for id in mentioned(&page.items) {
            // A name is a courtesy; the id stands in where it cannot be had.
            if let Ok(view) = client.get(id.kind(), &id.to_string(), &scope).await {
                let is_env = id.kind() == Kind::Env;
                names.learn(id, if is_env { view.path } else { view.name.to_string() });
            }
        }
    }
    session.ui.result(&page, |style| list::list(kind, &page.items, &names, now(), style))?;
    if let Some(cursor) = &page.next_cursor {
        session.ui.note(&format!("there are more: add `--cursor {cursor}`"));
    }
    Ok(0)
}

/// Releases, nodes and envs that the columns of a list name.
fn mentioned(views: &[ResourceView]) -> Vec<AnyId> {
    let fields = views.iter().flat_map(|view| {
        let desired = ["release", "node"].map(|field| view.desired.get(field));
        let env = view.desired.get("attachment").and_then(|attachment| attachment.get("env"));
        desired.into_iter().chain([view.current.get("release"), env])
    });
    let mut ids: Vec<AnyId> = fields.filter_map(|field| field?.as_str()?.parse().ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
