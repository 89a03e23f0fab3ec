//! Endpoints: what makes a process reachable, always explicit.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::condition::Facts;
use crate::edge::Linked;
use crate::event::Apply;
use crate::manifest::{AskedEndpoint, Handling, Transport};
use crate::state::{Change, State};
use crate::{Edge, Env, Id, Kind, Name, Noun, Org, Resource};

/// What is desired of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub org: Id<Org>,
    pub env: Id<Env>,
    /// The process it leads to.
    pub process: Name,
    /// The name of that process's port.
    pub port: Name,
    pub exposure: Exposure,
    /// It listens on the env's IPv4 address, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv4: bool,
    /// What happens to what comes in.
    #[serde(flatten)]
    pub handling: Handling,
    /// Made with `helix endpoints expose`: no deploy changes or removes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apart: bool,
    /// What it will be reached by once the deploy that is rolling has succeeded;
    /// kept for it until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Exposure>,
}

impl Endpoint {
    /// The host names and ports that are its own.
    pub fn claims(&self) -> impl Iterator<Item = &Exposure> {
        std::iter::once(&self.exposure).chain(&self.reserved)
    }
}

/// How it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum Exposure {
    /// By host name on the shared HTTP listener.
    Http { host: String },
    /// By port on the env's own IPv6 address.
    Tcp { address: Ipv6Addr, listen_port: u16 },
    /// By the host name that a TLS client sends; without a port of its own on the
    /// shared HTTPS listener.
    Tls {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        own: Option<OwnPort>,
    },
    /// Datagrams to a port of the env's own IPv6 address.
    Udp { address: Ipv6Addr, listen_port: u16 },
}

/// A port of an env's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OwnPort {
    pub address: Ipv6Addr,
    pub listen_port: u16,
}

impl Exposure {
    /// The name that is its own on the shared listeners.
    pub fn shared_host(&self) -> Option<&str> {
        match self {
            Exposure::Http { host } | Exposure::Tls { host, own: None } => Some(host),
            Exposure::Tcp { .. } | Exposure::Tls { own: Some(_), .. } | Exposure::Udp { .. } => {
                None
            }
        }
    }

    /// The port it has to itself, or shares with other names.
    pub fn port(&self) -> Option<PortClaim> {
        let (transport, own, host) = match self {
            Exposure::Http { .. } | Exposure::Tls { own: None, .. } => return None,
            Exposure::Tcp { address, listen_port } => {
                let own = OwnPort { address: *address, listen_port: *listen_port };
                (Transport::Tcp, own, None)
            }
            Exposure::Udp { address, listen_port } => {
                let own = OwnPort { address: *address, listen_port: *listen_port };
                (Transport::Udp, own, None)
            }
            Exposure::Tls { host, own: Some(own) } => (Transport::Tcp, *own, Some(host.clone())),
        };
        Some(PortClaim { transport, own, host })
    }

    /// Whether no two endpoints can be reached like this and like that.
    pub fn collides(&self, other: &Exposure) -> bool {
        if let (Some(one), Some(other)) = (self.shared_host(), other.shared_host()) {
            return one == other;
        }
        match (self.port(), other.port()) {
            (Some(one), Some(other)) => one.collides(&other),
            _ => false,
        }
    }
}

/// A port that belongs to an endpoint: all of it, or what is for a host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortClaim {
    pub transport: Transport,
    pub own: OwnPort,
    /// Before all names, for who has the whole port.
    pub host: Option<String>,
}

impl PortClaim {
    /// Whether two cannot have what is asked for at once.
    pub fn collides(&self, other: &PortClaim) -> bool {
        let is_same_port = self.transport == other.transport && self.own == other.own;
        is_same_port && (self.host.is_none() || other.host.is_none() || self.host == other.host)
    }
}

/// What is known of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where it can be reached at one edge or another.
    #[serde(flatten)]
    pub seen: Seen,
    /// What each edge says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<Id<Edge>, Seen>,
}

/// How an endpoint can be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Where, as a person would type it.
    pub reachable: Vec<String>,
    /// Why it cannot be, or less than asked.
    pub problem: Option<String>,
    /// How far away a client may be; absent where nothing listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// From how far away something can be reached, as far as the address it listens on tells:
/// a firewall may be in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// From this machine.
    Machine,
    /// From networks that this address is known in, but not from the internet.
    Network,
    /// From anywhere.
    Internet,
}

