//! `helix scale`: how many instances each process should have.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use helix_client::Client;
use helix_model::api::{ScaleRequest, WaitOutcome};
use helix_model::condition::ConditionKind;
use helix_model::view::ResourceView;
use helix_model::{Code, Kind, Name, Receipt};
use serde_json::json;

use super::deploy::{self, Precondition, WaitFlags};
use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;
use crate::settings::Target;

/// How soon to look again at an env that the server has given up on.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Set how many instances processes should have
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix scale web=3\n  helix scale web=2 worker=1 --no-wait\n  helix scale web=0"
)]
pub(crate) struct ScaleArgs {
    /// Counts per process
    #[arg(value_name = "PROCESS=COUNT", required = true, value_parser = count)]
    processes: Vec<(Name, u32)>,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

fn count(text: &str) -> Result<(Name, u32), String> {
    let (name, count) = text.split_once('=').ok_or("write it as `web=3`")?;
    let name = name.parse().map_err(|error: helix_model::name::NameError| error.to_string())?;
    let count = count.parse().map_err(|_| format!("`{count}` is not a count"))?;
    Ok((name, count))
}

pub(crate) async fn run(session: &mut Session<'_>, args: ScaleArgs) -> Result<u8> {
    let target = session.settings.target()?;
    let client = session.client()?;
    let processes: BTreeMap<Name, u32> = args.processes.iter().cloned().collect();
    if processes.len() != args.processes.len() {
        return Err(Failure::usage("a process is named twice", "name each process once"));
    }
    let request = ScaleRequest { processes, expected_version: args.precondition.expected_version };
    let env = target.env.as_str();
    let receipt = client.scale(env, &request, &target.scope()).await?;
    session.ui.warn(&receipt.warnings);
    let Some(limit) = args.wait.limit() else {
        return deploy::accepted(session, &target, &receipt);
    };
    session.ui.step(&format!("waiting for the instances of {target}"));
    let waited = settled(&client, &target, limit).await?;
    if is_ready(&waited) {
        return scaled(session, &target, &receipt, &waited);
    }
    Err(not_scaled(&target, &waited).with("receipt", &receipt))
}

/// The env once its instances are ready, or as it is when the time is up.
///
/// A wait ends at once for an env whose last deploy failed, because that release
/// will not come by waiting. The one that serves can still be scaled, so it is
/// looked at again.
async fn settled(client: &Client, target: &Target, limit: Duration) -> Result<ResourceView> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = client.wait(Kind::Env, target.env.as_str(), left, &target.scope()).await?;
        let over = waited.outcome == WaitOutcome::TimedOut || left.is_zero();
        if is_ready(&waited.resource) || over {
            return Ok(waited.resource);
        }
        tokio::time::sleep(LOOK_AGAIN.min(left)).await;
    }
}

fn is_ready(env: &ResourceView) -> bool {
    env.condition(ConditionKind::Ready).is_some_and(|ready| ready.status)
}

fn scaled(
    session: &mut Session<'_>,
    target: &Target,
    receipt: &Receipt,
    env: &ResourceView,
) -> Result<u8> {
    let document = json!({ "target": target.to_string(), "receipt": receipt, "env": env });
    session.ui.result(&document, |style| {
        let message = env.condition(ConditionKind::Ready).map_or("", |ready| &ready.message);
        let accepted = render::receipt::receipt(receipt, &target.to_string(), style);
        format!("{} {}: {message}\n\n{accepted}", style.tick(), style.bold(&target.to_string()))
    })?;
    Ok(0)
}

fn not_scaled(target: &Target, env: &ResourceView) -> Failure {
    let ready = env.condition(ConditionKind::Ready);
    let message = ready.map_or("it is not ready", |ready| ready.message.trim_end_matches('.'));
    let detail = format!("{target} is not scaled yet: {message}");
    Failure::new(Code::TimedOut, detail)
        .hint("`helix status` shows which instances are missing and why")
        .with("env", env)
}
