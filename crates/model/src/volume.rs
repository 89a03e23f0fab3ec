//! Volumes: data that outlives the instances that use it.
//!
//! A volume belongs to an org and lives on one node, its home. One process of one
//! env may have it mounted, in one instance at a time. What is in it is never
//! touched because something else went away: only destroying the volume itself
//! removes it.
//!
//! ```text
//! pending (has no home yet) ──► creating ──► available ──► removed
//!                                   └──► failed (with a reason; tried again)
//! ```
//! Must not know how a node keeps the data.

use serde::{Deserialize, Serialize};

use crate::condition::Facts;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{App, Env, Id, Kind, Name, Node, Noun, Org, Reason, Resource, Snapshot};

/// The smallest volume: below it a file system's own structures are much of it.
pub const SIZE_MIN_BYTES: u64 = 1 << 30;

/// The largest: ext4 with its usual block size ends there.
pub const SIZE_MAX_BYTES: u64 = 16 << 40;

/// What is desired of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub org: Id<Org>,
    /// How much it can hold, the file system's own structures included.
    pub size_bytes: u64,
    /// Its home; chosen with its first instance unless somebody named it.
    pub node: Option<Id<Node>>,
    /// The app whose manifest it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Id<App>>,
    /// The snapshot it is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Id<Snapshot>>,
    /// Who may mount it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// When it is backed up without anybody asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Schedule>,
}

/// When a volume is backed up, and how much of that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub every_seconds: u64,
    /// Of its backups so many are kept, the newest.
    pub keep: u32,
}

/// The shortest time between two backups: below it most of the work is to look.
pub const BACKUPS_EVERY_MIN_SECONDS: u64 = 15 * 60;

/// The longest: who wants fewer makes them by hand.
pub const BACKUPS_EVERY_MAX_SECONDS: u64 = 31 * 24 * 3600;

/// The most backups of a volume that can be kept: at one an hour, over a month of them.
pub const BACKUPS_KEEP_MAX: u32 = 1000;

/// Command: back a volume up at times, or no longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetBackups {
    pub volume: Id<Volume>,
    pub schedule: Option<Schedule>,
}

/// Event: when a volume is backed up was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupsSet {
    #[serde(flatten)]
    pub of: Of,
    pub schedule: Option<Schedule>,
}

/// The one process that may mount a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub env: Id<Env>,
    pub process: Name,
    /// What the manifest calls it.
    pub name: Name,
    /// Where it is inside the instance.
    pub path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A volume inside an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub volume: Id<Volume>,
    /// Absolute, inside the instance.
    pub path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What is known of a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub observed: Observed,
    /// It has been there; from then on it holds somebody's data.
    #[serde(default)]
    pub made: bool,
}

/// What its node sees of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for a person, with the particulars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How the node keeps it: `loop` or `directory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Whether more than its size does not fit in.
    #[serde(default)]
    pub size_enforced: bool,
    /// The size it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// How far a volume has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its node has not begun, or it has none yet.
    #[default]
    Pending,
    Creating,
    Available,
    /// It cannot be used; the reason says why. The node tries again.
    Failed,
    /// Its data is gone, as asked.
    Removed,
}

impl Noun for Volume {
    const KIND: Kind = Kind::Volume;
    type Status = Status;

    fn facts(volume: &Resource<Volume>) -> Option<Facts> {
        let observed = &volume.status.observed;
        let ready = observed.phase == Phase::Available;
        let grows = ready && observed.size_bytes.is_some_and(|has| has < volume.spec.size_bytes);
        Some(Facts {
            ready,
            reconciling: grows || !ready && volume.spec.node.is_some(),
            degraded: observed.reason.is_some(),
        })
    }
}

/// Command: make a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub org: Id<Org>,
    pub name: Name,
    pub size_bytes: u64,
    /// Its home; chosen with its first instance when absent.
    pub node: Option<Id<Node>>,
    /// A snapshot to make it from, where that is; empty when absent.
    #[serde(default)]
    pub source: Option<Id<Snapshot>>,
}

