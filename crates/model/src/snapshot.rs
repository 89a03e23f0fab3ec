//! Snapshots: a volume as it was at one moment, kept on the node it was taken on.
//!
//! What is in one is what a power cut at that moment would have left: programs that
//! survive that survive being restored from it. It is never written to again, and
//! what is made from it is always a new volume. It outlives the volume it is of.
//! Must not know how a node takes one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::condition::Facts;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Node, Noun, Org, Reason, Resource, Timestamp, Volume};

/// For how long writers wait for a snapshot unless somebody allowed them more.
pub const PAUSE_DEFAULT_MS: u64 = 2_000;

/// The most that can be allowed: a program that waits longer is taken for dead by
/// whatever watches it.
pub const PAUSE_MAX_MS: u64 = 600_000;

/// Snapshots of one volume at a time: what is beyond it belongs elsewhere than on the
/// disk that the volume is on.
pub const PER_VOLUME_MAX: usize = 32;

/// Backups of a volume without a schedule that are kept; older ones are destroyed.
pub const BACKUPS_KEPT: u32 = 14;

/// What is desired of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub org: Id<Org>,
    /// What it is of, which may be gone.
    pub volume: Id<Volume>,
    pub volume_name: Name,
    /// How large the volume was to be.
    pub size_bytes: u64,
    /// Where it is.
    pub node: Id<Node>,
    /// For how long writers may be made to wait for it, milliseconds.
    pub pause_max_ms: u64,
    /// It is a backup: kept away from the node, in the installation's store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
}

/// What is known of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub observed: Observed,
}

/// What its node sees of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for a person, with the particulars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The moment it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// How long writers had to wait for it, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_ms: Option<u64>,
    /// What it takes on the node's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
    /// Of a backup: how much of it the store did not have yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Lower-case hex sha256 over the hashes of all its parts: what a volume made
    /// from it is held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its node has not begun.
    #[default]
    Pending,
    Taking,
    /// A backup: it is taken, and on its way to the store.
    Sending,
    Available,
    /// There is none; the reason says why. It is not tried again.
    Failed,
    /// It is gone, as asked.
    Removed,
}

impl Phase {
    /// Whether something may still come of it.
    pub fn is_under_way(self) -> bool {
        matches!(self, Phase::Pending | Phase::Taking | Phase::Sending)
    }
}

impl Noun for Snapshot {
    const KIND: Kind = Kind::Snapshot;
    type Status = Status;

    fn facts(snapshot: &Resource<Snapshot>) -> Option<Facts> {
        let phase = snapshot.status.observed.phase;
        Some(Facts {
            ready: phase == Phase::Available,
            reconciling: phase.is_under_way(),
            degraded: phase == Phase::Failed,
        })
    }
}

/// Command: take a snapshot of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub volume: Id<Volume>,
    /// `VOLUME-NUMBER` when absent.
    pub name: Option<Name>,
    pub pause_max_ms: u64,
    /// Whether it is to be a backup.
    #[serde(default)]
    pub backup: bool,
    /// It is asked for because it is time; when it turns out not to be, there is none.
    #[serde(default)]
    pub scheduled: bool,
}

/// Command: nothing is left of a backup in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupRemoved {
    pub snapshot: Id<Snapshot>,
}

/// Command: what a node sees of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    pub snapshot: Id<Snapshot>,
    pub observed: Observed,
    /// The node's link this came over.
    pub link: u64,
}

/// Event: a snapshot was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Snapshot>,
    pub name: Name,
    pub spec: Snapshot,
}

/// Which snapshot an event is about, in words that still tell when it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Of {
    pub id: Id<Snapshot>,
    pub name: Name,
    pub org: Id<Org>,
}

impl Of {
    /// The words for a snapshot.
    pub fn new(snapshot: &Resource<Snapshot>) -> Of {
        Of { id: snapshot.id, name: snapshot.name.clone(), org: snapshot.spec.org }
    }
}

/// Event: what is known of a snapshot changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    #[serde(flatten)]
    pub of: Of,
    #[serde(flatten)]
    pub observed: Observed,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let parent = Some(self.spec.org.any());
        state.index.snapshot(self.spec.node, self.id);
        let snapshot = change.create(self.id, self.name.clone(), parent, self.spec.clone());
        state.snapshots.insert(snapshot);
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.snapshots.update(self.of.id, |snapshot| {
            snapshot.status.observed = self.observed.clone();
            change.touch(snapshot);
        });
    }
}

