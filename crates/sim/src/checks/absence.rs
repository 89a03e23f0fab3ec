//! What is absent from a node's plan stops: once a plan without it is in force,
//! its program ends within its grace.

use std::collections::BTreeMap;

use helix_model::{Id, Instance};

use super::{Failed, fail};
use crate::agenda::Moment;
use crate::world::Node;

const NAME: &str = "absence";

/// What a node may need beyond the grace: a start under way is seen through
/// before it is undone.
const SLACK_MS: u64 = 10_000;

#[derive(Default)]
pub(crate) struct Absence {
    /// Programs that no plan has, and since when.
    seen: BTreeMap<(usize, Id<Instance>), Moment>,
}

impl Absence {
    pub(crate) fn looked(&mut self, failed: &mut Failed, nodes: &[Node], now: Moment) {
        let mut still = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            if !node.up || node.plan.is_none() {
                continue;
            }
            for (id, body) in &node.bodies {
                if !body.has_program() || node.plans(*id) {
                    continue;
                }
                let since = self.seen.get(&(index, *id)).copied().unwrap_or(now);
                still.insert((index, *id), since);
                if now - since > body.plan.stop_grace_ms + SLACK_MS {
                    let name = &node.name;
                    fail(failed, NAME, || {
                        format!("{id} runs on {name} although no plan has had it since {since} ms")
                    });
                }
            }
        }
        self.seen = still;
    }
}
