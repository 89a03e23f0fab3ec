//! Retention: history that is old enough goes to the archive, and receipts that
//! nobody can ask for any more are forgotten.
//!
//! Start from [`run`]. One replica at a time does it, under a lease. What was
//! moved is read as before, because the logs of [`Storage`] begin in the archive.

use std::time::Duration;

use helix_log::{ArchiveError, ArchivedLog, Cut, Lease, LogError, SEGMENT_ENTRIES};
use helix_model::Timestamp;
use helix_model::admin::RetentionRun;

use crate::storage::Storage;
use crate::{clock, entropy};

/// Often enough that a day's worth never piles up, and dear to nobody: a run
/// that finds nothing to do reads a page.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

const LEASE: &str = "retention";

/// Renewed three times in its life, so that a run may take longer.
const LEASE_TTL: Duration = Duration::from_secs(30);

/// A day is what is promised to whoever repeats a request; an hour more, for
/// clocks that differ.
const RECEIPTS_KEPT: Duration = Duration::from_secs(25 * 60 * 60);

/// Why a run did nothing or not all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetentionError {
    #[error("another run is under way")]
    Busy,
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Runs now and then, for as long as it is not dropped.
pub(crate) async fn run(storage: Storage) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match once(&storage).await {
            Ok(done) if done == RetentionRun::default() => {}
            Ok(done) => tracing::info!(?done, "history was moved to the archive"),
            Err(RetentionError::Busy) => {}
            Err(error) => tracing::warn!(%error, "history cannot be moved to the archive"),
        }
    }
}

/// One run, unless another replica is at it.
pub(crate) async fn once(storage: &Storage) -> Result<RetentionRun, RetentionError> {
    let holder = entropy::request_id();
    let lease = storage.leases.acquire(LEASE, &holder, LEASE_TTL).await?;
    let lease = lease.ok_or(RetentionError::Busy)?;
    // Side by side, each polled while the other waits: both use the database.
    let done = tokio::select! {
        done = move_history(storage, clock::now()) => done,
        lost = hold(storage, &lease) => Err(lost),
    };
    storage.leases.release(&lease).await?;
    done
}

/// Renews the lease; returns once it is lost, and then the work goes on
/// elsewhere. What was moved stays moved.
async fn hold(storage: &Storage, lease: &Lease) -> RetentionError {
    loop {
        tokio::time::sleep(LEASE_TTL / 3).await;
        match storage.leases.renew(lease, LEASE_TTL).await {
            Ok(Some(_)) => {}
            Ok(None) => return RetentionError::Busy,
            Err(error) => return error.into(),
        }
    }
}

async fn move_history(storage: &Storage, now: Timestamp) -> Result<RetentionRun, RetentionError> {
    let before =
        |kept: Duration| now.0.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    let mut done = RetentionRun::default();
    if let Some(keep) = storage.keep.events {
        done.events_archived = move_older(&storage.history, before(keep)).await?;
    }
    if let Some(keep) = storage.keep.audit {
        done.audit_archived = move_older(&storage.audit_history, before(keep)).await?;
    }
    done.receipts_forgotten = storage.log.prune_receipts(before(RECEIPTS_KEPT)).await?;
    Ok(done)
}

async fn move_older(log: &ArchivedLog, at_ms: i64) -> Result<u64, ArchiveError> {
    Ok(log.archive(Cut::OlderThan { at_ms }, SEGMENT_ENTRIES).await?.entries)
}
