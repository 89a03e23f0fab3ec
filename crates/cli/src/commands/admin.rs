//! `helix admin`: looking after an installation as a whole.

mod moving;

use clap::{Args, Subcommand};
use helix_model::admin::KeyChange;

use crate::duration;
use crate::failure::Result;
use crate::session::Session;

pub use moving::{Installation, Offline};

/// What an operator does to an installation.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix admin verify-state\n  helix admin export > FILE\n  helix admin keys rotate\n  helix admin retention"
)]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    VerifyState(VerifyStateArgs),
    Export(moving::ExportArgs),
    Import(moving::ImportArgs),
    /// The keys of sealed records: rotate, retire
    Keys(KeysArgs),
    Retention(RetentionArgs),
}

/// Prove that the state is what the log says
///
/// Rebuilds the state from the first event on and compares. Exit code 0 when it
/// is the same, 1 when not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix admin verify-state\n  helix admin verify-state --json")]
struct VerifyStateArgs {}

#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix admin keys rotate\n  helix admin keys retire"
)]
struct KeysArgs {
    #[command(subcommand)]
    verb: KeysVerb,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    Rotate(RotateArgs),
    Retire(RetireArgs),
}

/// Put all sealed records under a new key
///
/// Adds a key to the server's key file and rewraps every record; the records
/// themselves stay as they are. On one machine the older keys are then removed.
/// With PostgreSQL they stay: copy the key file to every replica, then run
/// `helix admin keys retire`. Interrupted, run it again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix admin keys rotate\n  helix admin keys rotate --json")]
struct RotateArgs {}

/// Remove keys that no sealed record is under any more
///
/// Only once every replica has the key file with the newest key.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix admin keys retire\n  helix admin keys retire --json")]
struct RetireArgs {}

/// Show how long history stays in the database
///
/// `--keep-events` and `--keep-audit` of the server say how long; what is older
/// goes to the archive, where it can still be read. `--run` does now what is
/// done every hour.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix admin retention\n  helix admin retention --run")]
struct RetentionArgs {
    /// Move what is old enough to the archive now
    #[arg(long)]
    run: bool,
}

pub(crate) async fn run(
    session: &mut Session<'_>,
    args: AdminArgs,
    offline: &dyn Offline,
) -> Result<u8> {
    match args.verb {
        Verb::Export(args) => moving::export(session, args, offline).await,
        Verb::Import(args) => moving::import(session, args, offline).await,
        Verb::VerifyState(VerifyStateArgs {}) => verify_state(session).await,
        Verb::Keys(KeysArgs { verb }) => keys(session, &verb).await,
        Verb::Retention(RetentionArgs { run: false }) => retention(session).await,
        Verb::Retention(RetentionArgs { run: true }) => run_retention(session).await,
    }
}

async fn verify_state(session: &mut Session<'_>) -> Result<u8> {
    let client = session.client()?;
    session.ui.step("rebuilding the state");
    let verdict = client.verify_state().await?;
    session.ui.result(&verdict, |style| {
        if verdict.same {
            format!("{} {}", style.tick(), verdict.message)
        } else {
            style.red(&verdict.message)
        }
    })?;
    Ok(u8::from(!verdict.same))
}

async fn keys(session: &mut Session<'_>, verb: &KeysVerb) -> Result<u8> {
    let client = session.client()?;
    let changed = match verb {
        KeysVerb::Rotate(RotateArgs {}) => {
            session.ui.step("rewrapping the sealed records");
            client.rotate_keys().await?
        }
        KeysVerb::Retire(RetireArgs {}) => client.retire_keys().await?,
    };
    session.ui.result(&changed, |_| key_text(&changed))?;
    if !changed.kept.is_empty() {
        session.ui.note(
            "older keys stay: copy the key file to every replica, then run `helix admin keys retire`",
        );
    }
    Ok(0)
}

fn key_text(changed: &KeyChange) -> String {
    let list = |ids: &[String]| if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    format!(
        "active     {}\nrewrapped  {}\nretired    {}\nkept       {}",
        changed.active,
        changed.rewrapped,
        list(&changed.retired),
        list(&changed.kept),
    )
}

async fn retention(session: &mut Session<'_>) -> Result<u8> {
    let retention = session.client()?.retention().await?;
    session.ui.result(&retention, |_| {
        let kept = |seconds: Option<u64>| {
            seconds.map_or_else(|| "for ever".to_owned(), |it| format!("for {}", duration::text(it)))
        };
        format!(
            "event log  kept {}, archived through position {}\naudit log  kept {}, archived through position {}",
            kept(retention.keep_events_seconds),
            retention.events_archived,
            kept(retention.keep_audit_seconds),
            retention.audit_archived,
        )
    })?;
    Ok(0)
}

async fn run_retention(session: &mut Session<'_>) -> Result<u8> {
    let client = session.client()?;
    session.ui.step("moving what is old enough to the archive");
    let done = client.run_retention().await?;
    session.ui.result(&done, |_| {
        format!(
            "archived   {} events, {} entries of the audit log\nforgotten  {} receipts",
            done.events_archived, done.audit_archived, done.receipts_forgotten
        )
    })?;
    Ok(0)
}
