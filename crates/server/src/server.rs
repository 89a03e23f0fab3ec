//! The server: engine, reconciler and HTTP API in one handle.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use helix_dns::Resolver;
use helix_image::registry::Registry;
use helix_image::{Puller, Store};
use helix_model::bundle::VersionId;
use helix_model::installation::Settle;
use helix_model::link::{BackupAsk, PullLogin};
use helix_model::plan::EdgeReport;
use helix_model::ports::{self, Ports};
use helix_model::tunnel::{self, PortRange};
use helix_model::{
    Code, Command, Id, Instance, Name, Problem, Receipt, Snapshot, Volume, certificate, domain,
    edge, instance, node, org, snapshot, volume,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::acme::{self, Acme};
use crate::attach::{Attached, AttachedEdge, LinkedEdge, LinkedNode};
use crate::audit::Audit;
use crate::auth::{Accounts, Devices, Limits};
use crate::backups::{self, Backups};
use crate::domains::{self, Domains};
use crate::elsewhere::OtherRegistries;
use crate::engine::{Engine, EngineError, Origin, Writers};
use crate::exec_sessions::ExecSessions;
use crate::http::ExecTokens;
use crate::links::{EdgeLink, NodeLink};
use crate::registries::{self, Registries};
use crate::replicas::Replicas;
use crate::secrets::{self, Vault};
use crate::storage::Storage;
use crate::token::TokenHash;
use crate::traffic::Sampler;
use crate::tunnels::{self, Keys};
use crate::{certificates, entropy, http, observe, reconciler, retention};

/// What a server needs.
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// What outlives this process.
    pub storage: Storage,
    /// Where images that were pushed here live.
    pub images: Store,
    /// The one token that may do everything.
    pub token: TokenHash,
    pub version: String,
    /// Where other replicas on the same storage reach this one; `None` when it
    /// is the only one there can be.
    pub advertise: Option<Advertise>,
    /// How images are looked up at other people's registries.
    pub registries: Registries,
    /// How domains are looked up, and which is the installation's own.
    pub domains: Domains,
    /// Where no new endpoint may listen; as before when `None`.
    pub denied_ports: Option<Ports>,
    /// Which ports of edges tunnels get; as before when `None`.
    pub tunnel_ports: Option<PortRange>,
    /// Whether tunnels are had without a login; as before when `None`.
    pub anonymous_tunnels: Option<bool>,
    /// Which authority issues certificates, if one does.
    pub acme: Option<Acme>,
}

