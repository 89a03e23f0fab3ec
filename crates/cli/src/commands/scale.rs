//! `helix scale`: how many instances each process should have.

use std::collections::BTreeMap;

use clap::Args;
use helix_model::api::{ScaleRequest, WaitOutcome};
use helix_model::condition::ConditionKind;
use helix_model::view::ResourceView;
use helix_model::{Code, Kind, Name, Receipt};
use serde_json::json;

use super::deploy::{self, WaitFlags};
use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;
use crate::settings::Target;

/// Set how many instances processes should have
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix scale web=3\n  helix scale web=2 worker=1 --no-wait\n  helix scale web=0")]
pub(crate) struct ScaleArgs {
    /// Counts per process
    #[arg(value_name = "PROCESS=COUNT", required = true, value_parser = count)]
    processes: Vec<(Name, u32)>,
    #[command(flatten)]
    wait: WaitFlags,
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
    let request = ScaleRequest { processes };
    let env = target.env.as_str();
    let receipt = client.scale(env, &request, &target.scope()).await?;
    let Some(limit) = args.wait.limit() else {
        return deploy::accepted(session, &target, &receipt);
    };
    session.ui.step(&format!("waiting for the instances of {target}"));
    let waited = client.wait(Kind::Env, env, limit, &target.scope()).await?;
    match waited.outcome {
        WaitOutcome::Satisfied => scaled(session, &target, &receipt, &waited.resource),
        outcome => Err(not_scaled(&target, outcome, &waited.resource).with("receipt", &receipt)),
    }
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

fn not_scaled(target: &Target, outcome: WaitOutcome, env: &ResourceView) -> Failure {
    let ready = env.condition(ConditionKind::Ready);
    let message = ready.map_or("it is not ready", |ready| ready.message.trim_end_matches('.'));
    let detail = format!("{target} is not scaled yet: {message}");
    let failure = match outcome {
        WaitOutcome::Failed => Failure::workload("not_all_ready", detail),
        _ => Failure::new(Code::TimedOut, detail),
    };
    failure.hint("`helix status` shows which instances are missing and why").with("env", env)
}
