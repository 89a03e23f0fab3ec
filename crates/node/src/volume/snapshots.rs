//! The task that takes the snapshots of the plan and removes those that it says are to
//! go. One at a time: copying is for the disk to do, and it has one.
//!
//! A snapshot that was not taken is not tried again: it is of a moment, and that has
//! passed. Must not know how one is copied.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use helix_model::plan::{NodePlan, SnapshotPlan};
use helix_model::snapshot::{Observed, Phase};
use helix_model::{Id, Reason, Snapshot, Volume};
use tokio::sync::watch;

use super::snapshot::{self, Taken};
use super::{Driver, Keeper, VolumeFailure, Volumes, ext4, loop_file, lvm_thin};
use crate::supervisor::PlanSlot;

/// A full disk may take a while to pass.
const AGAIN: Duration = Duration::from_secs(10);

/// The snapshots of this machine.
pub(super) struct Snapshots {
    dir: PathBuf,
    /// Where backups are until the store has them. What is here is of use to nobody once
    /// the plan does not say that it is still to be sent.
    sending: PathBuf,
    board: watch::Sender<BTreeMap<Id<Snapshot>, Observed>>,
}

impl Snapshots {
    pub(super) fn new(data_dir: &Path) -> Snapshots {
        let (dir, sending) = (data_dir.join("snapshots"), data_dir.join("sending"));
        Snapshots { dir, sending, board: watch::channel(BTreeMap::new()).0 }
    }

    /// Where one is to be taken.
    fn place_of(&self, plan: &SnapshotPlan) -> PathBuf {
        if plan.backup { self.sending.join(plan.id.to_string()) } else { self.place(plan.id) }
    }

    /// Where one is.
    pub(super) fn place(&self, id: Id<Snapshot>) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn report(&self, id: Id<Snapshot>, observed: Observed) {
        self.board.send_if_modified(|board| {
            let is_news = board.get(&id) != Some(&observed);
            board.insert(id, observed);
            is_news
        });
    }

    fn remove(&self, plan: &SnapshotPlan) -> bool {
        let id = plan.id;
        match remove(&self.place_of(plan)) {
            Ok(()) => {
                self.report(id, Observed { phase: Phase::Removed, ..Observed::default() });
                true
            }
            Err(error) => {
                tracing::error!(snapshot = %id, %error, "cannot remove a snapshot");
                false
            }
        }
    }

