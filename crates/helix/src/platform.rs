//! The whole platform in this process: server, node and edge on embedded
//! defaults, wired together.
//!
//! ```text
//! <data>/log/         the event log            <data>/images/  pushed and pulled images
//! <data>/node/        the node agent's files   <data>/edge/    the edge's last plan
//! <data>/token        who may do everything (mode 0600)
//! ```

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use helix_cli::{FrontOptions, QuicOption};
use helix_edge::{AnyIp, Edge, EdgeError, QuicPort};
use helix_image::{ImageError, Store};
use helix_model::domain::LOCAL;
use helix_model::edge::AgentUrl;
use helix_model::plan::EdgePlan;
use helix_model::ports::Ports;
use helix_model::traffic::Told;
use helix_model::tunnel::PortRange;
use helix_model::tunnel::Transport;
use helix_model::{Id, Name, Problem, instance};
use helix_node::{
    Agent, DiskLimits, DiskSeen, Isolation, NodeError, OwnRegistry, Snapshots, Stop, Volumes,
};
use helix_server::links::EdgeLink;
use helix_server::{
    Acme, Attached, Config, Domains, Keep, Registries, Server, ServerError, Storage, StorageError,
    Token,
};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::access_log;
use crate::certificate_source::LocalCertificates;
use crate::node_link::LocalNode;
use crate::offline::archive_variables;
use crate::secret_source::LocalSource;
use crate::token_file;

/// How long requests under way may take to end when the platform stops.
const EDGE_GRACE: Duration = Duration::from_secs(5);

/// What to start with.
pub(crate) struct Options {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// What user traffic comes in by.
    pub front: FrontOptions,
    pub helix_exe: PathBuf,
    pub isolation: Option<Isolation>,
    pub disk: DiskLimits,
    pub volume_pool: Option<String>,
    pub registries: Registries,
    pub any_ip: AnyIp,
    pub keep: Keep,
    /// Below the data directory when `None`.
    pub archive: Option<PathBuf>,
    pub backups: Option<PathBuf>,
    pub domains: Domains,
    pub denied_ports: Option<Ports>,
    /// Which ports tunnels get; as before when `None`.
    pub tunnel_ports: Option<PortRange>,
    /// Whether tunnels are had without a login; as before when `None`.
    pub anonymous_tunnels: Option<bool>,
    pub acme: Option<Acme>,
}

