//! Tunnels: a public name or port that leads to a program somewhere else, offered
//! by an agent that connects from there.
//!
//! A tunnel exists apart from its agent: the name stays its owner's while the laptop
//! sleeps. It goes when nobody has offered anything by it for as long as its recreate
//! tokens live, unless it is reserved. Start from [`Tunnel`] and [`Status`]. Must not
//! know what a token looks like or how an agent connects.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bundle::VersionId;
use crate::condition::Facts;
use crate::event::{Actor, Apply};
use crate::plan::AttachedAgent;
use crate::state::{Change, State};
use crate::{AnyId, Edge, Id, Kind, Name, Noun, Org, Resource, Timestamp, User, manifest};

mod anonymous;
mod ask;
mod ports;

pub use anonymous::{
    ANONYMOUS, ANONYMOUS_KEPT_FOR, ANONYMOUS_MAX, Anonymous, AnonymousSet, SetAnonymous,
};
pub use ask::{Ask, Create, Observe, Set, SetKey, Told, Wish};
pub use ports::{PortRange, PortsSet, SetPorts};

/// Names below the apps' domain that no tunnel gets: visitors and mail programs take
/// them for the installation's own, or it will want them for itself; `token` is a path
/// of the API.
pub const RESERVED_NAMES: [&str; 29] = [
    "admin",
    "api",
    "app",
    "apps",
    "auth",
    "autoconfig",
    "autodiscover",
    "console",
    "dashboard",
    "edge",
    "ftp",
    "git",
    "helix",
    "imap",
    "login",
    "mail",
    "mx",
    "ns",
    "ns1",
    "ns2",
    "pop",
    "registry",
    "smtp",
    "status",
    "support",
    "token",
    "tunnels",
    "webmail",
    "www",
];

/// How long a name is kept for its owner unless asked otherwise: over a week's holiday.
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Less would give a name away while a laptop restarts.
pub const KEPT_FOR_MIN: Duration = Duration::from_secs(60);

/// Who wants a name for longer reserves it.
pub const KEPT_FOR_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// That a name is still wanted is noted at most this often, so that agents which try
/// again and again cost no writing.
pub const KEPT_NOTED_EVERY: Duration = Duration::from_secs(10 * 60);

/// Longest reason for disabling one: a sentence or two.
pub const REASON_CHARS_MAX: usize = 200;

/// What is desired of a tunnel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tunnel {
    pub org: Id<Org>,
    /// Who may offer something by it.
    pub owner: Owner,
    pub exposure: Exposure,
    /// Goes up whenever all tokens given out before are to let nobody in any more.
    pub generation: u64,
    /// It is kept for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reserved: bool,
    /// Why it is out of use, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
    /// It was an operator who disabled it, and only operators take that back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// How long the name is kept while no agent is attached, seconds.
    pub kept_for_seconds: u64,
}

/// Whose a tunnel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// As receipts and the audit trail name them.
    pub actor: Actor,
    /// The user or the service token; absent for the installation's own token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<AnyId>,
}

impl Owner {
    /// Whether it is still somebody of the org, or who runs the installation. What
    /// belonged to who is gone belongs to the org.
    pub fn is_there(&self, state: &State, org: Id<Org>) -> bool {
        let Some(id) = self.id else { return true };
        match id.typed::<User>() {
            Some(user) => {
                let is_member =
                    state.memberships.get(&user).is_some_and(|it| it.contains_key(&org));
                is_member || state.users.get(user).is_some_and(|it| it.spec.operator)
            }
            None => id.typed().is_some_and(|token| state.tokens.get(token).is_some()),
        }
    }
}

/// How a tunnel is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum Exposure {
    /// By host name on the shared HTTP and HTTPS listeners.
    Http { host: String },
    /// By the host name that a TLS client sends to the shared HTTPS listener. Not
    /// decrypted.
    Tls { host: String },
    /// By a port of the edge.
    Tcp { port: u16 },
    /// Datagrams to a port of the edge.
    Udp { port: u16 },
}

