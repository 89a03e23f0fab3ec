//! Edges: machines that take user traffic. Operator infrastructure, no tenant's.
//!
//! Each edge says for itself what it serves and what is still open there. Whoever
//! waits for "the edges" waits for every one that [counts](Resource::counts).

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::condition;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, Resource, Timestamp, tunnel};

/// What is desired of an edge: to be there. Every edge serves every endpoint but those
/// whose address is another edge's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Edge {}

/// How long an edge that does not report may still be serving what it was told last,
/// for all anybody knows: longer than a server takes to start again, during which no
/// edge reports and all of them serve.
pub const LOST_AFTER: Duration = Duration::from_secs(30);

impl Resource<Edge> {
    /// Whether what is open there is worth waiting for.
    pub fn counts(&self, now: Timestamp) -> bool {
        // Whether it is ready is whether it is connected.
        self.status.connected || now.since(self.standing.ready_since()) < LOST_AFTER
    }
}

/// What is known of an edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub connected: bool,
    /// The number of its present link, or of its last: each connection is one
    /// more. What came over an older one is no news.
    pub link: u64,
    /// Which replica of the server that link is with, by the URL it advertises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

/// What an edge says of itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The version of `helix` it runs.
    pub version: String,
    /// Where it listens for requests in the clear, e.g. `[::]:8080`.
    #[serde(default)]
    pub http: Vec<String>,
    /// Where it listens for requests over TLS.
    #[serde(default)]
    pub https: Vec<String>,
    /// Prefixes that are routed to it, for addresses of envs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// Where agents of tunnels reach it, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentUrl>,
    /// Where in the world it is, in the operator's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Where agents of tunnels reach an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUrl {
    /// Such as `wss://edge-1.example.com:8443/.helix/tunnel`.
    pub url: String,
    pub transport: tunnel::Transport,
}

impl AgentUrl {
    /// The host in it, in lower case; the edge needs a certificate for that.
    pub fn host(&self) -> Option<String> {
        let (_, rest) = self.url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.0,
            None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
        };
        (!host.is_empty()).then(|| host.to_ascii_lowercase())
    }
}

impl Noun for Edge {
    const KIND: Kind = Kind::Edge;
    type Status = Status;

    fn facts(edge: &Resource<Edge>) -> Option<condition::Facts> {
        let ready = edge.status.connected;
        Some(condition::Facts { ready, reconciling: false, degraded: false })
    }
}

/// Command: an edge connects and says what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    pub name: Name,
    pub facts: Facts,
    /// The advertised URL of the replica it connects to, where there are several.
    #[serde(default)]
    pub replica: Option<String>,
}

/// Command: an edge's link is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disconnect {
    pub edge: Id<Edge>,
    /// Which one; an edge that has linked anew since is not gone.
    pub link: u64,
}

/// An edge and one of its links: who says something, and whether it still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    pub edge: Id<Edge>,
    pub link: u64,
}

impl Linked {
    /// Whether it is the edge's present link.
    pub fn is_current(self, state: &State) -> bool {
        let edge = state.edges.get(self.edge);
        edge.is_some_and(|edge| edge.status.connected && edge.status.link == self.link)
    }
}

/// Event: an edge was first seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enrolled {
    pub id: Id<Edge>,
    pub name: Name,
}

/// Event: an edge's link or facts changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    pub id: Id<Edge>,
    #[serde(flatten)]
    pub status: Status,
}

impl Apply for Enrolled {
    fn apply(&self, state: &mut State, change: Change) {
        state.edges.insert(change.create(self.id, self.name.clone(), None, Edge {}));
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.edges.update(self.id, |edge| {
            edge.status = self.status.clone();
            change.touch(edge);
        });
    }
}

/// Forgets what an edge that is gone has said.
pub(crate) fn forget(state: &mut State, id: Id<Edge>, change: Change) {
    tunnel::forget_edge(state, id, change);
    let of_it = state
        .instances
        .iter()
        .filter(|it| it.status.routed_by.contains(&id) || it.status.drained_by.contains(&id));
    for instance in of_it.map(|it| it.id).collect::<Vec<_>>() {
        state.instances.update(instance, |instance| {
            instance.status.routed_by.remove(&id);
            instance.status.drained_by.remove(&id);
        });
    }
    let of_it = state.certificates.iter();
    let of_it = of_it.filter(|it| it.status.order.answered_by.contains(&id));
    for certificate in of_it.map(|it| it.id).collect::<Vec<_>>() {
        state.certificates.update(certificate, |certificate| {
            certificate.status.order.answered_by.remove(&id);
        });
    }
    let of_it = state.endpoints.iter().filter(|it| it.status.edges.contains_key(&id));
    for endpoint in of_it.map(|it| it.id).collect::<Vec<_>>() {
        state.endpoints.update(endpoint, |endpoint| endpoint.status.told(id, None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_agents_url_is_found() {
        let host =
            |url: &str| AgentUrl { url: url.to_owned(), transport: tunnel::Transport::Wss }.host();
        assert_eq!(host("wss://Edge-1.example:8443/x").as_deref(), Some("edge-1.example"));
        assert_eq!(host("quic://edge.localhost").as_deref(), Some("edge.localhost"));
        assert_eq!(host("tcp://[fd00::1]:7000").as_deref(), Some("fd00::1"));
        for bad in ["", "edge:1", "wss://", "wss://:80", "tcp://[::1"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}
