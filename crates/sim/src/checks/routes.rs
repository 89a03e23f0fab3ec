//! Traffic only goes to instances of the endpoint's own env and process; tenants
//! never see each other's. Checked in every edge plan, and again where a
//! connection really arrives.

use std::collections::BTreeMap;

use helix_model::plan::{EdgePlan, EndpointPlan, InstancePlan};
use helix_model::{Endpoint, Env, Event, Id, Name, Org, State};

use super::{Failed, fail};

const NAME: &str = "routes";

/// Whose an endpoint is, and the processes it has ever led to.
struct Owner {
    org: Id<Org>,
    env: Id<Env>,
    processes: Vec<Name>,
}

#[derive(Default)]
pub(crate) struct Routes {
    /// An edge may be late, but may not be wrong.
    endpoints: BTreeMap<Id<Endpoint>, Owner>,
}

impl Routes {
    pub(crate) fn happened(&mut self, event: &Event) {
        let (id, spec) = match event {
            Event::EndpointCreated(it) => (it.id, &it.spec),
            Event::EndpointUpdated(it) => (it.of.id, &it.spec),
            _ => return,
        };
        let fresh = || Owner { org: spec.org, env: spec.env, processes: Vec::new() };
        self.endpoints.entry(id).or_insert_with(fresh).processes.push(spec.process.clone());
    }

    /// A replica made a plan for the edge.
    pub(crate) fn planned(&self, failed: &mut Failed, plan: &EdgePlan, state: &State) {
        for endpoint in &plan.endpoints {
            let Some(spec) = state.endpoints.get(endpoint.id).map(|it| &it.spec) else { continue };
            for backend in &endpoint.backends {
                let instance = state.instances.get(backend.instance).map(|it| &it.spec);
                let fits = instance.is_some_and(|instance| {
                    instance.env == spec.env
                        && instance.org == spec.org
                        && instance.process == spec.process
                        && backend.address.ip() == instance.address
                });
                if !fits {
                    let (id, backend) = (endpoint.id, backend.instance);
                    fail(failed, NAME, || format!("a plan leads {id} to {backend}"));
                }
            }
        }
    }

    /// A connection to an endpoint arrived at an instance.
    pub(crate) fn opened(
        &self,
        failed: &mut Failed,
        endpoint: &EndpointPlan,
        instance: &InstancePlan,
    ) {
        let fits = self.endpoints.get(&endpoint.id).is_some_and(|owner| {
            instance.org == owner.org
                && instance.env == owner.env
                && owner.processes.contains(&instance.process)
        });
        if !fits {
            let (id, instance) = (endpoint.id, instance.id);
            fail(failed, NAME, || format!("a connection to {id} arrived at {instance}"));
        }
    }
}
