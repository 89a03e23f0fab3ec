//! `helix snapshots`: volumes as they were at one moment.

use std::time::Duration;

use clap::{Args, Subcommand};
use helix_model::api::SnapshotRequest;
use helix_model::{Kind, Name};
use serde_json::json;

use super::deploy::WaitFlags;
use super::destroy;
use super::kinds::{self, Verb};
use super::restore;
use crate::failure::Result;
use crate::render;
use crate::session::Session;

/// What can be done with snapshots.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix snapshots list\n  helix snapshots create data\n  helix volumes restore data-1 --as restored\n  helix snapshots destroy data-1"
)]
pub(crate) struct SnapshotsArgs {
    #[command(subcommand)]
    verb: SnapshotsVerb,
}

#[derive(Debug, Subcommand)]
enum SnapshotsVerb {
    #[command(flatten)]
    Any(Verb),
    Create(CreateSnapshotArgs),
    #[command(visible_alias = "rm")]
    Destroy(destroy::DestroyArgs),
}

/// Take a snapshot of a volume
///
/// What is in it is what a power cut at that moment would have left. Programs that
/// write wait meanwhile, for as long as the snapshot says afterwards.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix snapshots create data\n  helix snapshots create data --name before-upgrade\n  helix snapshots create data --backup\n  helix snapshots create data --no-wait --json"
)]
struct CreateSnapshotArgs {
    /// Id, path or name of the volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// Name, unique in the org; VOLUME-NUMBER otherwise
    #[arg(long, value_name = "NAME", value_parser = restore::name)]
    name: Option<Name>,
    /// Keep it in the installation's store of backups, encrypted, and not on the node
    #[arg(long)]
    backup: bool,
    /// How long writers may be made to wait, such as 5s; 2s otherwise
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    max_pause: Option<Duration>,
    #[command(flatten)]
    wait: WaitFlags,
}

impl SnapshotsArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, SnapshotsVerb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: SnapshotsArgs) -> Result<u8> {
    match args.verb {
        SnapshotsVerb::Any(verb) => kinds::run_verb(session, Kind::Snapshot, verb).await,
        SnapshotsVerb::Create(args) => create(session, args).await,
        SnapshotsVerb::Destroy(args) => destroy::run(session, Kind::Snapshot, args).await,
    }
}

async fn create(session: &mut Session<'_>, args: CreateSnapshotArgs) -> Result<u8> {
    let scope = session.settings.scope_for(Kind::Volume, &args.volume)?;
    let backup = args.backup;
    let pause_max_ms = args.max_pause.map(restore::milliseconds);
    let request = SnapshotRequest { volume: args.volume, name: args.name, pause_max_ms, backup };
    let receipt = session.client()?.create_snapshot(&request, &scope).await?;
    let target = restore::target(&receipt);
    let Some(limit) = args.wait.limit() else {
        let document = json!({ "target": target, "receipt": receipt });
        session.ui.result(&document, |style| {
            let begun =
                format!("{} snapshot {} is being taken\n", style.tick(), style.bold(&target));
            format!("{begun}{}", render::next(&receipt.next, style))
        })?;
        return Ok(0);
    };
    session.ui.step(&format!("taking snapshot {target}"));
    let view = restore::ready(session, Kind::Snapshot, &target, limit, &receipt).await?;
    let document = json!({ "target": target, "receipt": receipt, "snapshot": view });
    session.ui.result(&document, |style| {
        let paused = view.current.get("paused_ms").and_then(serde_json::Value::as_u64);
        let name = style.bold(&target);
        let paused = paused.unwrap_or(0);
        format!("{} snapshot {name} is there; writers waited for {paused} ms", style.tick())
    })?;
    Ok(0)
}