/// Command: let a volume hold more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    pub volume: Id<Volume>,
    pub size_bytes: u64,
}

/// Command: what a node sees of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    pub volume: Id<Volume>,
    pub observed: Observed,
    /// The node's link this came over.
    pub link: u64,
}

/// Event: a volume was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Volume>,
    pub name: Name,
    pub spec: Volume,
}

/// Which volume an event is about, in words that still tell when it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Of {
    pub id: Id<Volume>,
    pub name: Name,
    pub org: Id<Org>,
}

impl Of {
    /// The words for a volume.
    pub fn new(volume: &Resource<Volume>) -> Of {
        Of { id: volume.id, name: volume.name.clone(), org: volume.spec.org }
    }
}

/// Event: a volume has a home now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    #[serde(flatten)]
    pub of: Of,
    pub node: Id<Node>,
}

/// Event: a volume is to hold more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resized {
    #[serde(flatten)]
    pub of: Of,
    pub size_bytes: u64,
}

/// Event: a process of an env may mount a volume, as said, and nobody else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    #[serde(flatten)]
    pub of: Of,
    pub attachment: Attachment,
}

/// Event: nobody may mount a volume any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detached {
    #[serde(flatten)]
    pub of: Of,
    /// Who could until now.
    pub env: Id<Env>,
}

/// Event: what is known of a volume changed.
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
        if let Some(node) = self.spec.node {
            state.index.volume(node, self.id);
        }
        state.volumes.insert(change.create(self.id, self.name.clone(), parent, self.spec.clone()));
    }
}

impl Apply for Placed {
    fn apply(&self, state: &mut State, change: Change) {
        state.index.volume(self.node, self.of.id);
        update(state, self.of.id, change, |volume| volume.spec.node = Some(self.node));
    }
}

impl Apply for BackupsSet {
    fn apply(&self, state: &mut State, change: Change) {
        state.volumes.update(self.of.id, |volume| {
            volume.spec.backups = self.schedule;
            change.touch(volume);
        });
    }
}

impl Apply for Resized {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, self.of.id, change, |volume| volume.spec.size_bytes = self.size_bytes);
    }
}

impl Apply for Attached {
    fn apply(&self, state: &mut State, change: Change) {
        let attachment = Some(self.attachment.clone());
        update(state, self.of.id, change, |volume| volume.spec.attachment = attachment);
    }
}

impl Apply for Detached {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, self.of.id, change, |volume| volume.spec.attachment = None);
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        let observed = self.observed.clone();
        update(state, self.of.id, change, |volume| {
            volume.status.made |= observed.phase == Phase::Available;
            volume.status.observed = observed;
        });
    }
}

fn update(
    state: &mut State,
    id: Id<Volume>,
    change: Change,
    what: impl FnOnce(&mut Resource<Volume>),
) {
    state.volumes.update(id, |volume| {
        what(volume);
        change.touch(volume);
    });
}

/// The volumes an env has, by what its manifests call them.
pub fn attached_to(state: &State, env: Id<Env>) -> impl Iterator<Item = &Resource<Volume>> {
    let org = state.envs.get(env).map(|env| env.spec.org.any());
    let volumes = org.into_iter().flat_map(|org| state.volumes.children(org));
    volumes.filter(move |it| it.spec.attachment.as_ref().is_some_and(|it| it.env == env))
}

/// Whether nothing is left of a volume that is being destroyed: its node says so,
/// or it never had one, or the node has gone and taken it along.
pub fn is_removed(state: &State, volume: &Resource<Volume>) -> bool {
    let home = volume.spec.node.and_then(|node| state.nodes.get(node));
    let is_away = home.is_none() || volume.status.observed.phase == Phase::Removed;
    is_away && state.index.user(volume.id).is_none()
}