    /// Removes the backups that are not to be sent any more: the store has them, or they
    /// are gone from there already and no plan ever names them again.
    fn let_go(&self, plan: &NodePlan) -> bool {
        let waits = |name: &str| {
            let mut all = plan.snapshots.iter();
            all.any(|it| it.backup && !it.is_settled && it.id.to_string() == name)
        };
        let entries = std::fs::read_dir(&self.sending).into_iter().flatten().flatten();
        let done = entries.filter(|entry| !entry.file_name().to_str().is_some_and(waits));
        let mut all = true;
        for entry in done {
            if let Err(error) = remove(&entry.path()) {
                let path = entry.path();
                tracing::error!(path = %path.display(), %error, "cannot remove a sent backup");
                all = false;
            }
        }
        all
    }
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Volumes {
    /// What is seen of every snapshot, and changes of it.
    pub(crate) fn snapshots(&self) -> watch::Receiver<BTreeMap<Id<Snapshot>, Observed>> {
        self.snapshots.board.subscribe()
    }

    /// Takes a snapshot, unless it is there, and says how it is.
    async fn take(self: &Arc<Self>, plan: &SnapshotPlan) {
        let id = plan.id;
        let taking = Observed { phase: Phase::Taking, ..Observed::default() };
        self.snapshots.report(id, taking);
        let seen = |phase: Phase, taken: &Taken, sent_bytes: Option<u64>| Observed {
            phase,
            taken_at: Some(taken.taken_at),
            paused_ms: Some(taken.paused_ms),
            stored_bytes: Some(loop_file::allocated_bytes(&self.snapshots.place_of(plan))),
            sent_bytes,
            sha256: Some(taken.sha256()),
            ..Observed::default()
        };
        let made = match self.taken(plan).await {
            Ok(taken) if plan.backup => {
                self.snapshots.report(id, seen(Phase::Sending, &taken, None));
                let place = self.snapshots.place_of(plan);
                let sent = self.backups.send(id, &place, &taken).await;
                sent.map(|sent| (taken, Some(sent)))
            }
            taken => taken.map(|taken| (taken, None)),
        };
        let observed = match made {
            Ok((taken, sent)) => seen(Phase::Available, &taken, sent),
            Err(failure) => {
                tracing::warn!(snapshot = %id, error = %failure, "cannot take a snapshot");
                // What there is of it is of no use to anybody.
                if let Err(error) = remove(&self.snapshots.place_of(plan)) {
                    tracing::error!(snapshot = %id, %error, "cannot remove a part of a snapshot");
                }
                Observed {
                    phase: Phase::Failed,
                    reason: Some(failure.reason),
                    message: Some(failure.message),
                    ..Observed::default()
                }
            }
        };
        self.snapshots.report(id, observed);
    }

    /// Has backups kept there; nowhere, once the link is gone.
    pub(crate) fn backups_kept_by(&self, keeper: Keeper) {
        self.backups.kept_by(keeper);
    }

    async fn taken(self: &Arc<Self>, plan: &SnapshotPlan) -> Result<Taken, VolumeFailure> {
        let failed = |message: &str| VolumeFailure::new(Reason::SnapshotFailed, message);
        let dir = self.snapshots.place_of(plan);
        if let Some(taken) = snapshot::load(&dir) {
            return Ok(taken);
        }
        let limits = self.limits;
        let volume = self.place_of(plan.volume);
        match self.driver_of(&volume) {
            Some(Driver::Loop) => {}
            Some(Driver::LvmThin(pool)) => {
                // Quick, and alone with the volume; what takes time is copying it.
                let moment = self.with(plan.volume, move |_, place| lvm_thin::moment(place, &pool));
                let moment = moment.await?;
                let copied = move || snapshot::copy_moment(&moment, &dir, limits);
                let copied = tokio::task::spawn_blocking(copied).await;
                self.forget_moment(plan.volume).await;
                return copied.map_err(|error| failed(&error.to_string()))?;
            }
            _ => return Err(failed("a volume that is a plain directory has no snapshots")),
        }
        // Without the lock of the volume: it may be opened and closed meanwhile.
        let begun = move || snapshot::begin(&volume, dir, limits);
        let begun = tokio::task::spawn_blocking(begun).await;
        let begun = begun.map_err(|error| failed(&error.to_string()))??;
        let pause_max = Duration::from_millis(plan.pause_max_ms);
        self.with(plan.volume, move |_, place| begun.finish(place, pause_max)).await
    }

    /// Lets go of what an agent that was killed had frozen. Before anything else is done:
    /// whoever writes there would wait, and hold the volume meanwhile.
    pub(crate) async fn thaw(self: &Arc<Self>) {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let ids: Vec<_> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        for id in ids {
            match self.driver_of(&self.place_of(id)) {
                Some(Driver::Loop) if ext4::is_mounted(&self.place_of(id)) => {
                    let thawed = self.with(id, |_, place| {
                        snapshot::thaw(place);
                        Ok(())
                    });
                    if let Err(error) = thawed.await {
                        tracing::error!(volume = %id, %error, "cannot thaw a volume");
                    }
                }
                Some(Driver::LvmThin(_)) => self.forget_moment(id).await,
                _ => {}
            }
        }
    }

    /// Lets go of what LVM keeps of a volume while it is copied.
    async fn forget_moment(self: &Arc<Self>, id: Id<Volume>) {
        let forgotten = self.with(id, |driver, place| match driver {
            Driver::LvmThin(pool) => lvm_thin::forget_moment(place, pool),
            _ => Ok(()),
        });
        if let Err(error) = forgotten.await {
            // The next one that is taken of the volume removes it, or its removal.
            tracing::error!(volume = %id, %error, "cannot remove a snapshot from the pool");
        }
    }
}

/// Follows the plan for as long as there is one to follow.
pub(crate) async fn keep_snapshots(volumes: Arc<Volumes>, mut plans: watch::Receiver<PlanSlot>) {
    let mut settled: HashSet<Id<Snapshot>> = HashSet::new();
    loop {
        let plan = plans.borrow_and_update().clone();
        let mut all = true;
        for snapshot in plan.iter().flat_map(|plan| &plan.snapshots) {
            if !snapshot.is_settled && settled.insert(snapshot.id) {
                volumes.take(snapshot).await;
            }
        }
        for snapshot in plan.iter().flat_map(|plan| &plan.removing_snapshots) {
            all &= volumes.snapshots.remove(snapshot);
        }
        // Until the plan said that they are there, they could be sent again.
        all &= plan.as_ref().is_none_or(|plan| volumes.snapshots.let_go(plan));
        let changed = plans.changed();
        let changed = match all {
            true => changed.await,
            false => tokio::time::timeout(AGAIN, changed).await.unwrap_or(Ok(())),
        };
        if changed.is_err() {
            return;
        }
    }
}
