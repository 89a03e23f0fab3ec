//! Tunnels' agents around an edge: an edge that takes them, what signs their tokens, and
//! agents that run.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use helix_model::edge::AgentUrl;
use helix_model::plan::{EdgePlan, EdgeReport, TunnelKey, TunnelPlan};
use helix_model::tunnel::{Exposure, Transport};
use helix_model::{Id, Timestamp};
use helix_tunnel::token::{Audience, Claims, SigningKey};
use helix_tunnel::{
    Agent, Candidate, Choice, Config, Forward, Grant, GrantError, Grants, Phase, Transport as Over,
};

use crate::tls::Server;
use crate::world::{World, soon};

/// The host that agents are taken at.
pub(crate) const HOST: &str = "tunnels.localhost";

/// An edge that takes agents, and what vouches for it and for them.
pub(crate) struct Taking {
    pub(crate) world: World,
    pub(crate) server: Server,
    pub(crate) key: Arc<SigningKey>,
    version: AtomicU64,
}

impl Taking {
    /// One with these tunnels.
    pub(crate) async fn new(tunnels: Vec<TunnelPlan>) -> Taking {
        let key = Arc::new(SigningKey::generate().unwrap());
        Taking::of(World::taking(urls()).await, Server::new(), key, tunnels).await
    }

    /// One that may be taken over there.
    pub(crate) async fn at(socket: &Path, tunnels: Vec<TunnelPlan>) -> Taking {
        let key = Arc::new(SigningKey::generate().unwrap());
        let world = World::taking_at(urls(), socket, false).await;
        Taking::of(world, Server::new(), key, tunnels).await
    }

    /// The one that takes this one over there.
    pub(crate) async fn next(&self, socket: &Path, tunnels: Vec<TunnelPlan>) -> Taking {
        let world = World::taking_at(urls(), socket, true).await;
        Taking::of(world, self.server.clone(), Arc::clone(&self.key), tunnels).await
    }

    async fn of(
        world: World,
        server: Server,
        key: Arc<SigningKey>,
        tunnels: Vec<TunnelPlan>,
    ) -> Taking {
        world.edge.certificates_from(Some(Arc::new(server.clone())));
        let taking = Taking { world, server, key, version: AtomicU64::new(0) };
        taking.apply(tunnels).await;
        taking
    }

    pub(crate) async fn apply(&self, tunnels: Vec<TunnelPlan>) -> EdgeReport {
        let public = self.key.verifying();
        let key = TunnelKey { id: public.id().to_owned(), public: public.to_base64url() };
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let plan = EdgePlan { version, tunnels, tunnel_keys: vec![key], ..EdgePlan::default() };
        self.world.edge.apply(Arc::new(plan)).await
    }

    /// A token for a tunnel, good for so many seconds.
    pub(crate) fn token(&self, tunnel: u128, seconds: u64) -> String {
        let claims = Claims { exp: now_s() + seconds, ..claims(tunnel) };
        self.key.sign(&claims).unwrap()
    }

    pub(crate) fn grants(&self, tunnel: u128) -> Arc<Signed> {
        Arc::new(Signed {
            key: Arc::clone(&self.key),
            at: vec![self.way(Over::Wss)],
            roots: self.server.authority.certificate_pem(),
            tunnel,
        })
    }

    /// A way to the edge. That over QUIC has the port of HTTPS.
    pub(crate) fn way(&self, over: Over) -> (Over, SocketAddr) {
        (over, self.world.https())
    }

    /// The same by these ways.
    pub(crate) fn grants_by(&self, tunnel: u128, at: Vec<(Over, SocketAddr)>) -> Arc<Signed> {
        Arc::new(Signed { at, ..Arc::into_inner(self.grants(tunnel)).unwrap() })
    }

    /// An agent that has the tunnel, and passes what comes on to this address.
    pub(crate) async fn agent(&self, tunnel: u128, to: SocketAddr) -> Agent {
        attached(config(self.grants(tunnel), to)).await
    }

    /// Waits until agents have so many tunnels.
    pub(crate) async fn has(&self, agents: usize) -> EdgeReport {
        let count = |report: &EdgeReport| {
            report.tunnels.iter().filter(|tunnel| tunnel.agent.is_some()).count()
        };
        self.world.report(|report| count(report) == agents).await
    }
}

fn urls() -> Vec<AgentUrl> {
    vec![AgentUrl { url: format!("wss://{HOST}/.helix/tunnel"), transport: Transport::Wss }]
}

/// An agent, once it is attached.
pub(crate) async fn attached(config: Config) -> Agent {
    let agent = Agent::start(config);
    until(&agent, |phase| matches!(phase, Phase::Attached { .. })).await;
    agent
}

/// Waits for a phase of an agent.
pub(crate) async fn until(agent: &Agent, condition: impl FnMut(&Phase) -> bool) -> Phase {
    let mut phases = agent.phases();
    soon(phases.wait_for(condition)).await.unwrap().clone()
}

pub(crate) fn config(grants: Arc<Signed>, to: SocketAddr) -> Config {
    Config {
        grants,
        first: None,
        service: Arc::new(Forward { to: to.to_string() }),
        proxy_protocol: false,
        transport: Choice::Auto,
        proxy: None,
        version: "test".to_owned(),
    }
}

/// Signs grants without a control plane.
pub(crate) struct Signed {
    key: Arc<SigningKey>,
    pub(crate) at: Vec<(Over, SocketAddr)>,
    roots: String,
    tunnel: u128,
}

#[async_trait]
impl Grants for Signed {
    async fn grant(&self) -> Result<Grant, GrantError> {
        let candidate = |(over, at): &(Over, SocketAddr)| Candidate {
            edge: "edge".to_owned(),
            url: match over {
                Over::Wss => format!("wss://{HOST}:{}/.helix/tunnel", at.port()),
                Over::Quic => format!("quic://{HOST}:{}", at.port()),
            },
        };
        Ok(Grant {
            tunnel: id(self.tunnel).to_string(),
            public_url: String::new(),
            candidates: self.at.iter().map(candidate).collect(),
            token: self.key.sign(&claims(self.tunnel)).unwrap(),
            expires_at_s: now_s() + 300,
            edge_roots: self.roots.clone(),
        })
    }
}

fn claims(tunnel: u128) -> Claims {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Claims {
        sub: id(tunnel).to_string(),
        org: "org".to_owned(),
        generation: 1,
        aud: Audience::Edge,
        iat: now_s(),
        exp: now_s() + 300,
        jti: NEXT.fetch_add(1, Ordering::Relaxed).to_string(),
    }
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn id(number: u128) -> Id<helix_model::Tunnel> {
    Id::new(Timestamp(1), number)
}

pub(crate) fn tunnel(number: u128, exposure: Exposure) -> TunnelPlan {
    let name = format!("tunnel-{number}").parse().unwrap();
    TunnelPlan { id: id(number), name, exposure, generation: 1, certificate: None }
}

pub(crate) fn http(number: u128, host: &str) -> TunnelPlan {
    tunnel(number, Exposure::Http { host: host.to_owned() })
}