/// Where other replicas reach this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// At this URL.
    At(String),
    /// Where it listens, over HTTP.
    Listening,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen for the API on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the image store cannot be used")]
    Images(#[from] helix_image::ImageError),
    #[error("the installation cannot be set up")]
    Bootstrap(#[from] Problem),
}

/// Everything the HTTP handlers share.
pub(crate) struct Shared {
    pub engine: Engine,
    pub storage: Storage,
    pub images: Store,
    pub registry: Registry,
    pub puller: Puller,
    pub registries: Registries,
    pub resolver: Resolver,
    pub token: TokenHash,
    pub version: String,
    pub audit: Audit,
    pub accounts: Accounts,
    pub vault: Arc<Vault>,
    pub backups: Backups,
    pub devices: Devices,
    pub limits: Limits,
    pub exec_sessions: ExecSessions,
    pub exec_tokens: ExecTokens,
    pub uses: http::Uses,
    pub nodes: RwLock<Vec<LinkedNode>>,
    pub edges: RwLock<Vec<LinkedEdge>>,
    pub traffic: Sampler,
    pub tunnel_keys: Keys,
    /// The other replicas, where there can be any.
    pub replicas: Option<Arc<Replicas>>,
    /// Turns true when the server is to end, so that streams do.
    pub closing: watch::Receiver<bool>,
}

impl Shared {
    /// Ends when the server is closing; for streams that would never end.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closing = self.closing.clone();
        async move {
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    closing: watch::Sender<bool>,
    api: JoinHandle<()>,
    /// What is done without being asked.
    jobs: JoinHandle<()>,
}

impl Server {
    /// Replays the log, makes the default org and project on first start, and
    /// serves the API.
    pub async fn start(config: Config) -> Result<Server, ServerError> {
        let storage = config.storage;
        let writers = if config.advertise.is_some() { Writers::Many } else { Writers::One };
        let engine = Engine::start(Arc::clone(&storage.log), writers).await?;
        let tunnels = (config.tunnel_ports, config.anonymous_tunnels);
        bootstrap(&engine, settled(config.domains.app, config.denied_ports, tunnels)).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| ServerError::Listen { address: config.listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ServerError::Listen { address: config.listen, source })?;
        let replicas = config.advertise.map(|advertise| {
            let url = match advertise {
                Advertise::At(url) => url.trim_end_matches('/').to_owned(),
                Advertise::Listening => format!("http://{address}"),
            };
            Arc::new(Replicas::new(url, Arc::clone(&storage.leases)))
        });
        let mut registry = http::new_registry(config.images.clone(), engine.clone());
        if let Some(replicas) = &replicas {
            let (store, replicas) = (config.images.clone(), Arc::clone(replicas));
            registry = registry.looking(Arc::new(OtherRegistries { store, replicas }));
        }
        let (closing, closed) = watch::channel(false);
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            storage: storage.clone(),
            puller: Puller::new(&config.images, &config.registries.transport)?,
            registries: config.registries,
            resolver: config.domains.resolver,
            registry,
            images: config.images,
            token: config.token,
            version: config.version,
            audit: Audit::start(storage.audit),
            accounts: Accounts::new(Arc::clone(&storage.sealed))?,
            vault: Arc::new(Vault::new(Arc::clone(&storage.sealed), storage.rows)),
            backups: Backups::new(storage.backups.clone(), Arc::clone(&storage.sealed)),
            devices: Devices::new(storage.sealed),
            limits: Limits::new(),
            exec_sessions: ExecSessions::new(),
            exec_tokens: ExecTokens::default(),
            uses: http::Uses::default(),
            nodes: RwLock::default(),
            edges: RwLock::default(),
            traffic: Sampler::default(),
            tunnel_keys: Keys::default(),
            replicas,
            closing: closed,
        });
        certificates::ensure_authority(&engine, &shared.vault).await;
        tunnels::ensure_key(&engine, &shared.vault).await;
        let api = tokio::spawn(http::serve(listener, Arc::clone(&shared)));
        let leading = Leading {
            engine,
            resolver: shared.resolver,
            vault: Arc::clone(&shared.vault),
            acme: config.acme,
        };
        let jobs = tokio::spawn(jobs(leading, shared.replicas.clone()));
        let server = Server { shared, address, closing, api, jobs };
        server.spawn(retention::run(server.shared.storage.clone()));
        let vault = Arc::clone(&server.shared.vault);
        server.spawn(secrets::tend(server.shared.engine.clone(), Arc::clone(&vault)));
        server.spawn(registries::tend(server.shared.engine.clone(), Arc::clone(&vault)));
        server.spawn(certificates::tend(server.shared.engine.clone(), vault));
        server.spawn(backups::tend(Arc::clone(&server.shared)));
        Ok(server)
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects a node: enrols it on first sight and feeds it plans from now on,
    /// until the node connects anew. `present` are the instances it has; others
    /// that should be stopped are known to be gone by their absence.
    pub async fn attach_node(
        &self,
        name: Name,
        facts: node::Facts,
        present: BTreeSet<Id<Instance>>,
        link: Arc<dyn NodeLink>,
    ) -> Result<Attached, Problem> {
        let attached = self.shared.attach_node(name, facts, present, Arc::clone(&link)).await?;
        self.spawn(observe::feed_node(self.shared.engine.clone(), attached.clone(), link));
        Ok(attached)
    }

    /// Takes in what a node sees of an instance.
    pub async fn instance_reported(
        &self,
        from: &Attached,
        id: Id<Instance>,
        observed: instance::Observed,
    ) {
        self.shared.instance_reported(from, id, observed).await;
    }

    /// The secrets of an instance, for the node it is on.
    pub async fn deliver_secrets(
        &self,
        to: &Attached,
        id: Id<Instance>,
        version: VersionId,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        self.shared.deliver_secrets(to, id, version).await
    }

    /// The login with which to pull the image of an instance, for the node it is on.
    pub async fn pull_login(
        &self,
        to: &Attached,
        id: Id<Instance>,
    ) -> Result<Option<PullLogin>, Problem> {
        self.shared.pull_login(to, id).await
    }

    /// What an edge serves a host with over TLS.
    pub async fn deliver_certificate(
        &self,
        edge: &str,
        host: &str,
        pin: Option<certificate::Pin>,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        self.shared.deliver_certificate(edge, host, pin).await
    }

    /// Takes in what a node sees of a volume.
    pub async fn volume_reported(
        &self,
        from: &Attached,
        id: Id<Volume>,
        observed: volume::Observed,
    ) {
        self.shared.volume_reported(from, id, observed).await;
    }

    /// Takes in how a node's disk is.
    pub async fn disk_reported(&self, from: &Attached, disk: node::Disk) {
        self.shared.disk_reported(from, disk).await;
    }

    /// Does what a node asks of the store of backups.
    pub async fn backup_asked(
        &self,
        from: &Attached,
        ask: &BackupAsk,
        body: &[u8],
    ) -> Result<Vec<u8>, Problem> {
        self.shared.backup_asked(from, ask, body).await
    }

    /// Takes in what a node sees of a snapshot.
    pub async fn snapshot_reported(
        &self,
        from: &Attached,
        id: Id<Snapshot>,
        observed: snapshot::Observed,
    ) {
        self.shared.snapshot_reported(from, id, observed).await;
    }

    /// Connects an edge: enrols it on first sight and feeds it plans from now on, until
    /// the edge connects anew.
    pub async fn attach_edge(
        &self,
        name: Name,
        facts: edge::Facts,
        link: Arc<dyn EdgeLink>,
    ) -> Result<AttachedEdge, Problem> {
        let attached = self.shared.attach_edge(name, facts, Arc::clone(&link)).await?;
        self.spawn(observe::feed_edge(self.shared.engine.clone(), attached.clone(), link));
        Ok(attached)
    }

    /// Takes in what an edge reports.
    pub async fn edge_reported(&self, from: &AttachedEdge, report: EdgeReport) {
        self.shared.edge_reported(from, report).await;
    }

    /// Runs a task until the server closes. Tasks hold the engine, and the
    /// engine's writer lives as long as anyone does.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.shared.closed();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = closed => {}
            }
        });
    }

    /// The engine, for tests and for whoever embeds the server.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Notes that a node is going away on purpose.
    pub async fn detach_node(&self, gone: &Attached) {
        self.shared.detach_node(gone).await;
    }

    /// Returns only when a part of the server ends by itself.
    pub async fn ended(&mut self) {
        tokio::select! {
            _ = &mut self.api => {}
            _ = &mut self.jobs => {}
        }
    }

    /// Where other replicas reach this one, where there can be any.
    pub fn advertised(&self) -> Option<&str> {
        self.shared.replicas.as_ref().map(|replicas| replicas.url.as_str())
    }

    /// Ends the API, its streams, the links and the reconciler. What was
    /// acknowledged is in the log already.
    pub async fn shutdown(self) {
        self.jobs.abort();
        // One that has ended has told so in `ended` and must not be asked again.
        if !self.jobs.is_finished() {
            let _ = self.jobs.await;
        }
        if let Some(replicas) = &self.shared.replicas {
            replicas.leave().await;
        }
        self.closing.send_replace(true);
        if !self.api.is_finished() {
            let _ = self.api.await;
        }
    }
}

