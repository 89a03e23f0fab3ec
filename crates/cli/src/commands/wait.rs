//! `helix wait`: until it is as told, has failed, or the time is up.

use std::time::Duration;

use clap::Args;
use helix_model::Code;
use helix_model::api::{WaitOutcome, WaitResult};
use helix_model::condition::ConditionKind;

use super::describe::{Point, Subject};
use crate::failure::{Failure, Result};
use crate::session::Session;

/// Wait until something is ready, settled, gone or as told
///
/// For a resource: until it is ready, or what `--for` says: `gone`, or one of
/// `ready`, `reconciling`, `degraded` and `destroying`, each also with `=false`.
/// For a receipt: until all that the change set off has settled. For a position
/// of the log: until it is reached. Exit code 0 when so, 1 when it failed, 4 when
/// it is not there or goes away instead, 6 when the time is up.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix wait env/production\n  helix wait deploy/d3 --timeout 2m\n  helix wait env/production --for reconciling=false\n  helix wait receipt/rcpt_11\n  helix wait instance web-1 --json"
)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    subject: Subject,
    /// What to wait for
    #[arg(long = "for", value_name = "CONDITION", default_value = READY)]
    until: String,
    /// How long to wait, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::duration::parse)]
    timeout: Duration,
}

/// What is waited for unless told otherwise.
const READY: &str = "ready";

pub(crate) async fn run(session: &mut Session<'_>, args: WaitArgs) -> Result<u8> {
    if let Some(point) = args.subject.point()? {
        return settled(session, &point, args.timeout).await;
    }
    let (kind, reference) = args.subject.parse()?;
    let scope = session.settings.scope_for(kind, &reference)?;
    let client = session.client()?;
    session.ui.step(&format!("waiting for {kind} {reference}"));
    let waited = client.wait_for(kind, &reference, &args.until, args.timeout, &scope).await?;
    if waited.outcome != WaitOutcome::Satisfied {
        return Err(unsatisfied(&waited, &args.until, args.timeout));
    }
    let view = &waited.resource;
    let message = match args.until.as_str() {
        READY => view.condition(ConditionKind::Ready).map_or("ready", |it| it.message.as_str()),
        other => other,
    };
    session.ui.result(&waited, |style| {
        format!("{} {} {}: {message}", style.tick(), view.kind, style.bold(&view.path))
    })?;
    Ok(0)
}

/// Waits for what a change set off, or for a position of the log.
async fn settled(session: &mut Session<'_>, point: &Point, limit: Duration) -> Result<u8> {
    let client = session.client()?;
    session.ui.step(&format!("waiting for {point}"));
    let now = match point {
        Point::Receipt(id) => client.wait_receipt(id, limit).await?,
        Point::Position(position) => client.wait_position(*position, limit).await?,
    };
    let failed = now.resources.iter().find(|view| view.difference.is_some());
    let why = failed.and_then(|view| view.difference.as_deref()).unwrap_or("it is on its way");
    let failure = match now.outcome {
        WaitOutcome::Satisfied => None,
        WaitOutcome::Failed => {
            let ready = failed.and_then(|view| view.condition(ConditionKind::Ready));
            let reason = ready.map_or("workload_failed", |ready| ready.reason.as_str());
            Some(Failure::workload(reason, format!("what {point} set off failed: {why}")))
        }
        WaitOutcome::TimedOut => {
            let seconds = limit.as_secs();
            let detail = format!("{point} has not settled after {seconds} s: {why}");
            Some(Failure::new(Code::TimedOut, detail))
        }
    };
    if let Some(failure) = failure {
        return Err(failure.with("resources", &now.resources));
    }
    session.ui.result(&now, |style| format!("{} {point} has settled", style.tick()))?;
    Ok(0)
}

fn unsatisfied(waited: &WaitResult, until: &str, limit: Duration) -> Failure {
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
        let detail = format!("{subject} is not {until} after {seconds} s: {message}");
        Failure::new(Code::TimedOut, detail)
    };
    failure.with("resource", view)
}