impl Status {
    /// Takes in what an edge says, or that it says nothing any more.
    pub(crate) fn told(&mut self, edge: Id<Edge>, seen: Option<Seen>) {
        match seen {
            Some(seen) => self.edges.insert(edge, seen),
            None => self.edges.remove(&edge),
        };
        let mut all = Seen::default();
        for seen in self.edges.values() {
            for place in &seen.reachable {
                if !all.reachable.contains(place) {
                    all.reachable.push(place.clone());
                }
            }
            all.problem = all.problem.or_else(|| seen.problem.clone());
            all.reach = all.reach.max(seen.reach);
        }
        self.seen = all;
    }
}

impl Noun for Endpoint {
    const KIND: Kind = Kind::Endpoint;
    type Status = Status;

    fn facts(endpoint: &Resource<Endpoint>) -> Option<Facts> {
        let ready = !endpoint.status.seen.reachable.is_empty();
        let degraded = endpoint.status.seen.problem.is_some();
        Some(Facts { ready, reconciling: !ready && !degraded, degraded })
    }
}

/// Command: what an edge says of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    pub endpoint: Id<Endpoint>,
    pub from: Linked,
    pub seen: Seen,
}

/// Command: an env's port is to be reachable, apart from its manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expose {
    pub env: Id<Env>,
    pub endpoint: AskedEndpoint,
    /// In place of the one of the same name, which must be there.
    pub replace: bool,
}

impl Expose {
    pub(crate) fn operation(&self) -> &'static str {
        if self.replace { "update_endpoint" } else { "expose_endpoint" }
    }
}

/// Command: what was exposed apart from the manifest is not to be, any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unexpose {
    pub env: Id<Env>,
    pub name: Name,
}

/// Event: an endpoint was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Endpoint>,
    pub name: Name,
    pub spec: Endpoint,
}

/// Which endpoint an event is about, in words that still tell when it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Of {
    pub id: Id<Endpoint>,
    pub name: Name,
    pub env: Id<Env>,
}

impl Of {
    /// The words for an endpoint.
    pub fn new(endpoint: &Resource<Endpoint>) -> Of {
        Of { id: endpoint.id, name: endpoint.name.clone(), env: endpoint.spec.env }
    }
}

/// Event: an endpoint leads elsewhere now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Updated {
    #[serde(flatten)]
    pub of: Of,
    pub spec: Endpoint,
}

/// Event: an endpoint is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deleted {
    #[serde(flatten)]
    pub of: Of,
}

/// Event: where an endpoint can be reached at an edge changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    #[serde(flatten)]
    pub of: Of,
    #[serde(flatten)]
    pub seen: Seen,
    /// Absent from what was recorded before edges had names; each says it again when it
    /// links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Id<Edge>>,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        claim(state, &self.spec, self.id);
        let parent = Some(self.spec.env.any());
        let endpoint = change.create(self.id, self.name.clone(), parent, self.spec.clone());
        state.endpoints.insert(endpoint);
    }
}

impl Apply for Updated {
    fn apply(&self, state: &mut State, change: Change) {
        if state.endpoints.get(self.of.id).is_none() {
            return;
        }
        release(state, self.of.id);
        claim(state, &self.spec, self.of.id);
        state.endpoints.update(self.of.id, |endpoint| {
            endpoint.spec = self.spec.clone();
            change.touch(endpoint);
        });
    }
}

impl Apply for Deleted {
    fn apply(&self, state: &mut State, _change: Change) {
        release(state, self.of.id);
        state.endpoints.remove(self.of.id);
    }
}

fn claim(state: &mut State, spec: &Endpoint, id: Id<Endpoint>) {
    for exposure in spec.claims() {
        if let Some(host) = exposure.shared_host() {
            state.hosts.insert(host.to_owned(), id.any());
        }
        state.index.claim(exposure, id);
    }
}

/// Gives up what the endpoint owns, and nothing that is another's.
fn release(state: &mut State, id: Id<Endpoint>) {
    let Some(endpoint) = state.endpoints.get(id) else { return };
    for exposure in endpoint.spec.claims() {
        if let Some(host) = exposure.shared_host()
            && state.hosts.get(host) == Some(&id.any())
        {
            state.hosts.remove(host);
        }
        state.index.release(exposure, id);
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.endpoints.update(self.of.id, |endpoint| {
            match self.edge {
                Some(edge) => endpoint.status.told(edge, Some(self.seen.clone())),
                None => endpoint.status.seen = self.seen.clone(),
            }
            change.touch(endpoint);
        });
    }
}
