//! `helix wait`: until it is ready, has failed, or the time is up.

use std::time::Duration;

use clap::Args;
use helix_model::Code;
use helix_model::api::{WaitOutcome, WaitResult};
use helix_model::condition::ConditionKind;

use super::describe::Subject;
use crate::failure::{Failure, Result};
use crate::session::Session;

/// Wait until a resource is ready or has failed
///
/// Exit code 0 when it is ready, 1 when it failed, 6 when the time is up.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix wait env/production\n  helix wait deploy/d3 --timeout 2m\n  helix wait instance web-1 --json"
)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    subject: Subject,
    /// How long to wait, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::duration::parse)]
    timeout: Duration,
}

pub(crate) async fn run(session: &mut Session<'_>, args: WaitArgs) -> Result<u8> {
    let (kind, reference) = args.subject.parse()?;
    let scope = session.settings.scope_for(kind, &reference)?;
    let client = session.client()?;
    session.ui.step(&format!("waiting for {kind} {reference}"));
    let waited = client.wait(kind, &reference, args.timeout, &scope).await?;
    if waited.outcome != WaitOutcome::Satisfied {
        return Err(unsatisfied(&waited, args.timeout));
    }
    let view = &waited.resource;
    session.ui.result(&waited, |style| {
        let ready = view.condition(ConditionKind::Ready);
        let message = ready.map_or("It is ready.", |ready| ready.message.as_str());
        format!("{} {} {}: {message}", style.tick(), view.kind, style.bold(&view.path))
    })?;
    Ok(0)
}

fn unsatisfied(waited: &WaitResult, limit: Duration) -> Failure {
    let view = &waited.resource;
    let ready = view.condition(ConditionKind::Ready);
    let message = view
        .difference
        .as_deref()
        .or(ready.map(|ready| ready.message.as_str()))
        .unwrap_or_default()
        .trim_end_matches('.');
    let subject = format!("{} {}", view.kind, view.path);
    let failure = if waited.outcome == WaitOutcome::Failed {
        let reason = ready.map_or("workload_failed", |ready| ready.reason.as_str());
        Failure::workload(reason, format!("{subject} failed: {message}"))
    } else {
        let seconds = limit.as_secs();
        let detail = format!("{subject} is not ready after {seconds} s: {message}");
        Failure::new(Code::TimedOut, detail)
    };
    failure.with("resource", view)
}
