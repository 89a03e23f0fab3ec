//! The handle on a running edge.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use helix_model::edge::AgentUrl;
use helix_model::plan::{EdgePlan, EdgeReport};
use helix_model::traffic::Told;
use ipnet::IpNet;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::access_log::{AccessLog, AccessLogConfig, LogTarget};
use crate::agents::{self, Agents, quic};
use crate::config::{Config, Takeover};
use crate::director::{Certified, Director, Request};
use crate::error::EdgeError;
use crate::saved_plan::{self, SavedPlan};
use crate::shards::{Running, Shards};
use crate::shared::Shared;
use crate::stats::Stats;
use crate::takeover::{self, Fronts, Named, Taken};
use crate::tls::{self, Acceptor, CertificateSource, Source};
use crate::{http, metrics, sockets};

/// Plans waiting to be applied. Only the latest matters, so a sender that is
/// this far ahead may as well wait.
const QUEUE: usize = 8;

/// A running edge. Dropping it stops it at once; [`Edge::shutdown`] is the
/// orderly way.
pub struct Edge {
    shared: Arc<Shared>,
    http_addresses: Vec<SocketAddr>,
    https_addresses: Vec<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    addresses: Vec<IpNet>,
    agents: Vec<AgentUrl>,
    region: Option<String>,
    requests: mpsc::Sender<Request>,
    reports: watch::Receiver<EdgeReport>,
    source: watch::Sender<Source>,
    director: JoinHandle<()>,
    /// Ends what is still open when the edge is dropped.
    _running: Running,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("http", &self.http_addresses).finish_non_exhaustive()
    }
}

/// Listens everywhere, and says where that came to be.
fn listen(
    what: &'static str,
    wanted: &[SocketAddr],
    taken: &mut Taken,
    fronts: &mut Fronts,
) -> Result<(Vec<SocketAddr>, Vec<Arc<TcpListener>>), EdgeError> {
    let mut listen_on = |address: &SocketAddr| {
        let refuse = |source| EdgeError::Listen { what, address: *address, source };
        let listener = match taken.front(what, *address).map_err(refuse)? {
            Some(listener) => listener,
            None => sockets::listen_shared(*address).map_err(refuse)?,
        };
        let (at, listener) = (listener.local_addr().map_err(refuse)?, Arc::new(listener));
        let named = Named::Front { what: what.to_owned(), asked: *address };
        fronts.push((named, Arc::clone(&listener)));
        Ok((at, listener))
    };
    let listening = wanted.iter().map(&mut listen_on).collect::<Result<Vec<_>, _>>()?;
    Ok(listening.into_iter().unzip())
}

/// What the edge that runs has, if it is to be taken over.
async fn take(takeover: Option<&Takeover>) -> Result<Taken, EdgeError> {
    let Some(Takeover { socket, take: true }) = takeover else { return Ok(Taken::default()) };
    let socket = socket.clone();
    let taking = tokio::task::spawn_blocking(move || Taken::from(&socket)).await;
    taking.map_err(std::io::Error::other).and_then(|taken| taken).map_err(EdgeError::Takeover)
}

/// Opens the access log, so that one that cannot be written is told at the start.
fn access_log(config: AccessLogConfig) -> Result<Arc<AccessLog>, EdgeError> {
    let to = match &config.to {
        LogTarget::Stdout => "standard output".to_owned(),
        LogTarget::File(path) => path.display().to_string(),
    };
    let started = AccessLog::start(config);
    started.map(Arc::new).map_err(|source| EdgeError::AccessLog { to, source })
}

impl Edge {
    /// Starts accepting HTTP and serves the last plan on disk, if there is one.
    pub async fn start(config: Config) -> Result<Edge, EdgeError> {
        let (mut taken, mut fronts) = (take(config.takeover.as_ref()).await?, Fronts::new());
        let mut listen = |what, wanted: &[_]| listen(what, wanted, &mut taken, &mut fronts);
        let (http_addresses, http_listeners) = listen("HTTP", &config.http_listen)?;
        let (https_addresses, https_listeners) = listen("HTTPS", &config.https_listen)?;
        let metrics: Vec<_> = config.metrics_listen.into_iter().collect();
        let (metrics_addresses, metrics_listeners) = listen("metrics", &metrics)?;
        let last_plan = config.plan_file.as_deref().and_then(saved_plan::load);

        let https_port = https_addresses.first().map(SocketAddr::port);
        let access_log = config.access_log.map(access_log).transpose()?;
        let balancers = config.balancers;
        let whole = |url| agents::whole(url, https_port?);
        let agent_urls: Vec<_> = config.agents.iter().filter_map(whole).collect();
        let takes_over = config.takeover.as_ref().is_some_and(|takeover| takeover.take);
        let at = https_addresses.first().filter(|_| !agent_urls.is_empty());
        let (door, agent_urls) = quic::Door::open(config.agents_quic, at, takes_over, agent_urls)?;
        let agents = Agents::at(&agent_urls, config.plan_file.as_deref());
        let (shards, running) = Shards::start(config.own_threads).map_err(EdgeError::Threads)?;
        let shared =
            Shared { https_port, balancers, access_log, agents, shards, ..Shared::default() };
        let shared = Arc::new(shared);
        let acceptor = Acceptor::new(Arc::clone(&shared))?;
        let changed = Arc::new(Notify::new());
        let (wanted, now_wanted) = watch::channel(Arc::default());
        let (source, now_source) = watch::channel(None);
        if https_port.is_some() {
            let kept = tls::Kept::at(config.kept_certificates);
            let changed = Arc::clone(&changed);
            let keeping = tls::keep(Arc::clone(&shared), now_wanted, now_source, changed, kept);
            tokio::spawn(keeping);
        }
        let (requests, queue) = mpsc::channel(QUEUE);
        let (report_sender, reports) = watch::channel(EdgeReport::default());
        let director = Director::new(
            Arc::clone(&shared),
            (http_addresses.clone(), https_addresses.clone()),
            (config.any_ip, &config.addresses, taken),
            config.plan_file.map(SavedPlan::start),
            Certified { wanted, changed },
            report_sender,
        );
        let director = tokio::spawn(director.run(queue));
        let edge = Edge {
            shared,
            http_addresses,
            https_addresses,
            metrics_address: metrics_addresses.first().copied(),
            addresses: config.addresses,
            agents: agent_urls,
            region: config.region,
            requests,
            reports,
            source,
            director,
            _running: running,
        };
        if let Some(plan) = last_plan {
            edge.apply(Arc::new(plan)).await;
        }
        // Only now, so that the first request after a restart finds its route.
        edge.accept(&http_listeners, &https_listeners, &metrics_listeners, &acceptor, door)
            .map_err(EdgeError::Threads)?;
        let _ = edge.requests.send(Request::Serving).await;
        if let Some(takeover) = config.takeover {
            edge.offer(&takeover.socket, fronts);
        }
        Ok(edge)
    }

