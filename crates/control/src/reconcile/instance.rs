//! An instance's own way out: from draining to stopped to forgotten.

use std::time::Duration;

use helix_model::instance::{Desired, Instance, Phase, SetDesired};
use helix_model::{Command, Resource, State, Timestamp};

/// The next step of an instance that is on its way out.
pub(super) fn step(
    state: &State,
    instance: &Resource<Instance>,
    now: Timestamp,
) -> Option<Command> {
    match instance.spec.desired {
        Desired::Running => None,
        Desired::Draining if is_empty(state, instance, now) => {
            let desired = Desired::Stopped;
            Some(Command::SetInstanceDesired(SetDesired { instance: instance.id, desired }))
        }
        Desired::Draining => None,
        // Only its node knows that it is gone, also of one that never began: the
        // plan that asks for it may still be on its way there.
        Desired::Stopped => (instance.status.observed.phase == Phase::Stopped)
            .then_some(Command::ForgetInstance(instance.id)),
    }
}

/// Nothing is open to it (nothing ever was to one that never began), or its
/// grace is over.
fn is_empty(state: &State, instance: &Resource<Instance>, now: Timestamp) -> bool {
    let grace = state
        .releases
        .get(instance.spec.release)
        .and_then(|release| release.spec.manifest.processes.get(&instance.spec.process))
        .map_or(Duration::ZERO, |process| Duration::from_secs(process.stop_grace_seconds));
    let since = instance.status.draining_since.unwrap_or(now);
    let never_began =
        instance.status.observed.phase == Phase::Pending && instance.status.ready_at.is_none();
    never_began || instance.status.drained || now.since(since) >= grace
}
