//! No address, port, host or name has two owners, and no address ever has a
//! second one, but for IPv4 addresses, which envs give up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use helix_model::address::Ipv4Changed;
use helix_model::{AnyId, Env, Event, Id, Noun, State, Table};

use super::{Failed, fail};

const NAME: &str = "owners";

#[derive(Default)]
pub(crate) struct Owners {
    /// Every address ever given out.
    addresses: BTreeMap<Ipv6Addr, AnyId>,
    /// IPv4 addresses that envs have now.
    lent: BTreeMap<Ipv4Addr, Id<Env>>,
}

impl Owners {
    pub(crate) fn happened(&mut self, failed: &mut Failed, state: &State, event: &Event) {
        match event {
            Event::InstanceAllocated(it) => {
                self.give(failed, it.spec.address, it.id.any());
                names(failed, &state.instances);
            }
            Event::EnvCreated(it) => {
                self.give(failed, it.address, it.id.any());
                names(failed, &state.envs);
            }
            Event::EnvIpv4Changed(it) => self.lend(failed, state, it),
            Event::EnvDestroyed(it) => {
                self.lent.retain(|_, owner| owner.any() != it.of.id);
                self.rest(failed, state);
            }
            Event::EndpointCreated(_) | Event::EndpointUpdated(_) | Event::EndpointDeleted(_) => {
                endpoints(failed, state);
                names(failed, &state.endpoints);
            }
            Event::TunnelCreated(_) | Event::TunnelDestroyed(_) => {
                hosts(failed, state);
                names(failed, &state.tunnels);
            }
            Event::OrgCreated(_) => names(failed, &state.orgs),
            Event::ProjectCreated(_) => names(failed, &state.projects),
            Event::AppCreated(_) => names(failed, &state.apps),
            Event::ReleaseCreated(_) => names(failed, &state.releases),
            Event::DeployCreated(_) => names(failed, &state.deploys),
            Event::NodeEnrolled(_) => {
                names(failed, &state.nodes);
                let subnets: BTreeSet<_> = state.nodes.iter().map(|it| it.spec.subnet).collect();
                if subnets.len() != state.nodes.len() {
                    fail(failed, NAME, || "a subnet has two nodes".to_owned());
                }
            }
            _ => {}
        }
    }

    fn lend(&mut self, failed: &mut Failed, state: &State, change: &Ipv4Changed) {
        let (address, env) = (change.address, change.id);
        if !change.enabled {
            self.lent.remove(&address);
            if state.endpoints.children(env.any()).any(|it| it.spec.ipv4) {
                fail(failed, NAME, || format!("{env} gave up {address}, which it needs"));
            }
        } else if let Some(earlier) = self.lent.insert(address, env) {
            fail(failed, NAME, || format!("{address} was given to {earlier} and to {env}"));
        }
        self.rest(failed, state);
    }

    /// What envs have is what is noted of them.
    fn rest(&self, failed: &mut Failed, state: &State) {
        let had = state.envs.iter().filter_map(|env| Some((env.spec.ipv4?, env.id)));
        let had: BTreeMap<_, _> = had.collect();
        if had != self.lent {
            fail(failed, NAME, || format!("envs have {had:?}, and were given {:?}", self.lent));
        }
    }

    fn give(&mut self, failed: &mut Failed, address: Ipv6Addr, owner: AnyId) {
        if let Some(earlier) = self.addresses.insert(address, owner) {
            fail(failed, NAME, || format!("{address} was given to {earlier} and to {owner}"));
        }
    }
}

fn names<N: Noun>(failed: &mut Failed, table: &Table<N>) {
    let mut seen = BTreeSet::new();
    for resource in table.iter() {
        if !seen.insert((resource.parent, resource.name.as_str())) {
            let (kind, name) = (N::KIND, &resource.name);
            fail(failed, NAME, || format!("two of kind {kind} are called {name} in one parent"));
        }
    }
}

/// What an endpoint has and what is kept for it count alike.
fn endpoints(failed: &mut Failed, state: &State) {
    let mut claims = BTreeMap::new();
    for endpoint in state.endpoints.iter() {
        for exposure in endpoint.spec.claims() {
            let id = endpoint.id;
            if state.owner(exposure) != Some(id.any()) {
                fail(failed, NAME, || format!("{exposure:?} of {id} is not noted as its"));
            }
            let place = match exposure.port() {
                Some(port) => format!("{port:?}"),
                None => exposure.shared_host().unwrap_or_default().to_owned(),
            };
            if let Some(other) = claims.insert(place, id) {
                fail(failed, NAME, || format!("{exposure:?} has two owners, {other} and {id}"));
            }
        }
    }
    hosts(failed, state);
}

/// Each host that an endpoint or a tunnel has is noted as its, and no other is.
fn hosts(failed: &mut Failed, state: &State) {
    let claims = state.endpoints.iter().flat_map(|it| it.spec.claims());
    let mut count = claims.filter(|it| it.shared_host().is_some()).count();
    for tunnel in state.tunnels.iter() {
        let Some(host) = tunnel.spec.exposure.host() else { continue };
        count += 1;
        if state.hosts.get(host) != Some(&tunnel.id.any()) {
            fail(failed, NAME, || format!("`{host}` of {} is not noted as its", tunnel.id));
        }
    }
    if state.hosts.len() != count {
        fail(failed, NAME, || "a host is kept for what is not there".to_owned());
    }
}
