//! A volume is in at most one place: no two programs have it, on one node or on
//! two, and the log never gives it to a second instance.

use std::collections::BTreeMap;

use helix_model::{Event, Id, Instance, State, Volume};

use super::{Failed, fail};
use crate::world::Node;

const NAME: &str = "volumes";

/// Looks at the books after an allocation.
pub(crate) fn planned(failed: &mut Failed, before: &State, event: &Event) {
    let Event::InstanceAllocated(allocated) = event else { return };
    for mount in &allocated.spec.mounts {
        let other = before
            .instances
            .iter()
            .find(|it| it.spec.mounts.iter().any(|theirs| theirs.volume == mount.volume));
        if let Some(other) = other {
            let (volume, id) = (mount.volume, allocated.id);
            fail(failed, NAME, || format!("{volume} of {} is given to {id}", other.id));
        }
    }
}

/// Looks at the nodes themselves.
pub(crate) fn looked(failed: &mut Failed, nodes: &[Node]) {
    let mut users: BTreeMap<Id<Volume>, Id<Instance>> = BTreeMap::new();
    for node in nodes {
        for (id, body) in node.bodies.iter().filter(|(_, body)| body.has_program()) {
            for mount in &body.plan.mounts {
                if let Some(other) = users.insert(mount.volume, *id) {
                    let volume = mount.volume;
                    fail(failed, NAME, || format!("{volume} is with {other} and with {id}"));
                }
            }
        }
    }
}
