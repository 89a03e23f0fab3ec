//! Placement: which node gets an instance.
//!
//! Memory is a hard limit and never oversold, and so is the space for volumes;
//! beyond that instances spread. What has volumes goes where they are and nowhere
//! else. The same state always gives the same answer, and the number of nodes
//! hardly matters: [`helix_model::index`] keeps them in the order asked for here.

use std::collections::BTreeSet;

use helix_model::index::footprint_bytes;
use helix_model::node::Availability;
use helix_model::volume::{self, Mount};
use helix_model::{Env, Id, Instance, Name, Node, Reason, Resource, State, Volume, manifest};

/// A place for one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub node: Id<Node>,
    /// The volumes it has there.
    pub mounts: Vec<Mount>,
}

impl Seat {
    /// Of an instance without volumes.
    pub fn on(node: Id<Node>) -> Seat {
        Seat { node, mounts: Vec::new() }
    }
}

/// The node for an instance of this size, or why there is none.
pub fn place(state: &State, memory_bytes: u64) -> Result<Id<Node>, Reason> {
    if state.index.has_no_nodes() {
        let is_full = state.nodes.iter().any(Resource::<Node>::is_usable);
        return Err(if is_full { Reason::DiskPressure } else { Reason::NoNodesActive });
    }
    state.index.roomiest(footprint_bytes(memory_bytes)).ok_or(Reason::NoCapacityMemory)
}

/// The place for an instance of a process, or why there is none. What `yielding`
/// instances have, volumes and memory, counts as free.
pub fn seat(
    state: &State,
    env: Id<Env>,
    (name, process): (&Name, &manifest::Process),
    yielding: &[&Resource<Instance>],
) -> Result<Seat, Reason> {
    let memory_bytes = process.resources.memory_bytes;
    if process.mounts.is_empty() {
        return place(state, memory_bytes).map(Seat::on);
    }
    let found = mounted(state, env, name, process)?;
    let is_kept = |user: Id<Instance>| !yielding.iter().any(|instance| instance.id == user);
    if found.iter().any(|(it, _)| state.index.user(it.id).is_some_and(is_kept)) {
        return Err(Reason::VolumeInUse);
    }
    let homes: BTreeSet<Id<Node>> = found.iter().filter_map(|(it, _)| it.spec.node).collect();
    let node = match (homes.first(), homes.len()) {
        (None, _) => first_home(state, memory_bytes, unplaced_bytes(&found))?,
        (Some(home), 1) => at_home(state, *home, memory_bytes, yielding, unplaced_bytes(&found))?,
        _ => return Err(Reason::VolumeConstraintsInvalid),
    };
    Ok(Seat { node, mounts: found.into_iter().map(|(_, mount)| mount).collect() })
}

/// The volumes of a process, with where each is mounted.
fn mounted<'s>(
    state: &'s State,
    env: Id<Env>,
    name: &Name,
    process: &manifest::Process,
) -> Result<Vec<(&'s Resource<Volume>, Mount)>, Reason> {
    let one = |mount: &manifest::Mount| {
        let mut attached = volume::attached_to(state, env);
        let found = attached.find(|volume| {
            let attachment = volume.spec.attachment.as_ref();
            attachment.is_some_and(|it| it.name == mount.volume && it.process == *name)
        });
        let found = found.filter(|it| state.destroying_since(it.id.any()).is_none());
        let found = found.ok_or(Reason::VolumeConstraintsInvalid)?;
        let (path, read_only) = (mount.path.clone(), mount.read_only);
        Ok((found, Mount { volume: found.id, path, read_only }))
    };
    process.mounts.iter().map(one).collect()
}

fn unplaced_bytes(found: &[(&Resource<Volume>, Mount)]) -> u64 {
    let unplaced = found.iter().filter(|(volume, _)| volume.spec.node.is_none());
    unplaced.map(|(volume, _)| volume.spec.size_bytes).sum()
}

/// Where volumes that have no home yet and their instance both have room.
fn first_home(state: &State, memory_bytes: u64, volume_bytes: u64) -> Result<Id<Node>, Reason> {
    place(state, memory_bytes)?;
    let mut roomy = state.index.roomy(footprint_bytes(memory_bytes));
    let takes = |id: &Id<Node>| {
        state.nodes.get(*id).is_some_and(|node| free_volume_bytes(state, node) >= volume_bytes)
    };
    roomy.find(takes).ok_or(Reason::NoCapacityVolume)
}

fn at_home(
    state: &State,
    home: Id<Node>,
    memory_bytes: u64,
    yielding: &[&Resource<Instance>],
    volume_bytes: u64,
) -> Result<Id<Node>, Reason> {
    let node = state.nodes.get(home).filter(|node| node.status.connected);
    let node = node.ok_or(Reason::VolumeHomeNodeOffline)?;
    if node.spec.availability != Availability::Active {
        return Err(Reason::VolumeLocalityNoNode);
    }
    if !node.takes_instances() {
        return Err(Reason::DiskPressure);
    }
    let given_back = yielding.iter().filter(|instance| instance.spec.node == home);
    let given_back: u64 =
        given_back.map(|instance| footprint_bytes(instance.spec.memory_bytes)).sum();
    let used = used_bytes(state, home).saturating_sub(given_back);
    if used.saturating_add(footprint_bytes(memory_bytes)) > capacity_bytes(node) {
        return Err(Reason::NoCapacityMemory);
    }
    if volume_bytes > 0 && free_volume_bytes(state, node) < volume_bytes {
        return Err(Reason::NoCapacityVolume);
    }
    Ok(home)
}

/// Whether a node has room for one more instance of this size.
pub fn fits(state: &State, node: &Resource<Node>, memory_bytes: u64) -> bool {
    let used = used_bytes(state, node.id);
    used.saturating_add(footprint_bytes(memory_bytes)) <= capacity_bytes(node)
}

fn capacity_bytes(node: &Resource<Node>) -> u64 {
    node.status.facts.as_ref().map_or(0, |facts| facts.memory_bytes)
}

/// Memory set aside on a node, overhead included: an instance that was told to
/// stop counts until it is forgotten.
pub fn used_bytes(state: &State, node: Id<Node>) -> u64 {
    state.index.load(node).map_or(0, |load| load.memory_bytes)
}

/// How much more volumes may take on a node; nothing where it keeps none.
pub fn free_volume_bytes(state: &State, node: &Resource<Node>) -> u64 {
    let facts = node.status.facts.as_ref().and_then(|facts| facts.volumes.as_ref());
    let capacity = facts.map_or(0, |volumes| volumes.capacity_bytes);
    let homed = state.index.volumes(node.id).filter_map(|id| state.volumes.get(id));
    let used: u64 = homed.map(|volume| volume.spec.size_bytes).sum();
    capacity.saturating_sub(used)
}

/// Why a node cannot be the home of a new volume of this size.
pub fn refusal_of_volume(state: &State, node: &Resource<Node>, size_bytes: u64) -> Option<Reason> {
    if !node.status.connected {
        return Some(Reason::VolumeHomeNodeOffline);
    }
    if !node.is_usable() {
        return Some(Reason::VolumeLocalityNoNode);
    }
    if !node.takes_instances() {
        return Some(Reason::DiskPressure);
    }
    (free_volume_bytes(state, node) < size_bytes).then_some(Reason::NoCapacityVolume)
}