/// The snapshot of a volume that something may still come of.
pub fn under_way(state: &State, org: Id<Org>, volume: Id<Volume>) -> Option<Id<Snapshot>> {
    let mut all = state.snapshots.children(org.any());
    let found = all.find(|it| it.spec.volume == volume && it.status.observed.phase.is_under_way());
    found.map(|snapshot| snapshot.id)
}

/// How long after a backup that failed the next is tried, at most: what ails a store or a
/// disk may be over by then.
const AGAIN_AFTER_SECONDS: u64 = 3600;

/// Volumes of which a backup is due. The first is as soon as there is something to keep.
pub fn due(state: &State, now: Timestamp) -> Vec<Id<Volume>> {
    let scheduled = state.volumes.iter().filter(|it| it.spec.backups.is_some());
    scheduled.filter(|it| is_due(state, it, now)).map(|it| it.id).collect()
}

/// Whether a backup of this volume is due.
pub fn is_due(state: &State, volume: &Resource<Volume>, now: Timestamp) -> bool {
    let Some(schedule) = volume.spec.backups.filter(|_| volume.status.made) else { return false };
    if state.destroying_since(volume.id.any()).is_some() {
        return false;
    }
    let all = state.snapshots.children(volume.spec.org.any());
    let last = all
        .filter(|it| it.spec.volume == volume.id && it.spec.backup)
        .max_by_key(|it| it.created_at);
    let Some(last) = last else { return true };
    let phase = last.status.observed.phase;
    let pause_seconds = match phase {
        Phase::Failed => schedule.every_seconds.min(AGAIN_AFTER_SECONDS),
        _ => schedule.every_seconds,
    };
    let pause = std::time::Duration::from_secs(pause_seconds);
    !phase.is_under_way() && last.created_at.plus(pause) <= now
}

/// Backups that are not among the newest of their volume that are kept, `keep` unless its
/// schedule says otherwise, and can go. One that is not there yet, or failed, takes no
/// other's place.
pub fn beyond(state: &State, keep: u32) -> Vec<Id<Snapshot>> {
    let mut of_volume: BTreeMap<Id<Volume>, Vec<&Resource<Snapshot>>> = BTreeMap::new();
    let good = state.snapshots.iter().filter(|it| {
        it.spec.backup
            && it.status.observed.phase == Phase::Available
            && state.destroying_since(it.id.any()).is_none()
    });
    for snapshot in good {
        of_volume.entry(snapshot.spec.volume).or_default().push(snapshot);
    }
    let mut beyond = Vec::new();
    for (volume, mut all) in of_volume {
        let schedule = state.volumes.get(volume).and_then(|volume| volume.spec.backups);
        let keep = schedule.map_or(keep, |schedule| schedule.keep);
        all.sort_by_key(|it| std::cmp::Reverse((it.status.observed.taken_at, it.id)));
        let old = all.into_iter().skip(keep as usize);
        beyond.extend(old.filter(|it| restoring(state, it).is_none()).map(|it| it.id));
    }
    beyond
}

/// The volume that is still being made from a snapshot.
pub fn restoring(state: &State, snapshot: &Resource<Snapshot>) -> Option<Id<Volume>> {
    let mut all = state.volumes.children(snapshot.spec.org.any());
    let found = all.find(|it| it.spec.source == Some(snapshot.id) && !it.status.made);
    found.map(|volume| volume.id)
}

/// Whether the store is to let go of a backup now.
pub fn is_for_store_to_remove(state: &State, snapshot: &Resource<Snapshot>) -> bool {
    snapshot.spec.backup
        && snapshot.status.observed.phase != Phase::Removed
        && state.destroying_since(snapshot.id.any()).is_some()
}

/// Whether nothing is left of a snapshot that is being destroyed: its node says so, or the
/// node has gone and taken it along; of a backup, its store.
pub fn is_removed(state: &State, snapshot: &Resource<Snapshot>) -> bool {
    let went_along = !snapshot.spec.backup && state.nodes.get(snapshot.spec.node).is_none();
    went_along || snapshot.status.observed.phase == Phase::Removed
}
