//! What is shown of a snapshot: whether it is there, of which moment.

use super::{Described, three};
use crate::condition::Condition;
use crate::snapshot::Phase;
use crate::{Reason, Resource, Snapshot, State, Table};

impl Described for Snapshot {
    fn table(state: &State) -> &Table<Self> {
        &state.snapshots
    }

    fn conditions(snapshot: &Resource<Snapshot>, state: &State) -> Vec<Condition> {
        let observed = &snapshot.status.observed;
        let (reason, message) = match (away(snapshot, state), observed.reason) {
            (Some(message), _) => (Reason::VolumeHomeNodeOffline.code(), message),
            (None, Some(reason)) => {
                let message = observed.message.clone();
                (reason.code(), message.unwrap_or_else(|| reason.meaning().to_owned()))
            }
            (None, None) => told(snapshot),
        };
        three(&snapshot.standing, reason, &message)
    }

    fn difference(snapshot: &Resource<Snapshot>, state: &State) -> Option<String> {
        let observed = &snapshot.status.observed;
        away(snapshot, state).or_else(|| match observed.phase {
            Phase::Available => None,
            Phase::Failed => observed.message.clone(),
            _ => Some("its node has not taken it yet".to_owned()),
        })
    }
}

/// Why it cannot be used: its node does not report, or is no more.
fn away(snapshot: &Resource<Snapshot>, state: &State) -> Option<String> {
    if snapshot.spec.backup && snapshot.status.observed.phase == Phase::Available {
        return None;
    }
    match state.nodes.get(snapshot.spec.node) {
        Some(node) if node.status.connected => None,
        Some(node) => Some(format!("its node {} does not report", node.name)),
        None => Some("its node was destroyed, and the snapshot with it".to_owned()),
    }
}

fn told(snapshot: &Resource<Snapshot>) -> (&'static str, String) {
    let observed = &snapshot.status.observed;
    match (observed.phase, observed.taken_at) {
        (Phase::Available, Some(at)) => {
            let paused = observed.paused_ms.unwrap_or(0);
            ("available", format!("Taken at {at}; writers waited for {paused} ms."))
        }
        (Phase::Available, None) => ("available", "It is there.".to_owned()),
        (Phase::Removed, _) => ("removed", "It was removed.".to_owned()),
        (Phase::Failed, _) => ("failed", "There is none.".to_owned()),
        (Phase::Sending, _) => ("sending", "Its node is sending it to the store.".to_owned()),
        (Phase::Pending | Phase::Taking, _) => ("taking", "Its node is taking it.".to_owned()),
    }
}
