//! An instance's own way out: from draining to stopped to forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use helix_model::instance::{Desired, Instance, Observe, Observed, Phase, SetDesired};
use helix_model::{Command, Reason, Resource, State, Timestamp};

/// The next step of an instance that is on its way out.
pub(super) fn step(
    state: &State,
    instance: &Resource<Instance>,
    now: Timestamp,
) -> Option<Command> {
    match instance.spec.desired {
        Desired::Running => lost_with_its_volume(state, instance, now),
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

/// What has a volume is not replaced elsewhere when its node is lost; it only stops
/// counting as one that serves.
fn lost_with_its_volume(
    state: &State,
    instance: &Resource<Instance>,
    now: Timestamp,
) -> Option<Command> {
    let node = state.nodes.get(instance.spec.node)?;
    if !awaits_its_node(state, instance) || !node.is_lost(now) {
        return None;
    }
    let reason = Reason::VolumeHomeNodeOffline;
    let message = format!("its volume is on node {}, which does not report", node.name);
    let observed = Observed {
        phase: Phase::Failed,
        reason: Some(reason),
        message: Some(message),
        ports: BTreeMap::new(),
        ..instance.status.observed.clone()
    };
    let observe = Observe { instance: instance.id, observed, link: None };
    Some(Command::ObserveInstance(observe))
}

/// Whether it has a volume, its node is away and nobody has said so of it yet.
pub(super) fn awaits_its_node(state: &State, instance: &Resource<Instance>) -> bool {
    let node = state.nodes.get(instance.spec.node);
    !instance.spec.mounts.is_empty()
        && node.is_some_and(|node| !node.status.connected)
        && instance.status.observed.reason != Some(Reason::VolumeHomeNodeOffline)
}

/// Nothing is open to it at any edge (nothing ever was to one that never began), or
/// its grace is over.
fn is_empty(state: &State, instance: &Resource<Instance>, now: Timestamp) -> bool {
    let grace = state
        .releases
        .get(instance.spec.release)
        .and_then(|release| release.spec.manifest.process(&instance.spec.process))
        .map_or(Duration::ZERO, |process| Duration::from_secs(process.stop_grace_seconds));
    let since = instance.status.draining_since.unwrap_or(now);
    let never_began =
        instance.status.observed.phase == Phase::Pending && instance.status.ready_at.is_none();
    never_began || is_drained(state, instance, now) || now.since(since) >= grace
}

/// Whether every edge has let go of it. Where none has ever linked, nobody could say so.
fn is_drained(state: &State, instance: &Resource<Instance>, now: Timestamp) -> bool {
    let mut counting = state.edges.iter().filter(|edge| edge.counts(now));
    state.edges.iter().next().is_some()
        && counting.all(|edge| instance.status.drained_by.contains(&edge.id))
}
