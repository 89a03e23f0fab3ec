//! `helix events`: what has happened, and what happens.

use clap::Args;
use helix_client::EventQuery;
use helix_model::Kind;
use helix_model::reference::Scope;

use crate::failure::Result;
use crate::render::event;
use crate::session::Session;

/// Show what has happened
///
/// With -f it goes on with what happens, and resumes by itself when the
/// connection breaks. With --json: one page as a document, or with -f one event
/// per line.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix events\n  helix events -f\n  helix events --subject deploy/d3 --json\n  helix events --all --tail 200"
)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    flow: Flow,
    /// Only about this resource
    #[arg(long, value_name = "KIND/NAME")]
    subject: Option<String>,
    /// Everything in the installation, not only what belongs to this app
    #[arg(short, long)]
    all: bool,
}

/// Which part of the stream.
#[derive(Clone, Debug, Args)]
pub(crate) struct Flow {
    /// Go on with what happens
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The last so many
    #[arg(long, value_name = "COUNT", conflicts_with = "after")]
    tail: Option<u64>,
    /// Only after this position of the log
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
}

impl std::ops::Deref for EventsArgs {
    type Target = Flow;

    fn deref(&self) -> &Flow {
        &self.flow
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: EventsArgs) -> Result<u8> {
    let scope = match &args.subject {
        _ if args.all => Scope::default(),
        Some(subject) => subject_scope(session, subject)?,
        None => session.settings.list_scope(Kind::Instance, false)?,
    };
    show(session, args.subject, scope, &args.flow).await
}

fn subject_scope(session: &Session<'_>, subject: &str) -> Result<Scope> {
    match subject.split_once('/').map(|(kind, reference)| (kind.parse::<Kind>(), reference)) {
        Some((Ok(kind), reference)) => session.settings.scope_for(kind, reference),
        // The server has the last word on what a subject is.
        _ => Ok(Scope::default()),
    }
}

/// How many of the past are shown when nothing was said.
const PAST_DEFAULT: u64 = 50;

/// Shows events of the scope or of one subject.
pub(crate) async fn show(
    session: &mut Session<'_>,
    subject: Option<String>,
    scope: Scope,
    flow: &Flow,
) -> Result<u8> {
    let client = session.client()?;
    let past = flow.tail.or((flow.after.is_none() && !flow.follow).then_some(PAST_DEFAULT));
    let query = EventQuery { subject, after: flow.after, tail: past, limit: None };
    if !flow.follow {
        let page = client.events(&query, &scope).await?;
        session.ui.result(&page, |style| {
            let lines: Vec<String> =
                page.items.iter().map(|item| event::event(item, style)).collect();
            if lines.is_empty() {
                "nothing has happened here yet".to_owned()
            } else {
                lines.join("\n")
            }
        })?;
        return Ok(0);
    }
    let mut stream = client.follow_events(query, scope).await?;
    loop {
        let item = stream.next().await?;
        session.ui.item(&item, |style| event::event(&item, style))?;
    }
}
