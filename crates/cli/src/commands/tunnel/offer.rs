//! One program offered: its tunnel, the agent that serves it and the page that shows what
//! goes through.

use std::net::SocketAddr;
use std::sync::Arc;

use helix_client::{Client, TunnelGrants};
use helix_model::api::{CreateTunnel, TunnelGrant};
use helix_model::reference::Scope;
use helix_tunnel::inspect::{Inspector, Journal, Options, Page, PageError};
use helix_tunnel::{Agent, Choice, Config, Forward, Phase, Proxy, Service};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::http::{HttpOptions, Inspect};
use super::target::Target;
use crate::failure::{Failure, Result};
use crate::ready::{Part, Readiness};

/// What is to be offered.
pub(super) struct Offer {
    pub(super) target: Target,
    pub(super) ask: CreateTunnel,
    pub(super) proxy_protocol: bool,
    /// What the edge is reached over.
    pub(super) transport: Choice,
    /// Absent where what goes through is not HTTP, or not read.
    pub(super) http: Option<HttpOptions>,
}

/// Whom tunnels are had from, and the way out of this network.
pub(super) struct Origin {
    pub(super) client: Client,
    pub(super) scope: Scope,
    pub(super) proxy: Option<Proxy>,
    /// Told of each tunnel that is offered.
    pub(super) readiness: Readiness,
}

/// One that is offered, for as long as this is there.
pub(super) struct Offered {
    pub(super) agent: Agent,
    pub(super) granted: TunnelGrant,
    pub(super) target: Target,
    /// Where requests are shown.
    pub(super) page: Option<SocketAddr>,
    /// What a person should know, and nothing that ends it.
    pub(super) warnings: Vec<String>,
    _showing: JoinSet<()>,
}

impl Offer {
    /// Gets the tunnel and starts its agent.
    pub(super) async fn start(self, origin: &Origin) -> Result<Offered> {
        let Offer { target, ask, proxy_protocol, transport, http } = self;
        let mut warnings = Vec::new();
        // Before there is a tunnel: an address that cannot be had is a reason to stop.
        let page = match &http {
            Some(http) => page(http.inspect, &mut warnings).await?,
            None => None,
        };
        let (grants, granted) =
            TunnelGrants::ask(origin.client.clone(), origin.scope.clone(), ask).await?;
        warnings.extend(granted.note.clone());
        let mut showing = JoinSet::new();
        let address = page.as_ref().map(Page::address);
        let service: Arc<dyn Service> = match http.filter(|http| !http.is_plain()) {
            Some(http) => inspected(&target, http, page, &mut showing),
            None => Arc::new(Forward { to: target.to_string() }),
        };
        let agent = Agent::start(Config {
            first: Some(TunnelGrants::read(&granted)),
            grants: Arc::new(grants),
            service,
            proxy_protocol,
            transport,
            proxy: origin.proxy.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        showing.spawn(say_ready(agent.phases(), origin.readiness.part()));
        Ok(Offered { agent, granted, target, page: address, warnings, _showing: showing })
    }
}

/// A tunnel is ready while visitors come through it.
async fn say_ready(mut phases: watch::Receiver<Phase>, part: Part) {
    loop {
        part.set(matches!(*phases.borrow_and_update(), Phase::Attached { .. }));
        if phases.changed().await.is_err() {
            // The agent has gone, and what it was last does not count.
            part.set(false);
            return std::future::pending().await;
        }
    }
}

/// The page, listening. That the usual ports are all taken is no reason to offer nothing.
async fn page(inspect: Inspect, warnings: &mut Vec<String>) -> Result<Option<Page>> {
    let hint = "take another with --inspect 127.0.0.1:PORT, or --inspect off";
    match inspect {
        Inspect::Off => Ok(None),
        Inspect::At(at) => match Page::bind(at).await {
            Ok(page) => Ok(Some(page)),
            Err(error) => Err(Failure::usage(because(&error), hint)),
        },
        Inspect::Usual => match Page::bind_usual().await {
            Ok(page) => Ok(Some(page)),
            Err(error) => {
                warnings.push(format!("requests are not shown: {}; {hint}", because(&error)));
                Ok(None)
            }
        },
    }
}

fn because(error: &PageError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn inspected(
    target: &Target,
    http: HttpOptions,
    page: Option<Page>,
    showing: &mut JoinSet<()>,
) -> Arc<dyn Service> {
    let inspector = Inspector::new(Options {
        to: target.to_string(),
        host: http.host_header,
        policies: http.policies,
        journal: page.is_some().then(|| Arc::new(Journal::default())),
    });
    if let Some(page) = page {
        showing.spawn(page.serve(Arc::clone(&inspector)));
    }
    Arc::new(inspector)
}
