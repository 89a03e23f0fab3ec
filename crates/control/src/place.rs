//! Placement: which node gets an instance.
//!
//! Memory is a hard limit and never oversold; beyond that instances spread. The
//! same state always gives the same answer, and the number of nodes hardly
//! matters: [`helix_model::index`] keeps them in the order asked for here.

use helix_model::index::footprint_bytes;
use helix_model::{Id, Node, Reason, Resource, State};

/// The node for an instance of this size, or why there is none.
pub fn place(state: &State, memory_bytes: u64) -> Result<Id<Node>, Reason> {
    if state.index.has_no_nodes() {
        return Err(Reason::NoNodesActive);
    }
    state.index.roomiest(footprint_bytes(memory_bytes)).ok_or(Reason::NoCapacityMemory)
}

/// Whether a node has room for one more instance of this size.
pub fn fits(state: &State, node: &Resource<Node>, memory_bytes: u64) -> bool {
    let capacity = node.status.facts.as_ref().map_or(0, |facts| facts.memory_bytes);
    used_bytes(state, node.id).saturating_add(footprint_bytes(memory_bytes)) <= capacity
}

/// Memory set aside on a node, overhead included: an instance that was told to
/// stop counts until it is forgotten.
pub fn used_bytes(state: &State, node: Id<Node>) -> u64 {
    state.index.load(node).map_or(0, |load| load.memory_bytes)
}
