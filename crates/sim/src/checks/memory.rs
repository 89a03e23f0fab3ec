//! Memory is never oversold, neither as planned nor as run: what a node's
//! instances may use together fits into what the node has.

use helix_control::place;
use helix_model::{Event, State};

use super::{Failed, fail};
use crate::world::{Body, Node};

const NAME: &str = "memory";

pub(crate) struct Memory;

/// Looks at the books after an allocation.
pub(crate) fn planned(failed: &mut Failed, state: &State, event: &Event) {
    let Event::InstanceAllocated(allocated) = event else { return };
    let Some(node) = state.nodes.get(allocated.spec.node) else {
        return fail(failed, NAME, || "an instance was placed on a node that is not".to_owned());
    };
    let capacity = node.status.facts.as_ref().map_or(0, |facts| facts.memory_bytes);
    let used = place::used_bytes(state, node.id);
    if used > capacity {
        let name = &node.name;
        fail(failed, NAME, || format!("{used} of {capacity} bytes of {name} are given away"));
    }
}

impl Memory {
    /// Looks at the node itself.
    pub(crate) fn runs(&self, failed: &mut Failed, node: &Node) {
        let used: u64 = node.bodies.values().map(Body::memory_bytes).sum();
        if used > node.memory_bytes {
            let (name, capacity) = (&node.name, node.memory_bytes);
            fail(failed, NAME, || format!("programs of {used} bytes run on {name}, of {capacity}"));
        }
    }
}
