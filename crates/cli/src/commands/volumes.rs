//! `helix volumes`: data that outlives the instances that use it.

use clap::{Args, Subcommand};
use helix_model::api::{BackupsRequest, ResizeRequest, VolumeRequest};
use helix_model::manifest::parse_bytes;
use helix_model::snapshot::BACKUPS_KEPT;
use helix_model::{Kind, Name};
use serde_json::json;

use super::deploy::Precondition;
use super::destroy;
use super::kinds::{self, Verb};
use super::restore;
use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;

/// What can be done with volumes.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix volumes list\n  helix volumes create data --size 10Gi\n  helix volumes resize data --size 20Gi\n  helix volumes restore data-1 --as restored\n  helix volumes clone data --as copy\n  helix volumes destroy data"
)]
pub(crate) struct VolumesArgs {
    #[command(subcommand)]
    verb: VolumesVerb,
}

#[derive(Debug, Subcommand)]
enum VolumesVerb {
    #[command(flatten)]
    Any(Verb),
    Create(CreateVolumeArgs),
    Resize(ResizeArgs),
    Backups(BackupsArgs),
    Restore(restore::RestoreArgs),
    Clone(restore::CloneArgs),
    #[command(visible_alias = "rm")]
    Destroy(destroy::DestroyArgs),
}

/// Make a volume in the org
///
/// A process has it once a release is deployed that mounts it by its name. One that
/// a helix.toml declares in `[[volumes]]` is made by the deploy itself.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix volumes create data --size 10Gi\n  helix volumes create data --size 10Gi --node rack-3 --json"
)]
struct CreateVolumeArgs {
    /// Name, unique in the org
    name: String,
    /// How much it holds, such as 10Gi
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: u64,
    /// Node that is to have it; chosen with its first instance otherwise
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Let a volume hold more
///
/// While it is in use, too. No volume ever gets smaller.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix volumes resize data --size 20Gi\n  helix volumes resize data --size 20Gi --json"
)]
struct ResizeArgs {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    /// How much it is to hold, such as 20Gi
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: u64,
    #[command(flatten)]
    precondition: Precondition,
}

/// Back a volume up at times, or no longer
///
/// Each is a backup like one of `helix snapshots create --backup`; those beyond the number
/// that is kept go, the oldest first. One that fails is tried again within the hour.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix volumes backups data --every 1d\n  helix volumes backups data --every 1h --keep 48\n  helix volumes backups data --off"
)]
struct BackupsArgs {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    /// From one to the next, such as 1h or 1d
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, required_unless_present = "off")]
    every: Option<std::time::Duration>,
    /// How many are kept
    #[arg(long, value_name = "N", default_value_t = BACKUPS_KEPT)]
    keep: u32,
    /// Back it up no longer; what there is stays
    #[arg(long, conflicts_with_all = ["every", "keep"])]
    off: bool,
    #[command(flatten)]
    precondition: Precondition,
}

pub(super) fn size(text: &str) -> std::result::Result<u64, String> {
    parse_bytes(text).ok_or_else(|| format!("`{text}` is not a size such as 10Gi"))
}

impl VolumesArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, VolumesVerb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: VolumesArgs) -> Result<u8> {
    match args.verb {
        VolumesVerb::Any(verb) => kinds::run_verb(session, Kind::Volume, verb).await,
        VolumesVerb::Create(args) => create(session, args).await,
        VolumesVerb::Resize(args) => resize(session, args).await,
        VolumesVerb::Backups(args) => backups(session, args).await,
        VolumesVerb::Restore(args) => restore::restore(session, args).await,
        VolumesVerb::Clone(args) => restore::clone(session, args).await,
        VolumesVerb::Destroy(args) => destroy::run(session, Kind::Volume, args).await,
    }
}

async fn create(session: &mut Session<'_>, args: CreateVolumeArgs) -> Result<u8> {
    let name: Name = args.name.parse().map_err(|error: helix_model::name::NameError| {
        Failure::usage(error.to_string(), "for example `helix volumes create data --size 10Gi`")
    })?;
    let scope = session.settings.org_scope();
    let request = VolumeRequest { name, size_bytes: Some(args.size), node: args.node, from: None };
    let receipt = session.client()?.create_volume(&request, &scope).await?;
    told(session, &receipt, "is there")
}

async fn resize(session: &mut Session<'_>, args: ResizeArgs) -> Result<u8> {
    let scope = session.settings.scope_for(Kind::Volume, &args.reference)?;
    let expected_version = args.precondition.expected_version;
    let request = ResizeRequest { size_bytes: args.size, expected_version };
    let receipt = session.client()?.resize_volume(&args.reference, &request, &scope).await?;
    told(session, &receipt, "is to hold more")
}

async fn backups(session: &mut Session<'_>, args: BackupsArgs) -> Result<u8> {
    let scope = session.settings.scope_for(Kind::Volume, &args.reference)?;
    let every_seconds = args.every.map(|every| every.as_secs());
    let expected_version = args.precondition.expected_version;
    let request = BackupsRequest { every_seconds, keep: Some(args.keep), expected_version };
    let receipt = session.client()?.set_backups(&args.reference, &request, &scope).await?;
    let what = match every_seconds {
        Some(seconds) => {
            let every = crate::duration::text(seconds);
            format!("is backed up every {every}, and {} of that are kept", args.keep)
        }
        None => "is not backed up by itself any more".to_owned(),
    };
    told(session, &receipt, &what)
}

fn told(session: &mut Session<'_>, receipt: &helix_model::Receipt, what: &str) -> Result<u8> {
    let target = receipt.subject.as_ref().map_or_else(String::new, |it| it.path.clone());
    let document = json!({ "target": target, "receipt": receipt });
    session.ui.warn(&receipt.warnings);
    session.ui.result(&document, |style| {
        let made = format!("{} volume {} {what}\n", style.tick(), style.bold(&target));
        format!("{made}{}", render::next(&receipt.next, style))
    })?;
    Ok(0)
}