/// What the one replica needs that does what is done without being asked.
struct Leading {
    engine: Engine,
    resolver: Resolver,
    vault: Arc<Vault>,
    acme: Option<Acme>,
}

impl Leading {
    /// Returns when the engine is gone.
    async fn run(&self) {
        let engine = || self.engine.clone();
        tokio::select! {
            () = reconciler::run(engine()) => {}
            () = domains::tend(engine(), self.resolver) => {}
            () = acme::tend(engine(), Arc::clone(&self.vault), self.acme.clone()) => {}
        }
    }
}

/// Reconciles, here or on one of several replicas.
async fn jobs(leading: Leading, replicas: Option<Arc<Replicas>>) {
    let Some(replicas) = replicas else { return leading.run().await };
    let work = replicas.lead(|| async {
        tokio::select! {
            () = leading.run() => {}
            () = replicas.tend_orphans(&leading.engine) => {}
        }
    });
    tokio::join!(work, replicas.attend());
}

/// What the operator settles at the start.
fn settled(
    app_domain: Option<String>,
    denied: Option<Ports>,
    (for_tunnels, anonymous): (Option<PortRange>, Option<bool>),
) -> impl Iterator<Item = Settle> {
    let domain = app_domain.map(|domain| Settle::AppDomain(domain::SetApp { domain }));
    let denied = denied.map(|ports| Settle::DeniedPorts(ports::Deny { ports }));
    let ports = for_tunnels.map(|ports| Settle::TunnelPorts(tunnel::SetPorts { ports }));
    let anonymous =
        anonymous.map(|allowed| Settle::AnonymousTunnels(tunnel::SetAnonymous { allowed }));
    domain.into_iter().chain(denied).chain(ports).chain(anonymous)
}

/// The default org and project, which a single machine never needs to name, and what
/// the operator settles at the start.
async fn bootstrap(engine: &Engine, settled: impl Iterator<Item = Settle>) -> Result<(), Problem> {
    let origin = || Origin::system("bootstrap", entropy::request_id());
    engine.submit(Command::CreateInstallation, origin()).await?;
    let default = org::FIRST_NAME.parse::<Name>().ok();
    // Before what is settled: that may need an org of its own, which is not the first.
    if let Some(name) = default.filter(|_| engine.state().orgs.is_empty()) {
        ensured(engine.submit(Command::CreateOrg(org::Create { name }), origin()).await)?;
    }
    for one in settled {
        engine.submit(Command::Settle(one), origin()).await?;
    }
    Ok(())
}

/// Another replica that starts at the same moment may have made it.
fn ensured(made: Result<Receipt, Problem>) -> Result<(), Problem> {
    match made {
        Err(problem) if problem.code != Code::Conflict => Err(problem),
        _ => Ok(()),
    }
}