    /// Takes what comes to the shared listeners.
    fn accept(
        &self,
        http_fronts: &[Arc<TcpListener>],
        https_fronts: &[Arc<TcpListener>],
        metrics_fronts: &[Arc<TcpListener>],
        acceptor: &Acceptor,
        door: Option<quic::Door>,
    ) -> io::Result<()> {
        let shared = &self.shared;
        for listener in http_fronts {
            shared.listen(listener, |own| http::accept(Arc::clone(shared), own))?;
        }
        for listener in https_fronts {
            let accept = |own| tls::accept(Arc::clone(shared), acceptor.clone(), own);
            shared.listen(listener, accept)?;
        }
        for listener in metrics_fronts {
            let own = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            shared.tasks.spawn(metrics::accept(Arc::clone(shared), own));
        }
        if let Some(door) = door {
            shared.tasks.spawn(door.accept(Arc::clone(shared)));
        }
        Ok(())
    }

    /// Lets another process take over. An edge that nobody can take over serves as well.
    fn offer(&self, socket: &Path, fronts: Fronts) {
        let (shared, requests) = (Arc::clone(&self.shared), self.requests.clone());
        match takeover::listen(socket) {
            Ok(listener) => {
                self.shared.tasks.spawn(takeover::offer(shared, listener, fronts, requests));
            }
            Err(error) => {
                tracing::warn!(path = %socket.display(), %error, "nobody can take this edge over");
            }
        }
    }

    /// Where HTTP is accepted, with the ports that were bound.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http_addresses
    }

    /// The same for HTTPS.
    pub fn https_addresses(&self) -> &[SocketAddr] {
        &self.https_addresses
    }

    /// Where Prometheus is answered, if it is.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The prefixes it was given, for addresses of envs.
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// Where agents of tunnels reach it, the best first.
    pub fn agents(&self) -> &[AgentUrl] {
        &self.agents
    }

    /// Where it is, in the operator's words.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Has certificates fetched from there, or, without a link, from nowhere: what is
    /// here stays in use.
    pub fn certificates_from(&self, source: Option<Arc<dyn CertificateSource>>) {
        self.source.send_replace(source);
    }

    /// Serves a plan and reports; resolves when it is in force. A plan older
    /// than the one in force is ignored.
    pub fn apply(&self, plan: Arc<EdgePlan>) -> impl Future<Output = EdgeReport> + use<> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.clone();
        let reports = self.reports.clone();
        async move {
            // Both fail only when the edge is being shut down.
            let _ = requests.send(Request::Apply { plan, reply }).await;
            answer.await.unwrap_or_else(|_| reports.borrow().clone())
        }
    }

    /// The report, whenever it changes: a plan was applied, a draining instance
    /// lost its last work, an endpoint became reachable or ceased to be.
    pub fn reports(&self) -> watch::Receiver<EdgeReport> {
        self.reports.clone()
    }

    /// What passed through so far and what is open now.
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// Returns once another process has taken over what listens; what is open here is to be
    /// brought to its end with [`Edge::shutdown`].
    pub fn handed_over(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            let draining = shared.draining.interrupts(std::future::pending::<()>());
            draining.await;
            if !shared.is_handed_over() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What went through each endpoint that anything went through.
    pub fn traffic(&self) -> Vec<Told> {
        let table = self.shared.table.load();
        let told = table.services().iter().map(|service| {
            let meter = service.meter();
            Told { endpoint: meter.of.id, traffic: meter.read().traffic }
        });
        told.filter(|told| told.traffic.begun > 0).collect()
    }

    /// Has the access log's file opened anew, if there is one.
    pub fn reopen_access_log(&self) {
        if let Some(log) = &self.shared.access_log {
            log.reopen();
        }
    }

    /// Stops accepting, gives open connections and requests `grace` to end, then
    /// closes what is left and removes every trace from the machine.
    pub async fn shutdown(mut self, grace: Duration) {
        self.shared.draining.enter();
        self.shared.agents.drain();
        let _ = self.requests.send(Request::Stop).await;
        let _ = (&mut self.director).await;
        self.shared.tasks.close();
        if tokio::time::timeout(grace, self.shared.tasks.wait()).await.is_err() {
            self.shared.closing.enter();
            self.shared.tasks.wait().await;
        }
        if let Some(log) = &self.shared.access_log {
            log.finish().await;
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shared.draining.enter();
        self.shared.agents.drain();
        self.shared.closing.enter();
    }
}
