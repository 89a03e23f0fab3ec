//! Plans: the state, seen by one node or one edge.

mod edge;
mod node;

pub use edge::edge_plan;
pub use node::node_plan;