/// Why the platform cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlatformError {
    #[error("the data directory {path} cannot be made")]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the token file {path} cannot be used")]
    Token {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the image store cannot be opened")]
    Images(#[from] ImageError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("the node agent cannot start")]
    Node(#[from] NodeError),
    #[error("signals cannot be listened to")]
    Signals(#[source] std::io::Error),
    #[error("the edge cannot start")]
    Edge(#[from] EdgeError),
    #[error("the node was refused")]
    Refused(#[from] Problem),
}

/// The running platform.
pub(crate) struct Platform {
    server: Arc<Server>,
    agent: Arc<Agent>,
    edge: Arc<Edge>,
    node: Attached,
    token: Token,
    tasks: Vec<JoinHandle<()>>,
}

impl Platform {
    /// Starts everything; what ran before is taken up again.
    pub(crate) async fn start(options: Options) -> Result<Platform, PlatformError> {
        let data_dir = &options.data_dir;
        make_private_dir(data_dir)?;
        make_private_dir(&data_dir.join("edge"))?;
        let token_path = data_dir.join("token");
        let token = token_file::load_or_create(&token_path)
            .map_err(|source| PlatformError::Token { path: token_path, source })?;
        let place = options.archive.as_ref().unwrap_or(data_dir);
        let storage = Storage::open_directory(data_dir).await?.keeping(options.keep);
        let storage = storage.archived_at(place, archive_variables()).await?;
        let storage = storage.backed_up_to(options.backups.as_deref(), archive_variables())?;
        let images = Store::open(&data_dir.join("images"))?;
        let server = Server::start(Config {
            listen: options.listen,
            storage,
            images,
            token: token.hash(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            advertise: None,
            registries: options.registries.clone(),
            domains: options.domains.clone(),
            denied_ports: options.denied_ports.clone(),
            tunnel_ports: options.tunnel_ports,
            anonymous_tunnels: options.anonymous_tunnels,
            acme: options.acme.clone(),
        })
        .await?;
        let server = Arc::new(server);
        let agent = Arc::new(start_agent(&options, &server, &token).await?);
        let edge = Edge::start(helix_edge::Config {
            http_listen: vec![(Ipv6Addr::UNSPECIFIED, options.front.http_port).into()],
            https_listen: vec![(Ipv6Addr::UNSPECIFIED, options.front.https_port).into()],
            metrics_listen: options.front.metrics,
            access_log: access_log::config(&options.front),
            takeover: None,
            plan_file: Some(data_dir.join("edge").join("plan.json")),
            // The server is this process.
            kept_certificates: None,
            balancers: options.front.balancers.clone(),
            agents: agents(&options.front, Some(options.domains.app.as_deref().unwrap_or(LOCAL))),
            agents_quic: quic_port(&options.front),
            addresses: options.front.addresses.clone(),
            any_ip: options.any_ip,
            region: options.front.region.clone(),
            own_threads: true,
        })
        .await?;
        let edge = Arc::new(edge);
        access_log::reopen_at_hangup(&options.front, &edge).map_err(PlatformError::Signals)?;
        let mut tasks = Vec::new();
        let node = attach_node(&server, &agent, node_name(), &mut tasks).await?;
        attach_edge(&server, &edge, &mut tasks).await?;
        Ok(Platform { server, agent, edge, node, token, tasks })
    }

    /// Where the API listens.
    pub(crate) fn api(&self) -> SocketAddr {
        self.server.address()
    }

    /// Who may do everything.
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// Returns only when a part of the platform ends by itself.
    pub(crate) async fn ended(&mut self) {
        let (_, index, _) = futures::future::select_all(self.tasks.iter_mut()).await;
        self.tasks.remove(index);
    }

    /// Lets requests end, stops the instances and then the rest. All of it
    /// comes back with the next start.
    pub(crate) async fn shutdown(self) {
        let Platform { server, agent, edge, node, tasks, .. } = self;
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        // The edge first: no new work, and what is under way may end while its
        // instances still run. The tasks were the other owners.
        if let Some(edge) = Arc::into_inner(edge) {
            edge.shutdown(EDGE_GRACE).await;
        }
        agent.shutdown(Stop::StopInstances).await;
        server.detach_node(&node).await;
        if let Some(server) = Arc::into_inner(server) {
            server.shutdown().await;
        }
    }
}

async fn start_agent(
    options: &Options,
    server: &Server,
    token: &Token,
) -> Result<Agent, PlatformError> {
    let registry = OwnRegistry {
        host: server.address().to_string(),
        token: token.reveal().to_owned(),
        plain_http: true,
    };
    let node_dir = options.data_dir.join("node");
    let mut config = helix_node::Config::new(node_dir, options.helix_exe.clone(), vec![registry]);
    config.isolation = options.isolation;
    // One store for the registry and the node: an image that was pushed here is
    // not copied to run here.
    config.image_dir = Some(options.data_dir.join("images"));
    config.image_dir_is_registrys = true;
    config.disk = options.disk;
    config.volume_pool.clone_from(&options.volume_pool);
    config.registries = options.registries.transport.clone();
    Ok(Agent::start(config).await?)
}

async fn attach_node(
    server: &Arc<Server>,
    agent: &Arc<Agent>,
    name: Name,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Result<Attached, PlatformError> {
    let observations = agent.observations();
    let present = agent.present().await;
    let current = agent.current();
    let link = Arc::new(LocalNode(Arc::clone(agent)));
    let node = server.attach_node(name, agent.facts(), present, link).await?;
    agent.secrets_from(Some(Arc::new(LocalSource::new(server, node.clone()))));
    agent.backups_kept_by(Some(Arc::new(LocalSource::new(server, node.clone()))));
    for (id, observed) in current {
        server.instance_reported(&node, id, observed).await;
    }
    let forward = forward_volumes(Arc::clone(server), agent.volumes(), node.clone());
    tasks.push(tokio::spawn(forward));
    let forward = forward_disk(Arc::clone(server), agent.disk(), node.clone());
    tasks.push(tokio::spawn(forward));
    let forward = forward_snapshots(Arc::clone(server), agent.snapshots(), node.clone());
    tasks.push(tokio::spawn(forward));
    let forward =
        forward_observations(Arc::clone(server), Arc::clone(agent), node.clone(), observations);
    tasks.push(tokio::spawn(forward));
    Ok(node)
}

/// Passes on what the node sees; one who fell behind reads everything again.
async fn forward_observations(
    server: Arc<Server>,
    agent: Arc<Agent>,
    node: Attached,
    mut observations: broadcast::Receiver<(Id<instance::Instance>, instance::Observed)>,
) {
    loop {
        match observations.recv().await {
            Ok((id, observed)) => server.instance_reported(&node, id, observed).await,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                for (id, observed) in agent.current() {
                    server.instance_reported(&node, id, observed).await;
                }
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// The same for volumes.
async fn forward_volumes(server: Arc<Server>, mut volumes: Volumes, node: Attached) {
    let mut told = BTreeMap::new();
    loop {
        let now = volumes.borrow_and_update().clone();
        for (id, observed) in now {
            if told.get(&id) != Some(&observed) {
                server.volume_reported(&node, id, observed.clone()).await;
                told.insert(id, observed);
            }
        }
        if volumes.changed().await.is_err() {
            return;
        }
    }
}

/// And for the disk.
async fn forward_disk(server: Arc<Server>, mut disk: DiskSeen, node: Attached) {
    loop {
        let seen = disk.borrow_and_update().clone();
        if let Some(seen) = seen {
            server.disk_reported(&node, seen).await;
        }
        if disk.changed().await.is_err() {
            return;
        }
    }
}

/// The same for snapshots.
async fn forward_snapshots(server: Arc<Server>, mut snapshots: Snapshots, node: Attached) {
    let mut told = BTreeMap::new();
    loop {
        let now = snapshots.borrow_and_update().clone();
        for (id, observed) in now {
            if told.get(&id) != Some(&observed) {
                server.snapshot_reported(&node, id, observed.clone()).await;
                told.insert(id, observed);
            }
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// The edge of this process, as the server's link to it.
struct LocalEdge {
    plans: mpsc::UnboundedSender<EdgePlan>,
    /// It goes before the server does.
    edge: Weak<Edge>,
}

#[async_trait]
impl EdgeLink for LocalEdge {
    fn apply(&self, plan: EdgePlan) {
        // Unbounded, because plans are few and the receiver only keeps the last.
        let _ = self.plans.send(plan);
    }

    async fn traffic(&self) -> Option<Vec<Told>> {
        self.edge.upgrade().map(|edge| edge.traffic())
    }
}

async fn attach_edge(
    server: &Arc<Server>,
    edge: &Arc<Edge>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Result<(), PlatformError> {
    let (sender, mut plans) = mpsc::unbounded_channel();
    let link = Arc::new(LocalEdge { plans: sender, edge: Arc::downgrade(edge) });
    let attached = server.attach_edge(node_name(), edge_facts(edge), link).await?;
    let certificates = LocalCertificates::new(server, attached.name.clone());
    edge.certificates_from(Some(Arc::new(certificates)));
    let applying = Arc::clone(edge);
    let (reporting, from) = (Arc::clone(server), attached.clone());
    tasks.push(tokio::spawn(async move {
        while let Some(mut plan) = plans.recv().await {
            while let Ok(newer) = plans.try_recv() {
                plan = newer;
            }
            let report = applying.apply(Arc::new(plan)).await;
            reporting.edge_reported(&from, report).await;
        }
    }));
    let mut reports = edge.reports();
    let reporting = Arc::clone(server);
    tasks.push(tokio::spawn(async move {
        while reports.changed().await.is_ok() {
            let report = reports.borrow_and_update().clone();
            reporting.edge_reported(&attached, report).await;
        }
    }));
    Ok(())
}

/// Where agents of tunnels reach an edge: as the operator says. The one that is on the
/// machine of everything else has a name below the domain of apps unless told otherwise:
/// that leads here if anything does.
pub(crate) fn agents(front: &FrontOptions, usual: Option<&str>) -> Vec<AgentUrl> {
    let usual = usual.filter(|_| front.tunnel_urls.is_empty());
    let usual = usual.map(|domain| format!("wss://tunnels.{domain}"));
    let urls = front.tunnel_urls.iter().cloned().chain(usual);
    let transport = |url: &str| match url.starts_with("quic:") {
        true => Transport::Quic,
        false => Transport::Wss,
    };
    urls.map(|url| AgentUrl { transport: transport(&url), url }).collect()
}

/// Where they come over UDP.
pub(crate) fn quic_port(front: &FrontOptions) -> QuicPort {
    match front.tunnel_quic {
        None => QuicPort::AsHttps,
        Some(QuicOption::Port(port)) => QuicPort::Own(port),
        Some(QuicOption::Off) => QuicPort::Off,
    }
}

/// What an edge says of itself.
pub(crate) fn edge_facts(edge: &Edge) -> helix_model::edge::Facts {
    let text = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect();
    helix_model::edge::Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        http: text(edge.http_addresses()),
        https: text(edge.https_addresses()),
        addresses: edge.addresses().to_vec(),
        agents: edge.agents().to_vec(),
        region: edge.region().map(str::to_owned),
    }
}

pub(crate) fn make_private_dir(path: &Path) -> Result<(), PlatformError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| PlatformError::DataDir { path: path.to_owned(), source })
}

/// The machine's host name as far as it is a name.
pub(crate) fn node_name() -> Name {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let derived = host.as_deref().and_then(Name::derive).or_else(|| Name::derive("node"));
    derived.unwrap_or_else(|| unreachable!("`node` is a valid name"))
}
