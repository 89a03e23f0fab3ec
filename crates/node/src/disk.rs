//! The disk below the agent's files: images that nothing uses go when they take too
//! much or room is short, and while that does not help, nothing new is started.
//! Start at [`keep`].
//!
//! Only images go, which can be had again. What is in volumes, and what programs
//! said, is never touched here.

mod space;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use helix_model::Reason;
use helix_model::node::Disk as Seen;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::Config;
use crate::images::{InUse, Room};
use crate::lifecycle::Refusal;
use crate::machine::chain;
use crate::shared::Shared;
use crate::supervisor::PlanSlot;

pub use space::DiskLimits;
pub(crate) use space::Space;

/// How often free space is looked at: one system call, and a program that fills a
/// disk at 1 GB/s has written the half of a small reserve by then.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long after the last change of plan unused images are removed: starting
/// what the plan asks for comes first.
const TRIM_AFTER: Duration = Duration::from_secs(60);

/// While a disk stays full, how often what may have become free is removed.
const TRIM_AGAIN: Duration = Duration::from_secs(15);

/// Figures are told when one has changed by so small a part of the disk, …
const NEWS_DIVISOR: u64 = 50;

/// … and no more often than this: each is an event for ever.
const NEWS_INTERVAL: Duration = Duration::from_secs(60);

/// How the disk is, as it was last told; `None` before the first look.
pub type DiskSeen = watch::Receiver<Option<Seen>>;

/// What is known of the disk.
pub(crate) struct Disk {
    /// Where the agent writes; perhaps several file systems.
    paths: Vec<PathBuf>,
    limits: DiskLimits,
    seen: watch::Sender<Option<Seen>>,
    /// Why nothing new is started.
    pressure: Mutex<Option<String>>,
    /// Images came or went.
    cache_changed: AtomicBool,
    /// Something could not be written: look now.
    hurry: Notify,
}

impl Disk {
    pub(crate) fn of(config: &Config) -> Disk {
        Disk {
            paths: vec![config.data_dir.clone(), config.image_dir()],
            limits: config.disk,
            seen: watch::Sender::new(None),
            pressure: Mutex::default(),
            cache_changed: AtomicBool::new(true),
            hurry: Notify::new(),
        }
    }

    pub(crate) fn seen(&self) -> DiskSeen {
        self.seen.subscribe()
    }

    /// Why nothing new may be started now, if so.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let pressure = self.pressure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let message = format!("nothing new is started on this node: {}", pressure.as_ref()?);
        Some(Refusal { reason: Reason::DiskPressure, message, retryable: true })
    }

    /// Images came, or could not be written.
    pub(crate) fn images_changed(&self) {
        self.cache_changed.store(true, Ordering::Relaxed);
        self.hurry.notify_one();
    }

    /// The tightest of the file systems; `None` where nothing can be told.
    fn look(&self) -> Option<Space> {
        let spaces = self.paths.iter().filter_map(|path| Space::of(path));
        spaces.min_by_key(|space| space.free_bytes)
    }
}

/// What is remembered between looks.
struct Watching {
    cache_bytes: u64,
    trim_at: Option<Instant>,
    trimmed_at: Option<Instant>,
    told_at: Option<Instant>,
}

/// Watches the disk until the agent is gone.
pub(crate) async fn keep(shared: std::sync::Arc<Shared>, mut plans: watch::Receiver<PlanSlot>) {
    let mut watching = Watching { cache_bytes: 0, trim_at: None, trimmed_at: None, told_at: None };
    loop {
        let plan = plans.borrow().clone();
        watching.look(&shared, &plan).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shared.disk.hurry.notified() => {}
            changed = plans.changed() => match changed {
                Ok(()) => watching.trim_at = Some(Instant::now() + TRIM_AFTER),
                Err(_) => return,
            },
        }
    }
}

