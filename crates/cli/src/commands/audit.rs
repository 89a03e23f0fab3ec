//! `helix audit`: who did, tried and was refused what, and proof that it is as it
//! was written.

use clap::{Args, Subcommand};
use helix_client::AuditQuery;
use helix_model::admin::LogVerdict;
use helix_model::audit::{AuditLine, Decision};

use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{Emphasis, Style, Table, plain};
use crate::session::Session;

/// What can be done with the record of what happened.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix audit list --since 1d --decision deny\n  helix audit export > trail.ndjson\n  helix audit verify"
)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(ListArgs),
    Export(ExportArgs),
    Verify(VerifyArgs),
}

/// Show the trail, the newest first
///
/// Changes, refusals, logins and reads of what is sensitive: of the org that
/// --org names, or of all orgs one may read the trail of.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix audit list\n  helix audit list --since 1d --decision deny\n  helix audit list --actor alice --json"
)]
struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// How many at once
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=200), default_value_t = 50)]
    limit: u16,
    /// Go on where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

/// Print the whole trail, the oldest first, one JSON document per line
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix audit export > trail.ndjson\n  helix audit export --since 30d --json"
)]
struct ExportArgs {
    #[command(flatten)]
    which: Which,
}

/// Which lines.
#[derive(Debug, Args)]
struct Which {
    /// Only from then on: a time, or `1d` for a day ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only of this user or token
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only what was allowed, or only what was denied
    #[arg(long, value_parser = ["allow", "deny"])]
    decision: Option<String>,
    /// Only this operation or event
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Also what the platform did by itself
    #[arg(short, long)]
    all: bool,
}

/// Prove that no event was changed, removed or slipped in
///
/// Walks the hash chains of the event log and of the audit log from their first
/// entries, the archive included. Exit code 0 when both hold, 1 when one does
/// not: the first broken event is named. Keep the hashes it prints elsewhere;
/// the same hash at the same position later proves that nothing was cut off.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix audit verify\n  helix audit verify --json")]
struct VerifyArgs {}

pub(crate) async fn run(session: &mut Session<'_>, args: AuditArgs) -> Result<u8> {
    match args.verb {
        Verb::List(args) => list(session, args).await,
        Verb::Export(args) => export(session, args).await,
        Verb::Verify(VerifyArgs {}) => verify(session).await,
    }
}

impl AuditArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(self.verb, Verb::Export(_))
    }
}

fn query(session: &Session<'_>, which: Which) -> Result<AuditQuery> {
    let since = which.since.map(|text| duration::since(&text, duration::now())).transpose();
    let since = since.map_err(|why| Failure::usage(format!("--since: {why}"), "such as `1d`"))?;
    Ok(AuditQuery {
        since_ms: since.map(|since| since.0),
        actor: which.actor,
        decision: which.decision.map(|word| match word.as_str() {
            "allow" => Decision::Allow,
            _ => Decision::Deny,
        }),
        operation: which.operation,
        org: session.settings.org_given.then(|| session.settings.org.to_string()),
        all: which.all,
        ..AuditQuery::default()
    })
}

async fn list(session: &mut Session<'_>, args: ListArgs) -> Result<u8> {
    let client = session.client()?;
    let query = query(session, args.which)?;
    let query = AuditQuery { limit: Some(usize::from(args.limit)), cursor: args.cursor, ..query };
    let page = client.audit(&query).await?;
    session.ui.result(&page, |style| {
        if page.items.is_empty() {
            return "nothing of that kind is in the trail".to_owned();
        }
        let mut table = Table::new(["TIME", "ACTOR", "FROM", "OPERATION", "TARGET", "DECISION"]);
        for line in &page.items {
            row(&mut table, line);
        }
        table.render(style)
    })?;
    if let Some(cursor) = &page.next_cursor {
        session.ui.note(&format!("there are more: add `--cursor {cursor}`"));
    }
    Ok(0)
}

fn row(table: &mut Table, line: &AuditLine) {
    let denied = line.decision == Decision::Deny;
    let times = if line.count > 1 { format!(", {} times", line.count) } else { String::new() };
    let decision =
        if denied { format!("deny ({}{times})", line.reason) } else { "allow".to_owned() };
    // What was done in particular belongs to what it was done to.
    let target = match line.detail.as_str() {
        "" => line.target.clone(),
        detail => format!("{} {detail}", line.target),
    };
    let source = line.source.map_or_else(|| "-".to_owned(), |source| source.to_string());
    table.row(
        if denied { Emphasis::Bad } else { Emphasis::Normal },
        [
            line.ts.to_string(),
            line.actor.as_ref().map_or("-", |actor| actor.name()).to_owned(),
            source,
            line.operation.clone(),
            plain(&target),
            decision,
        ],
    );
}

async fn export(session: &mut Session<'_>, args: ExportArgs) -> Result<u8> {
    let client = session.client()?;
    let mut stream = client.export_audit(&query(session, args.which)?).await?;
    while let Some(line) = stream.next().await? {
        // For programs in either form: that is what an export is for.
        session.ui.item(&line, |_| serde_json::to_string(&line).unwrap_or_default())?;
    }
    Ok(0)
}

async fn verify(session: &mut Session<'_>) -> Result<u8> {
    let client = session.client()?;
    session.ui.step("walking the hash chains");
    let verdict = client.verify_audit().await?;
    session.ui.result(&verdict, |style| {
        let events = line(style, "event log", &verdict.events);
        format!("{events}\n{}", line(style, "audit log", &verdict.audit))
    })?;
    Ok(u8::from(!verdict.intact))
}

fn line(style: &Style, which: &str, verdict: &LogVerdict) -> String {
    if !verdict.intact {
        return style.red(&format!("{which}  BROKEN: {}", verdict.message));
    }
    let hash = verdict.hash.as_deref().unwrap_or_default();
    format!("{} {which}  intact: {}; hash {hash}", style.tick(), verdict.message)
}
