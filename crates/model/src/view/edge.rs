//! What is shown of an edge: whether it reports.

use super::Described;
use crate::condition::{Condition, ConditionKind};
use crate::{Edge, Resource, State, Table};

impl Described for Edge {
    fn table(state: &State) -> &Table<Self> {
        &state.edges
    }

    fn conditions(edge: &Resource<Edge>, _state: &State) -> Vec<Condition> {
        let (reason, message) = match edge.status.connected {
            true => ("connected", "It takes plans."),
            false => ("disconnected", "It does not report; if it runs, it serves its last plan."),
        };
        vec![edge.standing.condition(ConditionKind::Ready, reason, message)]
    }

    fn difference(edge: &Resource<Edge>, _state: &State) -> Option<String> {
        (!edge.status.connected).then(|| "it is not connected".to_owned())
    }
}
