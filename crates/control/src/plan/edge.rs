//! What an edge should be serving.

use helix_model::certificate::Serving;
use helix_model::endpoint::{Endpoint, Exposure};
use helix_model::instance::{Desired, Phase};
use helix_model::plan::{Backend, EdgePlan, EndpointPlan, Label, Route};
use helix_model::{Resource, State};

/// The whole plan of the edge: every endpoint with its ready backends.
pub fn edge_plan(state: &State) -> EdgePlan {
    let leaving = state.index.leaving().iter();
    let draining = leaving.filter(|(_, desired)| **desired == Desired::Draining);
    let draining = draining.map(|(id, _)| *id).collect();
    let serving = Serving::of(state);
    let endpoints = state.endpoints.iter();
    let endpoints = endpoints.map(|endpoint| endpoint_plan(state, &serving, endpoint)).collect();
    let orders = state.certificates.iter().flat_map(|it| &it.status.order.challenges);
    EdgePlan { version: state.position, endpoints, draining, challenges: orders.cloned().collect() }
}

fn endpoint_plan(
    state: &State,
    serving: &Serving<'_>,
    endpoint: &Resource<Endpoint>,
) -> EndpointPlan {
    let spec = &endpoint.spec;
    let route = match &spec.exposure {
        Exposure::Http { host } => Route::Http { hosts: vec![host.clone()] },
        Exposure::Tcp { address, listen_port } => {
            Route::Tcp { address: *address, port: *listen_port }
        }
        Exposure::Tls { host, own } => Route::Tls { host: host.clone(), own: *own },
        Exposure::Udp { address, listen_port } => {
            Route::Udp { address: *address, port: *listen_port }
        }
    };
    let backends = state
        .instances
        .children(spec.env.any())
        .filter(|instance| {
            instance.spec.process == spec.process
                && instance.spec.desired == Desired::Running
                && instance.status.observed.phase == Phase::Ready
        })
        .filter_map(|instance| {
            let address = *instance.status.observed.ports.get(&spec.port)?;
            Some(Backend { instance: instance.id, address })
        })
        .collect();
    let certificate = match &spec.exposure {
        Exposure::Http { host } => serving.host(spec.org, host),
        Exposure::Tcp { .. } | Exposure::Tls { .. } | Exposure::Udp { .. } => None,
    };
    let handling = spec.handling;
    let label = label(state, endpoint);
    EndpointPlan { id: endpoint.id, route, certificate, handling, backends, label }
}

fn label(state: &State, endpoint: &Resource<Endpoint>) -> Option<Label> {
    let env = state.envs.get(endpoint.spec.env)?;
    let app = state.apps.get(env.spec.app)?.name.clone();
    Some(Label { app, env: env.name.clone(), endpoint: endpoint.name.clone() })
}
