//! Directories of instances that are gone: kept for their logs for a while, without
//! what was secret. Also ends instances no plan knows of.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use helix_model::instance::{Observed, Phase};
use helix_model::{Id, Instance, Timestamp};
use helix_runtime::InstanceSpec;

use crate::machine::{self, chain};
use crate::shared::{Shared, now};
use crate::slot::Slot;

/// Gone instances whose logs are kept: listing and sizing them is done every few
/// seconds.
const KEPT: usize = 200;

/// What their logs may take together.
const KEPT_BYTES: u64 = 1 << 30;

/// How long they are kept: a week, like the logs of what runs.
const KEPT_MS: i64 = 7 * 24 * 3600 * 1000;

/// What a killed program may still take to be seen dead.
const KILL_SLACK: Duration = Duration::from_secs(5);

/// One instance directory.
pub(crate) struct Found {
    pub(crate) id: Id<Instance>,
    pub(crate) dir: PathBuf,
    pub(crate) slot: Option<Slot>,
}

/// Every instance directory. What does not bear an instance's id is not ours.
pub(crate) fn list(instances_dir: &Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir(instances_dir) else {
        return Vec::new();
    };
    let found = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let dir = entry.path();
        Some(Found { id, slot: Slot::load(&dir), dir })
    };
    entries.flatten().filter_map(found).collect()
}

/// Turns the directory of a stopped instance into one kept for its logs.
pub(crate) fn mark(dir: &Path, slot: &Slot, at: Timestamp) {
    if !dir.is_dir() {
        return;
    }
    let gone = Slot { ipv4_slot: None, ready: false, gone_at_ms: Some(at.0), ..slot.clone() };
    if let Err(error) = gone.store(dir) {
        tracing::warn!(dir = %dir.display(), error = chain(&error), "cannot mark it as gone");
    }
    // It holds the program's environment. Absent is as good as removed.
    let _ = std::fs::remove_file(dir.join(InstanceSpec::FILE));
}

/// Deletes directories of gone instances: all but the latest, the small enough and
/// the young enough.
pub(crate) fn prune(instances_dir: &Path, now: Timestamp) {
    let mut gone: Vec<(i64, PathBuf)> = list(instances_dir)
        .into_iter()
        .filter_map(|found| Some((found.slot?.gone_at_ms?, found.dir)))
        .collect();
    gone.sort_unstable();
    let mut kept_bytes = 0;
    for (rank, (at_ms, dir)) in gone.into_iter().rev().enumerate() {
        kept_bytes += size_bytes(&dir);
        let age_ms = now.0.saturating_sub(at_ms);
        if rank < KEPT && kept_bytes <= KEPT_BYTES && age_ms <= KEPT_MS {
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(&dir) {
            tracing::warn!(dir = %dir.display(), %error, "cannot delete old logs");
        }
    }
}

/// Of an instance that is gone only its log is large, and that is one folder.
fn size_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir.join(helix_runtime::logs::DIR)).into_iter().flatten();
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// Stops and clears an instance that is on this machine but in no plan.
pub(crate) async fn end_unknown(shared: Arc<Shared>, found: Found) -> Id<Instance> {
    let Found { id, dir, slot } = found;
    let volumes = crate::volume::of_instance(&dir);
    tracing::info!(instance = %id, "ending an instance that is in no plan");
    if let Some(shim) = machine::adopt(&dir).await {
        let grace_ms = InstanceSpec::load(&dir).map_or(0, |spec| spec.stop_grace_ms);
        let grace = Duration::from_millis(grace_ms);
        if let Err(error) = shim.stop(grace).await {
            tracing::debug!(instance = %id, error = chain(&error), "cannot ask it to stop");
        }
        // Whether it ended or not, it is cleared away next.
        let _ = tokio::time::timeout(grace + KILL_SLACK, machine::ended(&shim)).await;
    }
    if let Err(error) = machine::clear(&dir).await {
        tracing::error!(instance = %id, %error, "cannot remove what it left");
    }
    for volume in volumes {
        shared.volumes.close(volume, id).await;
    }
    match slot {
        Some(slot) => {
            if let Some(number) = slot.ipv4_slot {
                shared.slots().release(number);
            }
            mark(&dir, &slot, now());
        }
        // Without a slot it never got as far as having logs.
        None => drop(std::fs::remove_dir_all(&dir)),
    }
    shared.board.report(id, Observed { phase: Phase::Stopped, ..Observed::default() });
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        serde_json::from_str(r#"{"name":"web-1","process":"web","ready":true}"#).unwrap()
    }

    #[test]
    fn the_latest_logs_are_kept_and_nothing_that_lives_is_touched() {
        let root = tempfile::tempdir().unwrap();
        let dir = |number: u128| {
            let id: Id<Instance> = Id::new(Timestamp(1), number);
            let dir = root.path().join(id.to_string());
            std::fs::create_dir_all(&dir).unwrap();
            dir
        };
        slot().store(&dir(0)).unwrap();
        for number in 1..=KEPT as u128 + 3 {
            std::fs::write(dir(number).join(InstanceSpec::FILE), "{}").unwrap();
            mark(&dir(number), &slot(), Timestamp(number as i64));
        }
        prune(root.path(), Timestamp(1000));
        let left = list(root.path());
        assert_eq!(left.len(), KEPT + 1);
        assert!(left.iter().any(|found| found.dir == dir(0)));
        assert!(left.iter().all(|found| (1..=3).all(|gone| found.dir != dir(gone))));
        assert!(!dir(9).join(InstanceSpec::FILE).exists(), "the environment is not kept");
        prune(root.path(), Timestamp(KEPT_MS + 10));
        let left = list(root.path());
        assert!(left.len() < KEPT + 1, "those older than a week are gone");
        assert!(left.iter().any(|found| found.dir == dir(0)), "what lives stays");
    }
}
