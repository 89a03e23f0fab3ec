//! Snapshots: a volume as it was at one moment, kept on the node it was taken on.
//!
//! What is in one is what a power cut at that moment would have left: programs that
//! survive that survive being restored from it. It is never written to again, and
//! what is made from it is always a new volume. It outlives the volume it is of.
//! Must not know how a node takes one.

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
    Available,
    /// There is none; the reason says why. It is not tried again.
    Failed,
    /// It is gone, as asked.
    Removed,
}

impl Phase {
    /// Whether something may still come of it.
    pub fn is_under_way(self) -> bool {
        matches!(self, Phase::Pending | Phase::Taking)
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

/// The snapshots of a volume that something may still come of.
pub fn under_way(state: &State, volume: &Resource<Volume>) -> Option<Id<Snapshot>> {
    let mut all = state.snapshots.children(volume.spec.org.any());
    let found =
        all.find(|it| it.spec.volume == volume.id && it.status.observed.phase.is_under_way());
    found.map(|snapshot| snapshot.id)
}

/// The volume that is still being made from a snapshot.
pub fn restoring(state: &State, snapshot: &Resource<Snapshot>) -> Option<Id<Volume>> {
    let mut all = state.volumes.children(snapshot.spec.org.any());
    let found = all.find(|it| it.spec.source == Some(snapshot.id) && !it.status.made);
    found.map(|volume| volume.id)
}

/// Whether nothing is left of a snapshot that is being destroyed: its node says so,
/// or the node has gone and taken it along.
pub fn is_removed(state: &State, snapshot: &Resource<Snapshot>) -> bool {
    let home = state.nodes.get(snapshot.spec.node);
    home.is_none() || snapshot.status.observed.phase == Phase::Removed
}
