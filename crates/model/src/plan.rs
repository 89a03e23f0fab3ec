//! Plans: the whole of what one node or one edge should be doing.
//!
//! A plan is complete and versioned by the log position it was computed from;
//! the latest wins and what is absent is stopped. These types are a wire
//! contract between control plane and shells and are kept on disk by both
//! shells, so fields are only ever added.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::acme::Challenge;
use crate::bundle::Pin;
use crate::certificate;
use crate::endpoint::{OwnPort, Reach};
use crate::manifest::{Handling, Health, Prestart, Resources, Restart, Transport};
use crate::volume::Mount;
use crate::{
    Endpoint, Env, Id, Instance, Name, Node, Org, Release, Snapshot, Timestamp, Tunnel, Volume,
    tunnel,
};

/// What one node should be running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The log position this plan reflects.
    pub version: u64,
    /// Whom it is for.
    pub node: Id<Node>,
    /// The installation's address block, from which the node derives what is
    /// private to it (IPv4 addresses of instances).
    pub network: Ipv6Addr,
    /// Every instance that should exist on the node.
    pub instances: Vec<InstancePlan>,
    /// Instances the node is to say of that they are not there (any more): until
    /// it has, their memory is not given to others.
    #[serde(default)]
    pub stopping: Vec<Id<Instance>>,
    /// Every volume whose home the node is. One that is absent is left alone: data
    /// goes only when it is named in `removing`.
    #[serde(default)]
    pub volumes: Vec<VolumePlan>,
    /// Volumes whose data the node is to remove, and to say of that it has.
    #[serde(default)]
    pub removing: Vec<Id<Volume>>,
    /// Every snapshot that is on the node, or is to be taken there. One that is
    /// absent is left alone.
    #[serde(default)]
    pub snapshots: Vec<SnapshotPlan>,
    /// Snapshots the node is to remove, and to say of that it has.
    #[serde(default)]
    pub removing_snapshots: Vec<SnapshotPlan>,
}

/// One volume on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VolumePlan {
    pub id: Id<Volume>,
    pub size_bytes: u64,
    /// It was there before: should the node not find it, it must not make another.
    #[serde(default)]
    pub made: bool,
    /// What it is made from; empty when absent.
    #[serde(default)]
    pub source: Option<SourcePlan>,
}

/// The snapshot that a volume is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourcePlan {
    pub snapshot: Id<Snapshot>,
    /// What it must turn out to be.
    pub sha256: String,
    /// It is in the store of backups, not on the node.
    #[serde(default)]
    pub backup: bool,
}

/// One snapshot on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotPlan {
    pub id: Id<Snapshot>,
    pub volume: Id<Volume>,
    /// It has been taken, or has failed: nothing is to be done about it.
    pub is_settled: bool,
    /// For how long writers may be made to wait for it, milliseconds.
    pub pause_max_ms: u64,
    /// It is to be in the store of backups, and nowhere else once it is settled.
    #[serde(default)]
    pub backup: bool,
}

/// One instance on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstancePlan {
    pub id: Id<Instance>,
    /// The instance's name, unique in its env; also its host name.
    pub name: Name,
    pub org: Id<Org>,
    pub env: Id<Env>,
    pub release: Id<Release>,
    /// The process of the release it runs.
    pub process: Name,
    /// Whether it serves or is being emptied.
    pub desired: Running,
    /// Where the image came from, with its digest: `host/repository@sha256:…`.
    pub image: String,
    /// Overrides the image's entrypoint and command when present.
    pub command: Option<Vec<String>>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub vars: BTreeMap<String, String>,
    pub resources: Resources,
    pub ports: Vec<PortPlan>,
    pub health: Option<Health>,
    pub restart: Restart,
    /// The instance's own address, from the operator's block.
    pub address: Ipv6Addr,
    /// It may reach the others of its env on its node that may, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub intra_env: bool,
    /// Which secrets it is given; the values are asked for over the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Pin>,
    /// Volumes it has, wherever it is started.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// What runs before the workload in the same place, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Prestart>,
    /// How long after TERM the workload may take to end, milliseconds.
    pub stop_grace_ms: u64,
}

/// Whether an instance serves or is being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    /// Serve.
    Running,
    /// Keep serving what is open; new work goes elsewhere.
    Draining,
}

/// A port the workload listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    pub name: Name,
    /// The port inside the instance.
    pub internal: u16,
    #[serde(default, skip_serializing_if = "Transport::is_tcp")]
    pub transport: Transport,
}

/// What one edge should be serving.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgePlan {
    /// The log position this plan reflects.
    pub version: u64,
    /// Which installation it is of, by its block of addresses, which no other has; absent
    /// from a server that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<Ipv6Addr>,
    /// Every endpoint.
    pub endpoints: Vec<EndpointPlan>,
    /// Instances that get no new work and whose end of work is to be reported
    /// (see [`EdgeReport::drained`]).
    pub draining: Vec<Id<Instance>>,
    /// Instances that only other edges send work to. Nobody need wait for this one to
    /// do so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub elsewhere: BTreeSet<Id<Instance>>,
    /// What authorities ask for on the shared HTTP listener, before any app.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<Challenge>,
    /// Every tunnel that is not disabled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<TunnelPlan>,
    /// By which keys tokens of agents are signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnel_keys: Vec<TunnelKey>,
}

/// One tunnel on an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelPlan {
    pub id: Id<Tunnel>,
    pub name: Name,
    pub exposure: tunnel::Exposure,
    /// Only tokens of this one let an agent in.
    pub generation: u64,
    /// What its host is served with over TLS; without one, the installation vouches
    /// for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<certificate::Pin>,
}

