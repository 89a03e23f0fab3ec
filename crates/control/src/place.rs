//! Placement: which node gets an instance.
//!
//! Memory is a hard limit and never oversold; beyond that replicas spread. The
//! same state always gives the same answer.

pub use helix_model::instance::OVERHEAD_BYTES;
use helix_model::{Id, Node, Reason, Resource, State, instance};

/// The node for an instance of this size, or why there is none.
pub fn place(state: &State, memory_bytes: u64) -> Result<Id<Node>, Reason> {
    let connected: Vec<_> = state.nodes.iter().filter(|node| node.status.connected).collect();
    if connected.is_empty() {
        return Err(Reason::NoNodesActive);
    }
    connected
        .into_iter()
        .filter(|node| fits(state, node, memory_bytes))
        .min_by_key(|node| (instances_on(state, node.id).count(), node.id))
        .map(|node| node.id)
        .ok_or(Reason::NoCapacityMemory)
}

/// Whether a node has room for one more instance of this size.
pub fn fits(state: &State, node: &Resource<Node>, memory_bytes: u64) -> bool {
    let capacity = node.status.facts.as_ref().map_or(0, |facts| facts.memory_bytes);
    let wanted = memory_bytes.saturating_add(OVERHEAD_BYTES);
    used_bytes(state, node.id).saturating_add(wanted) <= capacity
}

/// Memory set aside on a node, overhead included.
pub fn used_bytes(state: &State, node: Id<Node>) -> u64 {
    instances_on(state, node)
        .map(|instance| instance.spec.memory_bytes.saturating_add(OVERHEAD_BYTES))
        .fold(0, u64::saturating_add)
}

/// Everything that still holds memory there: an instance that was told to stop
/// counts until it is forgotten.
fn instances_on(
    state: &State,
    node: Id<Node>,
) -> impl Iterator<Item = &Resource<instance::Instance>> {
    state.instances.iter().filter(move |instance| instance.spec.node == node)
}