impl Watching {
    async fn look(&mut self, shared: &Shared, plan: &PlanSlot) {
        let disk = &shared.disk;
        let Some(mut space) = disk.look() else { return };
        let now = Instant::now();
        if disk.cache_changed.swap(false, Ordering::Relaxed) {
            self.cache_bytes = shared.images.cache_bytes().await.unwrap_or(self.cache_bytes);
        }
        let reserve_bytes = disk.limits.reserve_bytes(space);
        let max_bytes = disk.limits.cache_bytes_max(space);
        let is_full = space.shortage(reserve_bytes).is_some();
        let is_due = self.trim_at.is_some_and(|at| at <= now);
        let rested = self.trimmed_at.is_none_or(|at| now.duration_since(at) >= TRIM_AGAIN);
        let is_over = self.cache_bytes > max_bytes;
        // Before a plan is known, nobody can say what is wanted.
        if let Some(plan) = plan.as_ref().filter(|_| is_due || rested && (is_full || is_over)) {
            let in_use = InUse::of(shared, plan);
            let room = Room { bytes_max: if is_full { 0 } else { max_bytes }, urgent: is_full };
            if let Some(bytes) = shared.images.trim(in_use, room).await {
                self.cache_bytes = bytes;
            }
            (self.trim_at, self.trimmed_at) = (None, Some(now));
            space = disk.look().unwrap_or(space);
        }
        let was = disk.refusal().is_some();
        let wanted = if was { disk.limits.relief_bytes(space) } else { reserve_bytes };
        let pressure = space.shortage(wanted);
        *disk.pressure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            pressure.map(|what| what.text(space, reserve_bytes));
        self.tell(disk, space, now);
    }

    fn tell(&mut self, disk: &Disk, space: Space, now: Instant) {
        let pressure =
            disk.pressure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let next = Seen {
            pressure,
            total_bytes: space.total_bytes,
            free_bytes: space.free_bytes,
            reserve_bytes: disk.limits.reserve_bytes(space),
            image_cache_bytes: self.cache_bytes,
            image_cache_bytes_max: disk.limits.cache_bytes_max(space),
        };
        let told = disk.seen.borrow().clone();
        let is_news = told.is_none_or(|told| {
            let rested = self.told_at.is_none_or(|at| now.duration_since(at) >= NEWS_INTERVAL);
            told.pressure.is_some() != next.pressure.is_some() || rested && differs(&told, &next)
        });
        if is_news {
            match &next.pressure {
                Some(pressure) => tracing::warn!(%pressure, "nothing new is started"),
                None => tracing::debug!(free_bytes = next.free_bytes, "disk space"),
            }
            self.told_at = Some(now);
            disk.seen.send_replace(Some(next));
        }
    }
}

fn differs(told: &Seen, next: &Seen) -> bool {
    let least = next.total_bytes / NEWS_DIVISOR;
    told.free_bytes.abs_diff(next.free_bytes) > least
        || told.image_cache_bytes.abs_diff(next.image_cache_bytes) > least
        || (told.reserve_bytes, told.image_cache_bytes_max, told.total_bytes)
            != (next.reserve_bytes, next.image_cache_bytes_max, next.total_bytes)
}

/// The reason for a failure of this machine: its disk is full, or `otherwise`.
pub(crate) fn reason_of(error: &(dyn std::error::Error + 'static), otherwise: Reason) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) {
            tracing::debug!(error = chain(error), "the disk is full");
            return Reason::DiskFull;
        }
        cause = error.source();
    }
    otherwise
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_are_no_news() {
        let told = Seen { total_bytes: 1000, free_bytes: 500, ..Seen::default() };
        assert!(!differs(&told, &Seen { free_bytes: 480, ..told.clone() }));
        assert!(differs(&told, &Seen { free_bytes: 479, ..told.clone() }));
        assert!(differs(&told, &Seen { image_cache_bytes: 21, ..told.clone() }));
        assert!(differs(&told, &Seen { reserve_bytes: 1, ..told.clone() }));
    }
}
