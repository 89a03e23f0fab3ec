//! Plans: the state, seen by one node, one edge or the agent of one tunnel.

mod agent;
mod edge;
mod node;

pub use agent::{candidates, public_place};
pub use edge::edge_plan;
pub use node::node_plan;
