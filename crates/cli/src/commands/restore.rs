//! `helix volumes restore` and `clone`: new volumes with what is in others.

use std::time::Duration;

use clap::Args;
use helix_model::api::{DestroyQuery, SnapshotRequest, VolumeRequest, WaitOutcome};
use helix_model::view::ResourceView;
use helix_model::{Code, Kind, Name, Receipt};
use serde_json::json;

use super::deploy::WaitFlags;
use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;

/// Make a new volume with what is in a snapshot
///
/// Never into a volume that is there. Every part is held against its hash, and the file
/// system is checked from end to end, before the volume is there.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix volumes restore data-1\n  helix volumes restore data-1 --as data-before-upgrade\n  helix volumes restore data-1 --as larger --size 20Gi --json"
)]
pub(super) struct RestoreArgs {
    /// Id, path or name of the snapshot
    #[arg(value_name = "SNAPSHOT")]
    reference: String,
    /// Name of the new volume; that of the snapshot otherwise
    #[arg(long = "as", value_name = "NAME", value_parser = name)]
    name: Option<Name>,
    /// How much it holds, such as 10Gi; as much as the snapshot's otherwise
    #[arg(long, value_name = "SIZE", value_parser = super::volumes::size)]
    size: Option<u64>,
    /// Node that is to have it, of a backup; one with room for it otherwise
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Make a new volume with what is in another one now
///
/// By a snapshot, which is destroyed again afterwards.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix volumes clone data --as copy\n  helix volumes clone data --as copy --json"
)]
pub(super) struct CloneArgs {
    /// Id, path or name of the volume there is
    #[arg(value_name = "VOLUME")]
    reference: String,
    /// Name of the new one
    #[arg(long = "as", value_name = "NAME", value_parser = name)]
    name: Name,
    /// How long writers may be made to wait, such as 5s
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    max_pause: Option<Duration>,
    /// How long to wait, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::duration::parse)]
    wait_timeout: Duration,
}

pub(super) fn name(text: &str) -> std::result::Result<Name, String> {
    text.parse().map_err(|error: helix_model::name::NameError| error.to_string())
}

pub(super) async fn restore(session: &mut Session<'_>, args: RestoreArgs) -> Result<u8> {
    let scope = session.settings.scope_for(Kind::Snapshot, &args.reference)?;
    let client = session.client()?;
    let name = match args.name {
        Some(name) => name,
        None => client.get(Kind::Snapshot, &args.reference, &scope).await?.name,
    };
    let from = Some(args.reference);
    let request = VolumeRequest { name, size_bytes: args.size, node: args.node, from };
    let receipt = client.create_volume(&request, &scope).await?;
    let limit = args.wait.limit();
    made(session, &receipt, limit, "is restored").await
}

pub(super) async fn clone(session: &mut Session<'_>, args: CloneArgs) -> Result<u8> {
    let limit = args.wait_timeout;
    let scope = session.settings.scope_for(Kind::Volume, &args.reference)?;
    let client = session.client()?;
    let pause_max_ms = args.max_pause.map(milliseconds);
    let request =
        SnapshotRequest { volume: args.reference, name: None, pause_max_ms, backup: false };
    let receipt = client.create_snapshot(&request, &scope).await?;
    let snapshot = target(&receipt);
    session.ui.step(&format!("taking snapshot {snapshot}"));
    ready(session, Kind::Snapshot, &snapshot, limit, &receipt).await?;
    let from = Some(snapshot.clone());
    let request = VolumeRequest { name: args.name, size_bytes: None, node: None, from };
    let cloned = match client.create_volume(&request, &scope).await {
        Ok(receipt) => made(session, &receipt, Some(limit), "is a clone").await,
        Err(error) => Err(error.into()),
    };
    let query = DestroyQuery { cascade: false, expected_version: None };
    client.destroy(Kind::Snapshot, &snapshot, &query, &scope).await?;
    client.wait_for(Kind::Snapshot, &snapshot, "gone", limit, &scope).await?;
    cloned
}

/// Waits for a volume and shows it.
async fn made(
    session: &mut Session<'_>,
    receipt: &Receipt,
    limit: Option<Duration>,
    what: &str,
) -> Result<u8> {
    let target = target(receipt);
    session.ui.warn(&receipt.warnings);
    let Some(limit) = limit else {
        let document = json!({ "target": target, "receipt": receipt });
        session.ui.result(&document, |style| {
            let begun = format!("{} volume {} is being made\n", style.tick(), style.bold(&target));
            format!("{begun}{}", render::next(&receipt.next, style))
        })?;
        return Ok(0);
    };
    session.ui.step(&format!("making volume {target}"));
    let volume = ready(session, Kind::Volume, &target, limit, receipt).await?;
    let document = json!({ "target": target, "receipt": receipt, "volume": volume });
    session.ui.result(&document, |style| {
        let made = format!("{} volume {} {what}\n", style.tick(), style.bold(&target));
        format!("{made}{}", render::next(&receipt.next, style))
    })?;
    Ok(0)
}

/// What a receipt is about, as a path.
pub(super) fn target(receipt: &Receipt) -> String {
    receipt.subject.as_ref().map_or_else(String::new, |it| it.path.clone())
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until something is there; the view of it.
pub(super) async fn ready(
    session: &mut Session<'_>,
    kind: Kind,
    path: &str,
    limit: Duration,
    receipt: &Receipt,
) -> Result<ResourceView> {
    let scope = session.settings.org_scope();
    let waited = session.client()?.wait(kind, path, limit, &scope).await?;
    let why = || waited.resource.difference.as_deref().unwrap_or("it has not said why");
    let failure = match waited.outcome {
        WaitOutcome::Satisfied => return Ok(waited.resource),
        WaitOutcome::Failed => {
            Failure::new(Code::WorkloadFailed, format!("{kind} {path} failed: {}", why()))
        }
        WaitOutcome::TimedOut => {
            let seconds = limit.as_secs();
            let detail = format!("{kind} {path} is not there after {seconds} s: {}", why());
            Failure::new(Code::TimedOut, detail)
        }
    };
    Err(failure
        .hint(format!("`helix describe {kind}/{path}` says more"))
        .with("receipt", receipt)
        .with("resource", &waited.resource))
}
