//! A tunnel with threads of its own, for programs that have no runtime.

use std::ffi::c_int;
use std::sync::Arc;
use std::time::Duration;

use helix_client::{Client, TunnelGrants};
use helix_model::Name;
use helix_model::api::CreateTunnel;
use helix_model::reference::Scope;
use helix_model::tunnel::Protocol;
use helix_tunnel::{Agent, Choice, Config, Forward, Phase};
use tokio::runtime::Runtime;

/// Threads that carry visitors. A program that embeds this has work of its own.
const THREADS: usize = 2;

/// How long what is under way when it is stopped has.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What is asked for, as it came.
pub(crate) struct Wish<'w> {
    pub(crate) url: &'w str,
    pub(crate) token: Option<&'w str>,
    pub(crate) protocol: Option<&'w str>,
    pub(crate) name: Option<&'w str>,
    pub(crate) target: &'w str,
}

/// A tunnel that is offered: what C knows as `helix_tunnel`.
pub struct Embedded {
    runtime: Runtime,
    agent: Agent,
    url: String,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Has the tunnel and starts its agent, or says why not.
    pub(crate) fn start(wish: Wish<'_>) -> Result<Embedded, String> {
        let protocol = protocol(wish.protocol.unwrap_or("http"))?;
        let name = wish.name.map(str::parse::<Name>).transpose();
        let requested_name = name.map_err(|error| format!("name: {error}"))?;
        let to = target(wish.target)?;
        let client =
            Client::new(wish.url, wish.token).map_err(|error| error.into_problem().detail)?;
        let ask = CreateTunnel { protocol, requested_name, ..CreateTunnel::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("helix-tunnel")
            .enable_all()
            .build()
            .map_err(|error| format!("threads cannot be started: {error}"))?;
        let (url, agent) = runtime.block_on(async {
            let asked = TunnelGrants::ask(client, Scope::default(), ask).await;
            let (grants, granted) = asked.map_err(|error| error.into_problem().detail)?;
            let agent = Agent::start(Config {
                first: Some(TunnelGrants::read(&granted)),
                grants: Arc::new(grants),
                service: Arc::new(Forward { to }),
                proxy_protocol: false,
                transport: Choice::Auto,
                proxy: None,
                version: concat!("c-", env!("CARGO_PKG_VERSION")).to_owned(),
            });
            Ok::<_, String>((granted.public_url, agent))
        })?;
        Ok(Embedded { runtime, agent, url })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn state(&self) -> c_int {
        number(&self.agent.phases().borrow())
    }

    /// Waits until it is attached or has ended. Not in a thread of its own.
    pub(crate) fn wait(&self, timeout: Duration) -> c_int {
        let mut phases = self.agent.phases();
        self.runtime.block_on(async {
            let settled = phases
                .wait_for(|phase| matches!(phase, Phase::Attached { .. } | Phase::Ended { .. }));
            let _ = tokio::time::timeout(timeout, settled).await;
        });
        self.state()
    }

    pub(crate) fn reason(&self) -> String {
        match &*self.agent.phases().borrow() {
            Phase::Waiting { why, .. } | Phase::Ended { why } => why.clone(),
            Phase::Starting | Phase::Attached { .. } => String::new(),
        }
    }

    pub(crate) fn stop(self) {
        self.runtime.block_on(self.agent.stop());
        self.runtime.shutdown_timeout(STOP_TIMEOUT);
    }
}

/// As the header has it.
fn number(phase: &Phase) -> c_int {
    match phase {
        Phase::Starting => 0,
        Phase::Attached { .. } => 1,
        Phase::Waiting { .. } => 2,
        Phase::Ended { .. } => 3,
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let all = [Protocol::Http, Protocol::Tls, Protocol::Tcp, Protocol::Udp];
    let named = all.into_iter().find(|protocol| protocol.as_str() == text);
    named.ok_or_else(|| format!("protocol: `{text}` is none of http, tls, tcp and udp"))
}

/// A host and a port; that it can be reached is seen when a visitor comes.
fn target(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port != 0);
    port.map(|_| text.to_owned())
        .ok_or_else(|| format!("target: `{text}` is no address: it looks like 127.0.0.1:3000"))
}
