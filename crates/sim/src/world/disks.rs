//! What nodes have of volumes and snapshots, and the store of backups.
//!
//! It follows `node/src/volume` and `server/src/backups.rs`: a node makes what its plan
//! names and removes what it is told to by name, takes a snapshot once and says how it
//! went until that is recorded. Backups go through the replica that the node is linked
//! to, which asks its own state whether they may. What is in a volume is a number here,
//! and another one whenever anybody looks.

use std::collections::{BTreeMap, BTreeSet};

use helix_model::plan::{NodePlan, SnapshotPlan, VolumePlan};
use helix_model::snapshot::{self, Phase};
use helix_model::{Command, Id, Reason, Snapshot, Volume, volume};

use super::World;
use super::happening::{Happening, Message, Place, Session};
use super::replica::Origin;
use crate::Canary;

/// Between two tries to have a backup kept.
const PAUSE_MS: u64 = 3000;

/// How often it is tried.
const TRIES: u32 = 10;

/// What is on one machine, and what it tells of that.
#[derive(Default)]
pub(crate) struct Disks {
    pub volumes: BTreeMap<Id<Volume>, u64>,
    pub snapshots: BTreeMap<Id<Snapshot>, u64>,
    /// Backups that are to be sent.
    pub sending: BTreeMap<Id<Snapshot>, u64>,
    /// In memory only, as is what it tells.
    taking: BTreeSet<Id<Snapshot>>,
    told_volumes: BTreeMap<Id<Volume>, volume::Observed>,
    told_snapshots: BTreeMap<Id<Snapshot>, snapshot::Observed>,
}

impl Disks {
    /// The agent ends; what is on disk stays.
    pub(crate) fn forget(&mut self, canary: Option<Canary>) {
        if canary == Some(Canary::LostSnapshots) {
            self.snapshots.clear();
        }
        self.taking.clear();
        self.told_volumes.clear();
        self.told_snapshots.clear();
    }
}

/// The content of a snapshot, as the log has it.
pub(crate) fn digest(content: u64) -> String {
    format!("{content:x}")
}

impl World {
    /// Does what the plan says about volumes and snapshots.
    pub(crate) fn tend_disks(&mut self, index: usize, plan: &NodePlan) {
        for volume in &plan.volumes {
            self.keep_volume(index, volume);
        }
        for id in &plan.removing {
            self.nodes[index].disks.volumes.remove(id);
            let phase = volume::Phase::Removed;
            self.tell_volume(index, *id, volume::Observed { phase, ..Default::default() });
        }
        for snapshot in &plan.snapshots {
            let disks = &mut self.nodes[index].disks;
            if !snapshot.is_settled && disks.taking.insert(snapshot.id) {
                let delay = self.random.between(5, 2500);
                self.take_later(index, snapshot.id, 0, delay);
            }
        }
        for snapshot in &plan.removing_snapshots {
            self.nodes[index].disks.snapshots.remove(&snapshot.id);
            let phase = Phase::Removed;
            let removed = snapshot::Observed { phase, ..Default::default() };
            self.tell_snapshot(index, snapshot.id, removed);
        }
        let waits = |id: &Id<Snapshot>| {
            plan.snapshots.iter().any(|it| it.id == *id && it.backup && !it.is_settled)
        };
        self.nodes[index].disks.sending.retain(|id, _| waits(id));
    }

    fn keep_volume(&mut self, index: usize, plan: &VolumePlan) {
        let disks = &self.nodes[index].disks;
        let there = disks.volumes.contains_key(&plan.id);
        let source = plan.source.as_ref().filter(|_| !there && !plan.made);
        let found = source.map(|source| {
            let place = if source.backup { &self.backups } else { &disks.snapshots };
            place.get(&source.snapshot).copied().filter(|it| digest(*it) == source.sha256)
        });
        let failed = |reason| volume::Observed {
            phase: volume::Phase::Failed,
            reason: Some(reason),
            ..Default::default()
        };
        let observed = match found {
            _ if !there && plan.made => failed(Reason::VolumeDamaged),
            Some(None) => failed(Reason::IntegrityCheckFailed),
            _ => {
                self.tokens += 1;
                let content = found.flatten().unwrap_or(self.tokens);
                self.nodes[index].disks.volumes.entry(plan.id).or_insert(content);
                volume::Observed {
                    phase: volume::Phase::Available,
                    size_enforced: true,
                    size_bytes: Some(plan.size_bytes),
                    ..Default::default()
                }
            }
        };
        self.tell_volume(index, plan.id, observed);
    }

    fn take_later(&mut self, index: usize, snapshot: Id<Snapshot>, tries: u32, delay: u64) {
        let life = self.nodes[index].life;
        self.agenda.plan(delay, Happening::Take { node: index, life, snapshot, tries });
    }

