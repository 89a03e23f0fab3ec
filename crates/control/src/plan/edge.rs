//! What an edge should be serving.

use std::collections::BTreeSet;
use std::net::IpAddr;

use helix_model::address::is_served;
use helix_model::certificate::Serving;
use helix_model::endpoint::{Endpoint, Exposure};
use helix_model::instance::{Desired, Phase};
use helix_model::plan::{Backend, EdgePlan, EndpointPlan, Label, Route, TunnelKey, TunnelPlan};
use helix_model::{Edge, Id, Resource, State, tunnel};
use ipnet::IpNet;

/// The whole plan of an edge: every endpoint it is to serve, with its ready backends.
pub fn edge_plan(state: &State, edge: Id<Edge>) -> EdgePlan {
    let leaving = state.index.leaving().iter();
    let draining = leaving.filter(|(_, desired)| **desired == Desired::Draining);
    let draining = draining.map(|(id, _)| *id).collect();
    let serving = Serving::of(state);
    let facts = state.edges.get(edge).and_then(|edge| edge.status.facts.as_ref());
    let prefixes = facts.map(|facts| facts.addresses.as_slice()).unwrap_or_default();
    let mut endpoints = Vec::new();
    let mut others = BTreeSet::new();
    for endpoint in state.endpoints.iter() {
        match endpoint_plan(state, &serving, prefixes, endpoint) {
            Some(plan) => endpoints.push(plan),
            None => others.extend(backends(state, endpoint).map(|it| it.instance)),
        }
    }
    let orders = state.certificates.iter().flat_map(|it| &it.status.order.challenges);
    EdgePlan {
        version: state.position,
        installation: Some(state.network),
        endpoints,
        draining,
        elsewhere: others,
        challenges: orders.cloned().collect(),
        tunnels: tunnels(state, &serving),
        tunnel_keys: tunnel_keys(state),
    }
}

/// An endpoint at an edge that serves these prefixes; `None` where its addresses are
/// those of other edges.
fn endpoint_plan(
    state: &State,
    serving: &Serving<'_>,
    prefixes: &[IpNet],
    endpoint: &Resource<Endpoint>,
) -> Option<EndpointPlan> {
    let spec = &endpoint.spec;
    let mut addresses = Vec::new();
    if let Some(port) = spec.exposure.port() {
        let own = IpAddr::V6(port.own.address);
        let ipv4 = state.envs.get(spec.env).and_then(|env| env.spec.ipv4).filter(|_| spec.ipv4);
        let all = [Some(own), ipv4.map(IpAddr::V4)].into_iter().flatten();
        addresses.extend(all.filter(|it| is_served(state, prefixes, *it)));
        if addresses.is_empty() {
            return None;
        }
        if addresses == [own] {
            addresses.clear();
        }
    }
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
    let certificate = match &spec.exposure {
        Exposure::Http { host } => serving.host(spec.org, host),
        Exposure::Tcp { .. } | Exposure::Tls { .. } | Exposure::Udp { .. } => None,
    };
    let (handling, backends) = (spec.handling, backends(state, endpoint).collect());
    let (id, label) = (endpoint.id, label(state, endpoint));
    Some(EndpointPlan { id, route, addresses, certificate, handling, backends, label })
}

/// Every tunnel that is in use.
fn tunnels(state: &State, serving: &Serving<'_>) -> Vec<TunnelPlan> {
    let used = state.tunnels.iter().filter(|it| it.spec.disabled.is_none());
    let plan = used.map(|it| {
        let certificate = match &it.spec.exposure {
            tunnel::Exposure::Http { host } => serving.host(it.spec.org, host),
            // What is not decrypted needs none.
            tunnel::Exposure::Tls { .. }
            | tunnel::Exposure::Tcp { .. }
            | tunnel::Exposure::Udp { .. } => None,
        };
        TunnelPlan {
            id: it.id,
            name: it.name.clone(),
            exposure: it.spec.exposure.clone(),
            generation: it.spec.generation,
            certificate,
        }
    });
    plan.collect()
}

fn tunnel_keys(state: &State) -> Vec<TunnelKey> {
    let keys = state.tunnel_keys.iter();
    keys.map(|key| TunnelKey { id: key.id.clone(), public: key.public.clone() }).collect()
}

/// The ready instances behind an endpoint.
fn backends<'s>(
    state: &'s State,
    endpoint: &'s Resource<Endpoint>,
) -> impl Iterator<Item = Backend> + 's {
    let spec = &endpoint.spec;
    let ready = state.instances.children(spec.env.any()).filter(|instance| {
        instance.spec.process == spec.process
            && instance.spec.desired == Desired::Running
            && instance.status.observed.phase == Phase::Ready
    });
    ready.filter_map(|instance| {
        let address = *instance.status.observed.ports.get(&spec.port)?;
        Some(Backend { instance: instance.id, address })
    })
}

fn label(state: &State, endpoint: &Resource<Endpoint>) -> Option<Label> {
    let env = state.envs.get(endpoint.spec.env)?;
    let app = state.apps.get(env.spec.app)?.name.clone();
    Some(Label { app, env: env.name.clone(), endpoint: endpoint.name.clone() })
}
