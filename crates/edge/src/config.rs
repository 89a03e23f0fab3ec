//! What an edge is started with, and the limits it keeps.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use helix_model::edge::AgentUrl;
use ipnet::IpNet;

use crate::access_log::AccessLogConfig;

/// How long a backend may take to accept a connection. Backends are on the same
/// machine or network, so a slower one is as good as gone.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a backend that refused a connection is passed over while others can
/// serve. Short, because the plan will drop it as soon as its node has noticed.
pub(crate) const EJECTION: Duration = Duration::from_secs(1);

/// How often unbound endpoints are tried again and idle connections are swept.
pub(crate) const TICK: Duration = Duration::from_secs(5);

/// What an edge is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the shared HTTP listener accepts. `[::]` accepts IPv4 too and falls
    /// back to `0.0.0.0` where the machine has no IPv6. Port 0 takes a free one.
    pub http_listen: Vec<SocketAddr>,
    /// The same for the shared HTTPS listener. Without one nothing is encrypted.
    pub https_listen: Vec<SocketAddr>,
    /// Where Prometheus is told what goes through, without asking who it is.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether and where a line is written for all that has ended.
    pub access_log: Option<AccessLogConfig>,
    /// Where another process may take over what listens, and whether this one is to do so
    /// with one that runs.
    pub takeover: Option<Takeover>,
    /// Where the last plan is kept, to serve from after a restart.
    pub plan_file: Option<PathBuf>,
    /// Where certificates and keys are kept for the next start, in this machine's memory.
    pub kept_certificates: Option<PathBuf>,
    /// Load balancers before this edge: what comes from them begins with a header of the
    /// PROXY protocol that says whose it is. From nobody else is one taken.
    pub balancers: Vec<IpNet>,
    /// Where agents of tunnels reach this edge, the best first. Nowhere when empty.
    pub agents: Vec<AgentUrl>,
    /// Where agents come over QUIC, too, if there are any.
    pub agents_quic: QuicPort,
    /// Prefixes that are routed to this machine, for addresses of envs.
    pub addresses: Vec<IpNet>,
    /// Where it is, in the operator's words, for agents that prefer one.
    pub region: Option<String>,
    /// Connections are carried by threads of its own, one for each core. Otherwise by the
    /// runtime it is started in, where tests can hold the time.
    pub own_threads: bool,
    /// Whether endpoint addresses may be routed to this machine.
    pub any_ip: AnyIp,
}

/// The UDP port that agents of tunnels come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuicPort {
    /// That of the same number as the HTTPS listener's, if it is free.
    #[default]
    AsHttps,
    Own(u16),
    Off,
}

/// How an edge is taken over.
#[derive(Clone, Debug)]
pub struct Takeover {
    /// The Unix socket to meet at, in a directory of this user's alone.
    pub socket: PathBuf,
    /// Take over the edge that runs, if one does.
    pub take: bool,
}

/// Whether the edge may route the prefixes of endpoint addresses to loopback, so
/// that it can accept on addresses no interface carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyIp {
    /// Where privileges allow; otherwise endpoints listen on a loopback port.
    Auto,
    /// Never; endpoints whose address is not this machine's listen on a loopback
    /// port.
    Off,
}
