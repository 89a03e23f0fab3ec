//! A port of the edges has one tunnel, and edges are told of just those tunnels that are
//! in use. That hosts have one owner is looked at with those of endpoints.

use std::collections::BTreeSet;

use helix_model::plan::EdgePlan;
use helix_model::{Event, State};

use super::{Failed, fail};

const NAME: &str = "tunnels";

pub(crate) struct Tunnels;

impl Tunnels {
    pub(crate) fn happened(&self, failed: &mut Failed, state: &State, event: &Event) {
        let Event::TunnelCreated(_) = event else { return };
        let ports = state.tunnels.iter().filter_map(|it| it.spec.exposure.port());
        let mut seen = BTreeSet::new();
        for port in ports {
            if !seen.insert(port) {
                fail(failed, NAME, || format!("{port:?} has two tunnels"));
            }
        }
    }

    /// A replica made a plan for an edge.
    pub(crate) fn planned(&self, failed: &mut Failed, plan: &EdgePlan, state: &State) {
        let used = state.tunnels.iter().filter(|it| it.spec.disabled.is_none());
        let used: BTreeSet<_> = used.map(|it| (it.id, it.spec.generation)).collect();
        let planned: BTreeSet<_> = plan.tunnels.iter().map(|it| (it.id, it.generation)).collect();
        if used != planned {
            fail(failed, NAME, || format!("in use are {used:?}, and planned {planned:?}"));
        }
    }
}
