//! What a snapshot is said to hold is there, unchanged, for as long as it is not being
//! destroyed, and nothing is taken away from a volume that is being made from it.

use std::collections::BTreeMap;

use helix_model::snapshot::Phase;
use helix_model::{Event, Id, Snapshot, State};

use super::{Failed, fail};
use crate::world::{Node, digest};

const NAME: &str = "snapshots";

/// Looks at the books.
pub(crate) fn happened(failed: &mut Failed, before: &State, event: &Event) {
    match event {
        Event::SnapshotDestroyed(gone) => {
            let made_from_it = before.volumes.iter().find(|it| {
                it.spec.source.is_some_and(|source| source.any() == gone.of.id)
                    && !it.status.made
                    && before.destroying_since(it.id.any()).is_none()
            });
            if let Some(volume) = made_from_it {
                let id = gone.of.id;
                fail(failed, NAME, || format!("{id} goes while {} is made from it", volume.id));
            }
        }
        Event::VolumeCreated(created) => {
            let Some(source) = created.spec.source else { return };
            let snapshot = before.snapshots.get(source);
            let is_there = snapshot.is_some_and(|it| {
                it.status.observed.phase == Phase::Available
                    && before.destroying_since(source.any()).is_none()
            });
            if !is_there {
                fail(failed, NAME, || {
                    format!("{} is made from {source}, which is not", created.id)
                });
            }
        }
        _ => {}
    }
}

/// Looks at the nodes and the store.
pub(crate) fn looked(
    failed: &mut Failed,
    state: &State,
    nodes: &[Node],
    backups: &BTreeMap<Id<Snapshot>, u64>,
) {
    for snapshot in state.snapshots.iter() {
        let id = snapshot.id;
        let observed = &snapshot.status.observed;
        if observed.phase != Phase::Available || state.destroying_since(id.any()).is_some() {
            continue;
        }
        let home = nodes
            .iter()
            .find(|it| it.plan.as_ref().is_some_and(|it| it.node == snapshot.spec.node));
        let kept = match (snapshot.spec.backup, home) {
            (true, _) => backups.get(&id),
            (false, Some(home)) => home.disks.snapshots.get(&id),
            (false, None) => continue,
        };
        let kept = kept.copied().map(digest);
        if kept != observed.sha256 {
            let wanted = observed.sha256.clone();
            fail(failed, NAME, || format!("{id} is to be {wanted:?} and is {kept:?}"));
        }
    }
}