    /// A snapshot is due, or a backup is to be sent again.
    pub(crate) fn take(&mut self, index: usize, life: u32, id: Id<Snapshot>, tries: u32) {
        let node = &self.nodes[index];
        let planned = node.plan.iter().flat_map(|plan| &plan.snapshots).find(|it| it.id == id);
        let Some(plan) = planned.filter(|it| node.life == life && !it.is_settled).cloned() else {
            return;
        };
        let Some(content) = self.taken(index, &plan) else {
            return self.give_up_snapshot(index, id);
        };
        let seen = |phase| snapshot::Observed {
            phase,
            taken_at: Some(helix_model::Timestamp(0)),
            stored_bytes: Some(1 << 20),
            sha256: Some(digest(content)),
            ..Default::default()
        };
        if !plan.backup {
            return self.tell_snapshot(index, id, seen(Phase::Available));
        }
        if tries == TRIES {
            return self.give_up_snapshot(index, id);
        }
        self.tell_snapshot(index, id, seen(Phase::Sending));
        self.say(Place::Node(index), Message::KeepBackup(id, content));
        self.take_later(index, id, tries + 1, PAUSE_MS);
    }

    /// What is in a snapshot: what was in it before, or what is in the volume now.
    fn taken(&mut self, index: usize, plan: &SnapshotPlan) -> Option<u64> {
        let disks = &mut self.nodes[index].disks;
        let place = if plan.backup { &mut disks.sending } else { &mut disks.snapshots };
        if let Some(content) = place.get(&plan.id) {
            return Some(*content);
        }
        self.tokens += 1;
        *disks.volumes.get_mut(&plan.volume)? = self.tokens;
        place.insert(plan.id, self.tokens);
        Some(self.tokens)
    }

    fn give_up_snapshot(&mut self, index: usize, id: Id<Snapshot>) {
        let disks = &mut self.nodes[index].disks;
        disks.snapshots.remove(&id);
        disks.sending.remove(&id);
        let reason = Some(Reason::SnapshotFailed);
        let failed = snapshot::Observed { phase: Phase::Failed, reason, ..Default::default() };
        self.tell_snapshot(index, id, failed);
    }

    /// The replica's word on a backup.
    pub(crate) fn backup_answered(&mut self, index: usize, id: Id<Snapshot>, kept: bool) {
        let disks = &self.nodes[index].disks;
        let Some(told) = disks.told_snapshots.get(&id).filter(|it| it.phase == Phase::Sending)
        else {
            return;
        };
        if !kept {
            return self.give_up_snapshot(index, id);
        }
        let available = snapshot::Observed { phase: Phase::Available, ..told.clone() };
        self.tell_snapshot(index, id, available);
    }

    /// A node would have a backup kept.
    pub(crate) fn keep_backup(
        &mut self,
        index: usize,
        session: Session,
        id: Id<Snapshot>,
        content: u64,
    ) {
        // A server that lags behind might keep what another has removed already.
        let reachable = !self.network.is_blocked(Place::Replica(index), Place::Store);
        if reachable {
            self.reload(index);
        }
        let replica = &self.replicas[index];
        let Some(feed) = replica.links.get(&session) else { return };
        let (machine, state) = (feed.machine, &replica.state);
        let is_linked = feed
            .node
            .and_then(|node| state.nodes.get(node))
            .is_some_and(|node| node.status.link == feed.link);
        let snapshot = state.snapshots.get(id);
        let kept = reachable
            && is_linked
            && snapshot.is_some_and(|it| {
                it.spec.backup
                    && feed.node == Some(it.spec.node)
                    && it.status.observed.phase.is_under_way()
                    && state.destroying_since(id.any()).is_none()
            });
        if kept {
            self.backups.insert(id, content);
        }
        self.send(Some(session), Place::Replica(index), machine, Message::BackupKept(id, kept));
    }

    /// Removes from the store what is being destroyed.
    pub(crate) fn tend_backups(&mut self, index: usize) {
        let state = &self.replicas[index].state;
        let going = state.snapshots.iter().filter(|it| snapshot::is_for_store_to_remove(state, it));
        let going: Vec<_> = going.map(|it| it.id).collect();
        for snapshot in going {
            self.backups.remove(&snapshot);
            let removed = snapshot::BackupRemoved { snapshot };
            self.submit(index, Command::BackupRemoved(removed), Origin::System);
        }
    }

    fn tell_volume(&mut self, index: usize, id: Id<Volume>, observed: volume::Observed) {
        let told = self.nodes[index].disks.told_volumes.insert(id, observed.clone());
        // That one is gone is said whenever a plan asks.
        if told.as_ref() != Some(&observed) || observed.phase == volume::Phase::Removed {
            self.say(Place::Node(index), Message::VolumeReport(id, observed));
        }
    }

    fn tell_snapshot(&mut self, index: usize, id: Id<Snapshot>, observed: snapshot::Observed) {
        let told = self.nodes[index].disks.told_snapshots.insert(id, observed.clone());
        if told.as_ref() != Some(&observed) {
            let phase = observed.phase;
            self.tell(|| format!("node {index} sees {id} {phase:?}"));
            self.say(Place::Node(index), Message::SnapshotReport(id, observed));
        }
    }

    /// With its first words a node says what it has told before.
    pub(crate) fn tell_disks_again(&mut self, index: usize) {
        let disks = &self.nodes[index].disks;
        let (volumes, snapshots) = (disks.told_volumes.clone(), disks.told_snapshots.clone());
        for (id, observed) in volumes {
            self.say(Place::Node(index), Message::VolumeReport(id, observed));
        }
        for (id, observed) in snapshots {
            self.say(Place::Node(index), Message::SnapshotReport(id, observed));
        }
    }
}
