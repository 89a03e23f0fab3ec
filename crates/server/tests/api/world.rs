//! The world of the API tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use helix_image::registry::repository;
use helix_image::{ComposeFile, ComposeLayer, FileSource, ImageConfig, Store, compose};
use helix_log::LogError;
use helix_model::instance::{Desired, Observed, Phase};
use helix_model::plan::{EdgePlan, EdgeReport, NodePlan};
use helix_model::traffic::{Told, Traffic};
use helix_model::{AnyId, Id, Instance, Name, edge, node};
use helix_server::links::{
    EdgeLink, Exec, ExecRefused, ExecSession, LogQuery, LogRecord, NodeLink,
};
use helix_server::{
    Attached, AttachedEdge, Config, Domains, Engine, Keep, Resolver, Server, Storage, StorageError,
    Token,
};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Longest any condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    /// An image that was pushed to the server's own registry.
    pub image: String,
    /// Making one takes long enough to share it.
    http: reqwest::Client,
    server: Server,
    storage: Storage,
    keep: Keep,
    token: Token,
    plans: watch::Receiver<Option<NodePlan>>,
    node: Attached,
    edge: AttachedEdge,
    dir: tempfile::TempDir,
}

/// A node that keeps the plan it is given and does nothing.
struct IdleNode(watch::Sender<Option<NodePlan>>);

#[async_trait]
impl NodeLink for IdleNode {
    fn apply(&self, plan: NodePlan) {
        self.0.send_replace(Some(plan));
    }

    fn logs(&self, _query: LogQuery) -> BoxStream<'static, LogRecord> {
        futures::stream::empty().boxed()
    }

    async fn exec(&self, _: Id<Instance>, _: Exec) -> Result<ExecSession, ExecRefused> {
        Err(ExecRefused { message: "this node runs nothing".to_owned(), not_running: true })
    }
}

/// An edge that serves nothing, and says of each endpoint of its plan that ten requests
/// came since it was asked last.
#[derive(Default)]
struct CountingEdge {
    endpoints: Mutex<Vec<AnyId>>,
    asked: AtomicU64,
}

#[async_trait]
impl EdgeLink for CountingEdge {
    fn apply(&self, plan: EdgePlan) {
        *self.endpoints.lock().unwrap() = plan.endpoints.iter().map(|it| it.id.any()).collect();
    }

    async fn traffic(&self) -> Option<Vec<Told>> {
        let begun = 10 * (self.asked.fetch_add(1, Ordering::Relaxed) + 1);
        let traffic =
            Traffic { begun, errors: begun / 10, durations: vec![begun], ..Traffic::default() };
        let endpoints = self.endpoints.lock().unwrap();
        let told = |endpoint: &AnyId| Told { endpoint: *endpoint, traffic: traffic.clone() };
        Some(endpoints.iter().map(told).collect())
    }
}

impl World {
    pub(crate) async fn new() -> World {
        // Another test of this process may have been first; either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        World::at(dir, Token::fresh(), Keep::default()).await
    }

