//! `helix orgs|projects|apps|envs destroy`: asks, asks for it, and stays until
//! it is gone.

use std::time::Duration;

use clap::Args;
use helix_client::{Client, ClientError};
use helix_model::api::{DestroyQuery, WaitOutcome};
use helix_model::reference::Scope;
use helix_model::view::ResourceView;
use helix_model::{Code, Kind};
use serde_json::json;

use super::deploy::{Precondition, WaitFlags};
use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;

/// Destroy one and everything in it
///
/// Its instances finish what is open to them, its endpoints are gone at once.
/// An app goes with its envs and releases; an org or a project has to be empty
/// unless `--cascade` is given. Asks for the name on a terminal, and never
/// elsewhere: there it needs `--yes`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix envs destroy web@staging\n  helix apps destroy web --yes\n  helix projects destroy shop --cascade --yes --no-wait"
)]
pub(crate) struct DestroyArgs {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    /// Also when there are apps in it
    #[arg(long)]
    cascade: bool,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

pub(crate) async fn run(session: &mut Session<'_>, kind: Kind, args: DestroyArgs) -> Result<u8> {
    let scope = session.settings.scope_for(kind, &args.reference)?;
    let client = session.client()?;
    let view = client.get(kind, &args.reference, &scope).await?;
    confirm(session, &view, "and everything in it will be destroyed")?;
    let id = view.id.to_string();
    let expected_version = args.precondition.expected_version;
    let query = DestroyQuery { cascade: args.cascade, expected_version };
    let receipt = client.destroy(kind, &id, &query, &scope).await?;
    let Some(limit) = args.wait.limit() else {
        let document = json!({ "target": view.path, "receipt": receipt });
        session
            .ui
            .result(&document, |style| render::receipt::receipt(&receipt, &view.path, style))?;
        return Ok(0);
    };
    session.ui.step(&format!("destroying {kind} {}", view.path));
    if let Some(left) = gone(&client, kind, &id, limit, &scope).await? {
        return Err(still_there(&left, limit).with("receipt", &receipt));
    }
    let document = json!({ "target": view.path, "receipt": receipt, "gone": true });
    session.ui.result(&document, |style| {
        format!("{} {kind} {} is gone", style.tick(), style.bold(&view.path))
    })?;
    Ok(0)
}

/// Has the name typed by a person; anyone else has to say `--yes`.
pub(super) fn confirm(session: &mut Session<'_>, view: &ResourceView, loss: &str) -> Result<()> {
    if session.confirmation.yes {
        return Ok(());
    }
    let what = format!("{} {}", view.kind, view.path);
    if !session.may_ask() {
        let detail = format!("{what} would be destroyed, and there is nobody to confirm it");
        return Err(Failure::usage(detail, "add `--yes`"));
    }
    let question = format!("{what} {loss}. Type `{}`: ", view.name);
    let typed = session.ask(&question)?;
    if typed.trim() == view.name.as_str() {
        return Ok(());
    }
    let detail = format!("{what} was not destroyed: its name was not typed");
    Err(Failure::usage(detail, format!("type `{}`, or add `--yes`", view.name)))
}

/// Waits until something is gone; as it is when the time is up.
async fn gone(
    client: &Client,
    kind: Kind,
    reference: &str,
    limit: Duration,
    scope: &Scope,
) -> Result<Option<ResourceView>> {
    match client.wait_for(kind, reference, "gone", limit, scope).await {
        Ok(waited) if waited.outcome == WaitOutcome::Satisfied => Ok(None),
        Ok(waited) => Ok(Some(waited.resource)),
        Err(ClientError::Problem(problem)) if problem.code == Code::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The failure of a wait that was too short.
fn still_there(view: &ResourceView, limit: Duration) -> Failure {
    let why = view.difference.as_deref().unwrap_or("it is not being destroyed");
    let seconds = limit.as_secs();
    let detail = format!("{} {} is still there after {seconds} s: {why}", view.kind, view.path);
    Failure::new(Code::TimedOut, detail)
        .hint(format!("it goes on by itself: `helix wait {}/{} --for gone`", view.kind, view.path))
        .with("resource", view)
}
