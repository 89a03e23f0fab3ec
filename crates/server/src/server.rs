//! The server: engine, reconciler and HTTP API in one handle.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use helix_image::pull::Transport;
use helix_image::registry::Registry;
use helix_image::{Puller, Store};
use helix_model::plan::EdgeReport;
use helix_model::{Actor, Code, Command, Id, Instance, Name, Node, Problem, instance, node, org};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::audit::Audit;
use crate::auth::{Accounts, Devices, Limits};
use crate::engine::{Engine, EngineError, Origin};
use crate::links::{EdgeLink, NodeLink};
use crate::storage::Storage;
use crate::token::TokenHash;
use crate::{entropy, http, observe, reconciler, retention};

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

/// A node as it is connected now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub node: Id<Node>,
    pub name: Name,
    /// The number of its link. Whatever comes over it says so, and counts for
    /// nothing once the node has connected anew.
    pub link: u64,
}

/// A node and the way to it.
pub(crate) type LinkedNode = (Id<Node>, Arc<dyn NodeLink>);

/// Everything the HTTP handlers share.
pub(crate) struct Shared {
    pub engine: Engine,
    pub storage: Storage,
    pub images: Store,
    pub registry: Registry,
    pub puller: Puller,
    pub token: TokenHash,
    pub version: String,
    pub audit: Audit,
    pub accounts: Accounts,
    pub devices: Devices,
    pub limits: Limits,
    pub uses: http::Uses,
    pub nodes: RwLock<Vec<LinkedNode>>,
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
    reconciler: JoinHandle<()>,
}

impl Server {
    /// Replays the log, makes the default org and project on first start, and
    /// serves the API.
    pub async fn start(config: Config) -> Result<Server, ServerError> {
        let storage = config.storage;
        let engine = Engine::start(Arc::clone(&storage.log)).await?;
        bootstrap(&engine).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| ServerError::Listen { address: config.listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ServerError::Listen { address: config.listen, source })?;
        let (closing, closed) = watch::channel(false);
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            storage: storage.clone(),
            puller: Puller::new(&config.images, &Transport::default())?,
            registry: http::new_registry(config.images.clone(), engine.clone()),
            images: config.images,
            token: config.token,
            version: config.version,
            audit: Audit::start(storage.audit),
            accounts: Accounts::new(Arc::clone(&storage.sealed))?,
            devices: Devices::new(storage.sealed),
            limits: Limits::new(),
            uses: http::Uses::default(),
            nodes: RwLock::default(),
            closing: closed,
        });
        let api = tokio::spawn(http::serve(listener, Arc::clone(&shared)));
        let reconciler = tokio::spawn(reconciler::run(engine));
        let server = Server { shared, address, closing, api, reconciler };
        server.spawn(retention::run(server.shared.storage.clone()));
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
        let engine = &self.shared.engine;
        let attached = connect_node(engine, name, facts).await?;
        let id = attached.node;
        let state = engine.state();
        // What the state remembers of instances the node does not have is from
        // before; traffic must not follow it.
        let absent = state.instances.iter();
        let absent = absent.filter(|it| it.spec.node == id && !present.contains(&it.id));
        let absent: Vec<_> = absent.map(|it| (it.id, it.spec.desired)).collect();
        for (id, desired) in absent {
            let phase = match desired {
                instance::Desired::Stopped => instance::Phase::Stopped,
                _ => instance::Phase::Pending,
            };
            let observed = instance::Observed { phase, ..Default::default() };
            self.instance_reported(&attached, id, observed).await;
        }
        if let Ok(mut nodes) = self.shared.nodes.write() {
            nodes.retain(|(known, _)| *known != id);
            nodes.push((id, Arc::clone(&link)));
        }
        self.spawn(observe::feed_node(engine.clone(), attached.clone(), link));
        Ok(attached)
    }

    /// Takes in what a node sees of an instance.
    pub async fn instance_reported(
        &self,
        from: &Attached,
        id: Id<Instance>,
        observed: instance::Observed,
    ) {
        let command = observe::instance_command(id, observed, from.link);
        observe::report(&self.shared.engine, from.name.as_str(), command).await;
    }

    /// Connects the edge and feeds it plans from now on.
    pub fn attach_edge(&self, link: Arc<dyn EdgeLink>) {
        self.spawn(observe::feed_edge(self.shared.engine.clone(), link));
    }

    /// Takes in what an edge reports.
    pub async fn edge_reported(&self, edge: &str, report: EdgeReport) {
        for command in observe::edge_commands(report) {
            observe::report(&self.shared.engine, edge, command).await;
        }
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
        let disconnect = node::Disconnect { node: gone.node, link: gone.link };
        let command = Command::DisconnectNode(disconnect);
        observe::report(&self.shared.engine, gone.name.as_str(), command).await;
    }

    /// Ends the API, its streams and the reconciler. What was acknowledged is
    /// in the log already.
    pub async fn shutdown(self) {
        self.reconciler.abort();
        self.closing.send_replace(true);
        let _ = self.api.await;
    }
}

/// Enrols a node on first sight and takes the number of its link.
async fn connect_node(
    engine: &Engine,
    name: Name,
    facts: node::Facts,
) -> Result<Attached, Problem> {
    let origin = machine_origin(&name);
    let connect = node::Connect { name: name.clone(), facts, replica: None };
    let receipt = engine.submit(Command::ConnectNode(connect), origin).await?;
    // The receipt and not the state: another link may be younger already.
    let node = receipt.subject.and_then(|subject| subject.id.typed());
    let status: Result<node::Status, _> = serde_json::from_value(receipt.current);
    match (node, status) {
        (Some(node), Ok(status)) => Ok(Attached { node, name, link: status.link }),
        _ => {
            let detail = format!("the receipt of node `{name}` does not tell its link");
            Err(Problem::new(Code::Internal, detail))
        }
    }
}

/// The default org and project, which a single machine never needs to name.
async fn bootstrap(engine: &Engine) -> Result<(), Problem> {
    let origin = || Origin {
        actor: Actor::System("bootstrap".to_owned()),
        request_id: entropy::request_id(),
        source: None,
        idempotency: None,
        precondition: None,
    };
    engine.submit(Command::CreateInstallation, origin()).await?;
    let Ok(default) = org::FIRST_NAME.parse::<Name>() else {
        return Ok(());
    };
    if engine.state().orgs.is_empty() {
        let create = org::Create { name: default };
        engine.submit(Command::CreateOrg(create), origin()).await?;
    }
    Ok(())
}

fn machine_origin(name: &Name) -> Origin {
    Origin {
        actor: Actor::Machine(name.to_string()),
        request_id: entropy::request_id(),
        source: None,
        idempotency: None,
        precondition: None,
    }
}
