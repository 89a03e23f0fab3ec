//! Deciding on instances: reconcilers call for them, nodes report on them.
//!
//! What a shell reports late or twice is not an error; it is simply no news.

use helix_model::bundle::Pin;
use helix_model::instance::{self, Desired, Of};
use helix_model::tally::Need;
use helix_model::{
    AnyId, Code, Deploy, Env, Event, Id, Instance, Kind, Name, Problem, Reason, Resource, State,
    network, quota, volume,
};

use super::{Draft, destroy};
use crate::place;

/// Calls for an instance on a node that has room for it.
pub(super) fn allocate(
    draft: &mut Draft<'_, '_>,
    command: &instance::Allocate,
) -> Result<Option<AnyId>, Problem> {
    let state = &draft.state;
    let Some(env) = state.envs.get(command.env) else {
        return Err(Problem::not_found(Kind::Env, &command.env.to_string()));
    };
    destroy::refuse_going(state, env.id.any())?;
    let process = state
        .releases
        .get(command.release)
        .and_then(|release| release.spec.manifest.process(&command.process));
    let Some(process) = process else {
        return Err(Problem::not_found(Kind::Release, &command.release.to_string()));
    };
    let need = Need::of_one(process);
    if let Some(dimension) = quota::blocking(state, env.spec.org, need) {
        let used = state.tally(env.spec.org).present.get(dimension).unwrap_or(0);
        let more = need.get(dimension).unwrap_or(0);
        return Err(quota::exceeded(state, env.spec.org, dimension, used, more));
    }
    let memory_bytes = process.resources.memory_bytes;
    let unplaceable = |reason: Reason| {
        let detail = format!("`{}` cannot be placed: {}", command.process, reason.meaning());
        Problem::new(Code::PreconditionFailed, detail)
    };
    let (node, mounts) = match command.node {
        Some(node) if process.mounts.is_empty() => (node, Vec::new()),
        wanted => {
            let seat = place::seat(state, env.id, (&command.process, process), &[]);
            let seat = seat.map_err(unplaceable)?;
            if wanted.is_some_and(|wanted| wanted != seat.node) {
                return Err(unplaceable(Reason::VolumeLocalityNoNode));
            }
            (seat.node, seat.mounts)
        }
    };
    let Some(node) = state.nodes.get(node) else {
        return Err(Problem::not_found(Kind::Node, &node.to_string()));
    };
    if !place::fits(state, node, memory_bytes) {
        let detail = format!("node `{}` has no room for {memory_bytes} bytes", node.name);
        return Err(Problem::new(Code::PreconditionFailed, detail));
    }
    let name = next_name(env, &command.process)?;
    let spec = Instance {
        org: env.spec.org,
        env: command.env,
        release: command.release,
        deploy: command.deploy,
        process: command.process.clone(),
        node: node.id,
        address: network::instance_address(
            state.network,
            node.spec.subnet,
            state.instances_allocated + 1,
        ),
        memory_bytes,
        secrets: brought(state, env, command.deploy),
        mounts,
        desired: Desired::Running,
    };
    place_volumes(draft, &spec);
    let id = draft.fresh_id();
    draft.emit(Event::InstanceAllocated(instance::Allocated { id, name, spec }));
    Ok(Some(id.any()))
}

/// The secrets of an instance: those that its deploy brings, else what serves.
fn brought(state: &State, env: &Resource<Env>, deploy: Option<Id<Deploy>>) -> Option<Pin> {
    match deploy.and_then(|deploy| state.deploys.get(deploy)) {
        Some(deploy) => deploy.spec.secrets,
        None => env.status.secrets,
    }
}

/// What the next instance of a process is called.
fn next_name(env: &Resource<Env>, process: &Name) -> Result<Name, Problem> {
    let number = env.status.instances.get(process).copied().unwrap_or(0) + 1;
    // Process names may use all 32 characters; the number must still fit.
    let stem: String = process.as_str().chars().take(20).collect();
    format!("{stem}-{number}").parse().map_err(|error: helix_model::name::NameError| {
        Problem::new(Code::Internal, error.to_string())
    })
}

/// Volumes that have no home yet are where their first instance is.
fn place_volumes(draft: &mut Draft<'_, '_>, spec: &Instance) {
    for mount in &spec.mounts {
        if let Some(known) = draft.state.volumes.get(mount.volume)
            && known.spec.node.is_none()
        {
            let (of, node) = (volume::Of::new(known), spec.node);
            draft.emit(Event::VolumePlaced(volume::Placed { of, node }));
        }
    }
}

/// Moves an instance along its life, never back.
pub(super) fn set_desired(
    draft: &mut Draft<'_, '_>,
    command: &instance::SetDesired,
) -> Option<AnyId> {
    let rank = |desired| match desired {
        Desired::Running => 0,
        Desired::Draining => 1,
        Desired::Stopped => 2,
    };
    let known = draft.state.instances.get(command.instance)?;
    if rank(command.desired) > rank(known.spec.desired) {
        let (of, desired) = (Of::new(known), command.desired);
        draft.emit(Event::InstanceDesiredChanged(instance::DesiredChanged { of, desired }));
    }
    Some(command.instance.any())
}

/// Notes what a node sees, when it is news. What comes over a link that the node
/// has given up since may be older than what is known.
pub(super) fn observe(draft: &mut Draft<'_, '_>, command: &instance::Observe) -> Option<AnyId> {
    let known = draft.state.instances.get(command.instance)?;
    let present = draft.state.nodes.get(known.spec.node).map(|node| node.status.link);
    let is_present = command.link.is_none() || command.link == present;
    if is_present && known.status.observed != command.observed {
        let (of, observed) = (Of::new(known), command.observed.clone());
        draft.emit(Event::InstanceStatusChanged(instance::StatusChanged { of, observed }));
    }
    Some(command.instance.any())
}

/// Notes that an edge has nothing open to a draining instance any more. What comes over
/// a link that the edge has replaced is no news.
pub(super) fn mark_drained(
    draft: &mut Draft<'_, '_>,
    command: &instance::MarkDrained,
) -> Option<AnyId> {
    let known = draft.state.instances.get(command.instance)?;
    let edge = command.from.edge;
    if known.spec.desired == Desired::Draining
        && !known.status.drained_by.contains(&edge)
        && command.from.is_current(&draft.state)
    {
        let (of, edge) = (Of::new(known), Some(edge));
        draft.emit(Event::InstanceDrained(instance::Drained { of, edge }));
    }
    Some(command.instance.any())
}

/// Notes that an edge began or ceased to send an instance new work.
pub(super) fn set_routed(
    draft: &mut Draft<'_, '_>,
    command: &instance::SetRouted,
) -> Option<AnyId> {
    let known = draft.state.instances.get(command.instance)?;
    let edge = command.from.edge;
    if known.status.routed_by.contains(&edge) != command.routed
        && command.from.is_current(&draft.state)
    {
        let (of, routed, edge) = (Of::new(known), command.routed, Some(edge));
        draft.emit(Event::InstanceRoutedChanged(instance::RoutedChanged { of, routed, edge }));
    }
    Some(command.instance.any())
}

/// Forgets an instance that was to stop and has.
pub(super) fn forget(draft: &mut Draft<'_, '_>, id: Id<Instance>) -> Option<AnyId> {
    let known = draft.state.instances.get(id)?;
    if known.spec.desired == Desired::Stopped {
        let of = Of::new(known);
        draft.emit(Event::InstanceRemoved(instance::Removed { of }));
    }
    None
}