/// A key that tokens of agents are checked by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelKey {
    /// What tokens name it by (`kid`).
    pub id: String,
    /// Ed25519, base64url without padding.
    pub public: String,
}

/// A plan of an edge, and a report of what became of it, name all there is, and each of that
/// costs whoever makes and reads it some microseconds: the next follows no sooner than this for
/// each. A change that comes alone goes at once.
const PAUSE_EACH: Duration = Duration::from_micros(100);

/// And never later than this: less than an agent that was let in waits at its edge for the
/// plan that has its tunnel.
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl EdgePlan {
    /// How long after this, or a report of it, the next is in no hurry.
    pub fn pause(&self) -> Duration {
        pause_of(self.endpoints.len() + self.tunnels.len())
    }

    /// The tokens of all challenges.
    pub fn answering(&self) -> BTreeSet<String> {
        self.challenges.iter().map(|challenge| challenge.token.clone()).collect()
    }

    /// Whether another one asks the same of its edge, whatever log position it is of.
    pub fn asks_the_same(&self, other: &EdgePlan) -> bool {
        // By name, so that no field can be forgotten.
        let EdgePlan {
            version: _,
            installation,
            endpoints,
            draining,
            elsewhere,
            challenges,
            tunnels,
            tunnel_keys,
        } = self;
        *installation == other.installation
            && *endpoints == other.endpoints
            && *draining == other.draining
            && *elsewhere == other.elsewhere
            && *challenges == other.challenges
            && *tunnels == other.tunnels
            && *tunnel_keys == other.tunnel_keys
    }

    /// Every instance that new work may go to, here or elsewhere.
    pub fn routed(&self) -> BTreeSet<Id<Instance>> {
        let backends = self.endpoints.iter().flat_map(|endpoint| &endpoint.backends);
        let here = backends.map(|backend| backend.instance);
        here.chain(self.elsewhere.iter().copied()).collect()
    }
}

/// One endpoint on an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointPlan {
    pub id: Id<Endpoint>,
    pub route: Route,
    /// Where this edge listens for it, at the port of its route. The address of the
    /// route alone when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// What its host is served with over TLS; without one, the installation vouches
    /// for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<certificate::Pin>,
    /// What happens to what comes in.
    #[serde(flatten)]
    pub handling: Handling,
    /// Ready instances only; empty means "fail fast".
    pub backends: Vec<Backend>,
    /// What people call it, for metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
}

/// What people call an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label {
    pub app: Name,
    pub env: Name,
    pub endpoint: Name,
}

/// How traffic finds an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum Route {
    /// Requests on the shared HTTP listener whose host is one of these, lower
    /// case and without a port.
    Http { hosts: Vec<String> },
    /// Connections to this address and port.
    Tcp { address: Ipv6Addr, port: u16 },
    /// TLS connections for this host, lower case, to a port of its own address or,
    /// without one, to the shared HTTPS listener. They are not decrypted.
    Tls {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        own: Option<OwnPort>,
    },
    /// Datagrams to this address and port.
    Udp { address: Ipv6Addr, port: u16 },
}

impl Route {
    /// What it is called in a manifest.
    pub fn protocol(&self) -> &'static str {
        match self {
            Route::Http { .. } => "http",
            Route::Tcp { .. } => "tcp",
            Route::Tls { .. } => "tls",
            Route::Udp { .. } => "udp",
        }
    }
}

/// One ready instance behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub instance: Id<Instance>,
    /// Where the instance answered its last health check.
    pub address: SocketAddr,
}

/// What an edge tells the control plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// The plan version now in force.
    pub version: u64,
    /// Draining instances that have no open connection or request left here.
    pub drained: Vec<Id<Instance>>,
    /// Every instance that new work may go to, as the plan in force has it;
    /// absent from an edge that does not tell.
    #[serde(default)]
    pub routed: Option<BTreeSet<Id<Instance>>>,
    /// Per endpoint, where it can be reached or why it cannot.
    pub endpoints: Vec<EndpointReport>,
    /// The tokens of the challenges that are answered.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub answering: BTreeSet<String>,
    /// Per tunnel of the plan, how it can be reached and who is attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<TunnelReport>,
}

/// How one tunnel can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelReport {
    pub id: Id<Tunnel>,
    /// As a person would type them: `https://demo.localhost:8443`.
    #[serde(default)]
    pub reachable: Vec<String>,
    /// Why it is not; `None` when all is well.
    #[serde(default)]
    pub problem: Option<String>,
    #[serde(default)]
    pub agent: Option<AttachedAgent>,
}

/// The agent that is attached at this edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedAgent {
    pub since: Timestamp,
    /// The version of `helix` it runs.
    pub version: String,
    pub transport: tunnel::Transport,
    /// Where it connects from. For its owner and for operators, never for viewers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// Where one endpoint can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointReport {
    pub id: Id<Endpoint>,
    /// As a person would type them: `http://hello.localhost:8080`, `[fd00::1]:80`.
    pub reachable: Vec<String>,
    /// Why it is not, or less than asked; `None` when all is well.
    pub problem: Option<String>,
    /// From how far away; absent where nothing listens, and from an edge that does not
    /// tell.
    #[serde(default)]
    pub reach: Option<Reach>,
}

fn pause_of(routes: usize) -> Duration {
    let routes = u32::try_from(routes).unwrap_or(u32::MAX);
    PAUSE_EACH.saturating_mul(routes).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_report_of_few_is_not_held_up() {
        assert_eq!(pause_of(0), Duration::ZERO);
        assert_eq!(pause_of(10), Duration::from_millis(1));
        assert_eq!(pause_of(1_000), Duration::from_millis(100));
        assert_eq!(pause_of(100_000), PAUSE_MAX);
    }
}