    /// A server that keeps history in its database for so long.
    pub(crate) async fn keeping(keep: Keep) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        World::at(tempfile::tempdir().unwrap(), Token::fresh(), keep).await
    }

    /// What the server stores in; to be let go of before a restart.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.server.engine()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The node as it is attached, and as it was before.
    pub(crate) fn attachments(&self) -> (Attached, Attached) {
        let stale = Attached { link: self.node.link - 1, ..self.node.clone() };
        (self.node.clone(), stale)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the server and starts it again on the same files.
    pub(crate) async fn restarted(self) -> World {
        self.restarted_after(|_| async {}).await
    }

    /// The same; meanwhile something happens to the files.
    pub(crate) async fn restarted_after<F: Future<Output = ()>>(
        self,
        meanwhile: impl FnOnce(PathBuf) -> F,
    ) -> World {
        let World { server, storage, token, keep, dir, .. } = self;
        server.shutdown().await;
        drop(storage);
        drop(open_storage(dir.path()).await);
        meanwhile(dir.path().to_owned()).await;
        World::at(dir, token, keep).await
    }

    async fn at(dir: tempfile::TempDir, token: Token, keep: Keep) -> World {
        let images = Store::open(&dir.path().join("images")).unwrap();
        let image = push(&images).await;
        let storage = open_storage(dir.path()).await.keeping(keep);
        let server = Server::start(Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            storage: storage.clone(),
            images,
            token: token.hash(),
            version: "0.0.0".to_owned(),
            advertise: None,
            registries: helix_server::Registries::default(),
            domains: nobody(),
            denied_ports: None,
            tunnel_ports: None,
            anonymous_tunnels: None,
            acme: None,
        })
        .await
        .unwrap();
        let (sender, plans) = watch::channel(None);
        let facts = node::Facts {
            version: "0.0.0".to_owned(),
            cpus: 2,
            memory_bytes: 16 << 30,
            isolation: "process".to_owned(),
            isolation_reason: "pretended".to_owned(),
            isolation_advice: None,
            volumes: None,
        };
        let link = Arc::new(IdleNode(sender));
        let node = server.attach_node(node_name(), facts, BTreeSet::new(), link).await.unwrap();
        let http = reqwest::Client::new();
        let (edge, facts) = ("front".parse().unwrap(), front());
        let edge =
            server.attach_edge(edge, facts, Arc::new(CountingEdge::default())).await.unwrap();
        World { image, http, server, storage, keep, token, plans, node, edge, dir }
    }

    /// The installation's own token.
    pub(crate) fn root(&self) -> &str {
        self.token.reveal()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    pub(crate) fn token(&self) -> &str {
        self.token.reveal()
    }

    pub(crate) fn authorized(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(self.token.reveal())
    }

    pub(crate) async fn try_get(&self, path: &str) -> (u16, Value) {
        let response = self.authorized(Method::GET, path).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.try_get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn follow(&self, path: &str) -> Response {
        self.authorized(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value, key: &str) -> (u16, Value) {
        let request = self.authorized(Method::POST, path).header("idempotency-key", key);
        let response = request.json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn delete(&self, path: &str, key: &str) -> (u16, Value) {
        let request = self.authorized(Method::DELETE, path).header("idempotency-key", key);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Once every instance is on its way out, the edge and the node say that it
    /// has gone.
    pub(crate) async fn let_go(&self) {
        let engine = self.server.engine();
        let mut position = engine.position();
        let going = |_: &u64| {
            let state = engine.state();
            state.instances.iter().all(|it| it.spec.desired != Desired::Running)
        };
        let waited = tokio::time::timeout(DEADLINE, position.wait_for(going)).await;
        waited.expect("the instances never went").unwrap();
        let state = engine.state();
        for id in state.instances.iter().map(|it| it.id) {
            let drained = EdgeReport { drained: vec![id], ..EdgeReport::default() };
            self.server.edge_reported(&self.edge, drained).await;
            let observed = Observed { phase: Phase::Stopped, ..Observed::default() };
            self.server.instance_reported(&self.node, id, observed).await;
        }
    }

    pub(crate) async fn deploy(&self, app: &str, key: &str) -> Value {
        let (status, receipt) = self.post("/v1/deploys", &deploy_body(app, &self.image), key).await;
        assert_eq!(status, 200, "{receipt}");
        receipt
    }

    /// Reports a phase for every instance that should run, until none is left.
    pub(crate) async fn report_all(&self, phase: Phase) {
        self.wait_plan(|plan| !plan.instances.is_empty()).await;
        loop {
            let state = self.server.engine().state();
            let next = state.instances.iter().find(|it| {
                it.spec.desired == Desired::Running && it.status.observed.phase != phase
            });
            let Some(id) = next.map(|it| it.id) else {
                return;
            };
            let observed = Observed { phase, ..Observed::default() };
            self.server.instance_reported(&self.node, id, observed).await;
        }
    }

    pub(crate) async fn wait_plan(&self, is_wanted: impl Fn(&NodePlan) -> bool) {
        let mut plans = self.plans.clone();
        let wanted = plans.wait_for(|plan| plan.as_ref().is_some_and(&is_wanted));
        tokio::time::timeout(DEADLINE, wanted).await.expect("the plan never came").unwrap();
    }
}

/// The engine's writer ends when its last handle is gone; until then the log's
/// directory is in use.
async fn open_storage(dir: &Path) -> Storage {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        match Storage::open_directory(dir).await {
            Err(StorageError::Log(LogError::InUse { .. })) => {
                assert!(tokio::time::Instant::now() < deadline, "the log is still in use");
                tokio::task::yield_now().await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Tests ask no DNS but their own: nobody answers here.
fn nobody() -> Domains {
    Domains { resolver: Resolver::At("127.0.0.1:9".parse().unwrap()), app: None }
}

/// An edge that takes agents of tunnels.
fn front() -> edge::Facts {
    let agent = edge::AgentUrl {
        url: "wss://front.localhost:8443/.helix/tunnel".to_owned(),
        transport: helix_model::tunnel::Transport::Wss,
    };
    edge::Facts {
        https: vec!["[::]:8443".to_owned()],
        agents: vec![agent],
        ..edge::Facts::default()
    }
}

fn node_name() -> Name {
    "here".parse().unwrap()
}

async fn push(images: &Store) -> String {
    let source = FileSource::Bytes(b"hello".to_vec());
    let file = ComposeFile { path: "/app".to_owned(), source, mode: 0o644 };
    let layers = vec![ComposeLayer::Files(vec![file])];
    let digest = compose(images, layers, ImageConfig::default()).await.unwrap();
    repository::publish(images, "default/default/shop", "latest", &digest).unwrap();
    format!("helix.internal/default/default/shop@{digest}")
}

pub(crate) fn deploy_body(app: &str, image: &str) -> Value {
    json!({
        "org": "default", "project": "default", "app": app, "env": "production",
        "image": image,
    })
}
