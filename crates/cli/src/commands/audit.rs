//! `helix audit`: proof that history is as it was written.

use clap::{Args, Subcommand};
use helix_model::admin::LogVerdict;

use crate::failure::Result;
use crate::output::Style;
use crate::session::Session;

/// What can be done with the record of what happened.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix audit verify\n  helix audit verify --json"
)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Verify(VerifyArgs),
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
    let Verb::Verify(VerifyArgs {}) = args.verb;
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
