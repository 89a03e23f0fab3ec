//! What is shown of a node: whether it reports, and whether it is being emptied.

use super::Described;
use crate::condition::{Condition, ConditionKind};
use crate::manifest::format_bytes;
use crate::node::Availability;
use crate::{Node, Reason, Resource, State, Table, reference};

impl Described for Node {
    fn table(state: &State) -> &Table<Self> {
        &state.nodes
    }

    fn conditions(node: &Resource<Node>, state: &State) -> Vec<Condition> {
        let connected = node.status.connected;
        let reason = if connected { "connected" } else { "disconnected" };
        let message = match &node.status.facts {
            Some(facts) if connected => {
                format!("It runs instances as {}.", facts.isolation)
            }
            _ => "It does not report.".to_owned(),
        };
        let left = match (node.spec.availability, state.index.count(node.id)) {
            (Availability::Active, _) => ("active", "It takes instances.".to_owned()),
            (Availability::Cordoned, count) => {
                ("cordoned", format!("It keeps {}, and gets no more.", instances(count)))
            }
            (Availability::Draining, 0) => ("drained", "Nothing is on it any more.".to_owned()),
            (Availability::Draining, count) => {
                ("draining", format!("{} on it, {}.", instances(count), fate(node, state)))
            }
        };
        vec![
            node.standing.condition(ConditionKind::Ready, reason, message),
            node.standing.condition(ConditionKind::Reconciling, left.0, left.1),
            disk_pressure(node),
        ]
    }

    fn difference(node: &Resource<Node>, state: &State) -> Option<String> {
        if !node.status.connected {
            return Some("it is not connected".to_owned());
        }
        if let Some(pressure) = node.status.disk_pressure() {
            return Some(pressure.to_owned());
        }
        let count = state.index.count(node.id);
        let leaves = node.is_draining() && count > 0;
        leaves.then(|| format!("{} on it, {}", instances(count), fate(node, state)))
    }
}

fn disk_pressure(node: &Resource<Node>) -> Condition {
    let (reason, message) = match (&node.status.disk, node.status.disk_pressure()) {
        (_, Some(pressure)) => {
            (Reason::DiskPressure.code(), format!("It gets no more instances: {pressure}."))
        }
        (Some(disk), None) => {
            ("disk_sufficient", format!("{} are free.", format_bytes(disk.free_bytes)))
        }
        (None, None) => ("disk_unknown", "It has not said how its disk is.".to_owned()),
    };
    node.standing.condition(ConditionKind::DiskPressure, reason, message)
}

fn instances(count: usize) -> String {
    match count {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    }
}

/// How many of what stays a message names; the rest is counted.
const NAMED_MAX: usize = 3;

/// What becomes of the instances on a node that is drained.
fn fate(node: &Resource<Node>, state: &State) -> String {
    let load = state.index.load(node.id);
    let carried = load.iter().flat_map(|load| load.instances.keys());
    let stays = carried.filter(|id| {
        state.instances.get(**id).is_some_and(|instance| !instance.spec.mounts.is_empty())
    });
    let stays: Vec<String> = stays.map(|id| reference::path(state, id.any())).collect();
    if stays.is_empty() {
        return "to be replaced elsewhere".to_owned();
    }
    let more = match stays.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = stays.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    format!("of which stay, because their volumes are here: {named}{more}")
}