impl Exposure {
    /// What it is called in requests.
    pub fn protocol(&self) -> &'static str {
        self.kind().as_str()
    }

    /// The same as a value.
    pub fn kind(&self) -> Protocol {
        match self {
            Exposure::Http { .. } => Protocol::Http,
            Exposure::Tls { .. } => Protocol::Tls,
            Exposure::Tcp { .. } => Protocol::Tcp,
            Exposure::Udp { .. } => Protocol::Udp,
        }
    }

    /// The host name that is its own.
    pub fn host(&self) -> Option<&str> {
        match self {
            Exposure::Http { host } | Exposure::Tls { host } => Some(host),
            Exposure::Tcp { .. } | Exposure::Udp { .. } => None,
        }
    }

    /// The port that is its own.
    pub fn port(&self) -> Option<PortClaim> {
        match self {
            Exposure::Tcp { port } => Some((manifest::Transport::Tcp, *port)),
            Exposure::Udp { port } => Some((manifest::Transport::Udp, *port)),
            Exposure::Http { .. } | Exposure::Tls { .. } => None,
        }
    }
}

/// A port of all edges, which one tunnel has.
pub type PortClaim = (manifest::Transport, u16);

/// What goes through a tunnel.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = TunnelProtocol)]
pub enum Protocol {
    #[default]
    Http,
    Tls,
    Tcp,
    Udp,
}

impl Protocol {
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Tls => "tls",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// Whether it is found by a host name, and else by a port.
    pub const fn has_host(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Tls)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an agent connects to an edge.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = TunnelTransport)]
pub enum Transport {
    /// WebSocket over TLS.
    Wss,
    Quic,
    /// TLS without anything around it.
    Tcp,
}

impl Transport {
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::Wss => "wss",
            Transport::Quic => "quic",
            Transport::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where an agent is attached.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<Id<Edge>, Attached>,
    /// When it goes unless an agent attaches before; absent while one is, and for what
    /// is reserved or disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
    /// What each edge says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<Id<Edge>, Seen>,
}

/// An agent at an edge. Not where it connects from: that is nobody's business who may
/// read the org's log, which is kept for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub since: Timestamp,
    /// The version of `helix` it runs.
    pub version: String,
    pub transport: Transport,
}

impl From<AttachedAgent> for Attached {
    fn from(agent: AttachedAgent) -> Attached {
        let AttachedAgent { since, version, transport, address: _ } = agent;
        Attached { since, version, transport }
    }
}

/// How a tunnel can be reached at an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// As a person would type it.
    #[serde(default)]
    pub reachable: Vec<String>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Status {
    /// Where it can be reached at one edge or another.
    pub fn reachable(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for place in self.edges.values().flat_map(|seen| &seen.reachable) {
            if !all.contains(&place.as_str()) {
                all.push(place);
            }
        }
        all
    }

    /// What the first edge that has a problem says.
    pub fn problem(&self) -> Option<&str> {
        self.edges.values().find_map(|seen| seen.problem.as_deref())
    }
}

impl Noun for Tunnel {
    const KIND: Kind = Kind::Tunnel;
    type Status = Status;

    fn facts(tunnel: &Resource<Tunnel>) -> Option<Facts> {
        let is_disabled = tunnel.spec.disabled.is_some();
        let ready = !is_disabled && !tunnel.status.agents.is_empty();
        let degraded = is_disabled || tunnel.status.problem().is_some();
        Some(Facts { ready, reconciling: false, degraded })
    }
}

/// A key by which tokens of tunnels are signed. Its private half is a sealed record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What tokens name it by.
    pub id: String,
    /// Ed25519, base64url without padding.
    pub public: String,
    /// The sealed record with its private half.
    pub record: VersionId,
}

/// Event: somebody has a tunnel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Tunnel>,
    pub name: Name,
    pub spec: Tunnel,
}

/// Which tunnel an event is about, in words that still tell when it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Of {
    pub id: Id<Tunnel>,
    pub name: Name,
    pub org: Id<Org>,
}

impl Of {
    /// The words for a tunnel.
    pub fn new(tunnel: &Resource<Tunnel>) -> Of {
        Of { id: tunnel.id, name: tunnel.name.clone(), org: tunnel.spec.org }
    }
}

