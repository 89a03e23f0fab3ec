//! A draining instance with open work is not stopped before its grace is over,
//! and is not taken for drained while anything is open to it.

use std::collections::BTreeMap;

use helix_model::instance::Desired;
use helix_model::{Event, Id, Instance, State};

use super::{Failed, fail};
use crate::agenda::Moment;
use crate::world::Edge;

const NAME: &str = "grace";

/// The grace counts from the decision, this checker from the append.
const APPEND_MS: u64 = 1000;

pub(crate) struct Grace {
    /// By how much two clocks may differ, which no replica can know.
    tolerance_ms: u64,
    /// Until when open work is safe.
    until: BTreeMap<Id<Instance>, Moment>,
}

impl Grace {
    pub(crate) fn new(skew_max_ms: u64) -> Grace {
        Grace { tolerance_ms: 2 * skew_max_ms + APPEND_MS, until: BTreeMap::new() }
    }

    pub(crate) fn happened(
        &mut self,
        failed: &mut Failed,
        state: &State,
        event: &Event,
        now: Moment,
        edges: &[Edge],
    ) {
        match event {
            Event::InstanceDesiredChanged(changed) if changed.desired == Desired::Draining => {
                let grace = state.instances.get(changed.of.id).and_then(|instance| {
                    let release = state.releases.get(instance.spec.release)?;
                    let process = release.spec.manifest.processes.get(&instance.spec.process)?;
                    Some(process.stop_grace_seconds * 1000)
                });
                self.until.insert(changed.of.id, now + grace.unwrap_or(0));
            }
            // Whoever gives a machine up gives up what is open there.
            Event::InstanceRemoved(removed) => {
                self.until.remove(&removed.of.id);
            }
            Event::InstanceDrained(drained) => {
                let id = drained.of.id;
                let said = drained.edge.and_then(|edge| state.edges.get(edge));
                let here = |edge: &&Edge| said.is_some_and(|said| said.name == edge.name);
                if edges.iter().find(here).is_some_and(|edge| edge.work.contains_key(&id)) {
                    let message = || format!("{id} was taken for drained with work open to it");
                    fail(failed, NAME, message);
                }
            }
            _ => {}
        }
    }

    /// A node asks an instance to end because no plan has it.
    pub(crate) fn ended(&self, failed: &mut Failed, id: Id<Instance>, now: Moment, edges: &[Edge]) {
        let Some(until) = self.until.get(&id) else { return };
        let is_open = edges.iter().any(|edge| edge.work.contains_key(&id));
        if is_open && now + self.tolerance_ms < *until {
            fail(failed, NAME, || {
                format!("{id} was stopped with work open to it, {} ms early", until - now)
            });
        }
    }
}