/// Event: something else is desired of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Updated {
    #[serde(flatten)]
    pub of: Of,
    pub spec: Tunnel,
}

/// Event: its owner still wants it, so the time it is kept for begins anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub of: Of,
    pub kept_for_seconds: u64,
}

/// Event: what an edge says of it changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    #[serde(flatten)]
    pub of: Of,
    pub edge: Id<Edge>,
    #[serde(flatten)]
    pub seen: Seen,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Attached>,
}

/// Event: the installation has a key to sign tokens with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeySet {
    #[serde(flatten)]
    pub key: Key,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        if let Some(host) = self.spec.exposure.host() {
            state.hosts.insert(host.to_owned(), self.id.any());
        }
        let parent = Some(self.spec.org.any());
        let mut tunnel = change.create(self.id, self.name.clone(), parent, self.spec.clone());
        settle(&mut tunnel, change.at);
        state.index.tunnel(&tunnel);
        state.tunnels.insert(tunnel);
    }
}

impl Apply for Updated {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, self.of.id, |tunnel| {
            tunnel.spec = self.spec.clone();
            if tunnel.spec.disabled.is_some() {
                // No edge has it any more, and none says so.
                (tunnel.status.agents, tunnel.status.edges) = Default::default();
            }
            settle(tunnel, change.at);
            change.touch(tunnel);
        });
    }
}

impl Apply for Kept {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, self.of.id, |tunnel| {
            tunnel.spec.kept_for_seconds = self.kept_for_seconds;
            tunnel.status.kept_until = None;
            settle(tunnel, change.at);
            change.touch(tunnel);
        });
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, self.of.id, |tunnel| {
            tunnel.status.edges.insert(self.edge, self.seen.clone());
            match &self.agent {
                Some(agent) => tunnel.status.agents.insert(self.edge, agent.clone()),
                None => tunnel.status.agents.remove(&self.edge),
            };
            settle(tunnel, change.at);
            change.touch(tunnel);
        });
    }
}

impl Apply for KeySet {
    fn apply(&self, state: &mut State, _change: Change) {
        state.tunnel_keys.push_back(self.key.clone());
    }
}

/// Changes a tunnel, whose host and port stay what they are.
fn update(state: &mut State, id: Id<Tunnel>, change: impl FnOnce(&mut Resource<Tunnel>)) {
    if let Some(before) = state.tunnels.get(id) {
        state.index.without_tunnel(before);
    }
    state.tunnels.update(id, change);
    if let Some(after) = state.tunnels.get(id) {
        state.index.tunnel(after);
    }
}

/// From when on it counts that no agent is attached.
fn settle(tunnel: &mut Resource<Tunnel>, at: Timestamp) {
    let Tunnel { reserved, disabled, kept_for_seconds, .. } = &tunnel.spec;
    let stays = *reserved || disabled.is_some() || !tunnel.status.agents.is_empty();
    let end = || at.plus(Duration::from_secs(*kept_for_seconds));
    let until = &mut tunnel.status.kept_until;
    *until = if stays { None } else { Some(until.unwrap_or_else(end)) };
}

/// A tunnel is gone, and its host and port are anybody's.
pub(crate) fn forget(state: &mut State, id: Id<Tunnel>) {
    let Some(tunnel) = state.tunnels.get(id) else { return };
    state.index.without_tunnel(tunnel);
    if let Some(host) = tunnel.spec.exposure.host()
        && state.hosts.get(host) == Some(&id.any())
    {
        state.hosts.remove(host);
    }
    state.tunnels.remove(id);
}

/// Forgets what an edge that is gone has said.
pub(crate) fn forget_edge(state: &mut State, edge: Id<Edge>, change: Change) {
    let of_it = state
        .tunnels
        .iter()
        .filter(|it| it.status.edges.contains_key(&edge) || it.status.agents.contains_key(&edge));
    for id in of_it.map(|it| it.id).collect::<Vec<_>>() {
        update(state, id, |tunnel| {
            tunnel.status.edges.remove(&edge);
            tunnel.status.agents.remove(&edge);
            settle(tunnel, change.at);
            change.touch(tunnel);
        });
    }
}
