//! An edge with one backend behind it, which is a thread that does as it is told.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use helix_edge::{AnyIp, Config, Edge, QuicPort};
use helix_model::manifest::Handling;
use helix_model::plan::{Backend, EdgePlan, EndpointPlan, Route};
use helix_model::{Id, Timestamp};

/// The host that is routed.
pub const HOST: &str = "app.localhost";

/// Longer than the edge needs to answer anything that ends.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub struct World {
    _runtime: tokio::runtime::Runtime,
    _edge: Edge,
    pub address: SocketAddr,
}

impl World {
    /// Has each connection to the backend served by this, one after another.
    pub fn before(serve: impl Fn(TcpStream) + Send + 'static) -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let backend = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let backend_address = backend.local_addr().expect("its address");
        std::thread::spawn(move || backend.incoming().flatten().for_each(serve));
        let edge = runtime.block_on(start(backend_address));
        let address = edge.http_addresses()[0];
        World { _runtime: runtime, _edge: edge, address }
    }
}

async fn start(backend: SocketAddr) -> Edge {
    let config = Config {
        http_listen: vec![([127, 0, 0, 1], 0).into()],
        https_listen: Vec::new(),
        metrics_listen: None,
        access_log: None,
        takeover: None,
        plan_file: None,
        kept_certificates: None,
        balancers: Vec::new(),
        addresses: Vec::new(),
        agents: Vec::new(),
        agents_quic: QuicPort::Off,
        region: None,
        own_threads: true,
        any_ip: AnyIp::Off,
    };
    let edge = Edge::start(config).await.expect("an edge");
    let endpoint = EndpointPlan {
        id: Id::new(Timestamp(1), 1),
        route: Route::Http { hosts: vec![HOST.to_owned()] },
        addresses: Vec::new(),
        certificate: None,
        handling: Handling::default(),
        backends: vec![Backend { instance: Id::new(Timestamp(1), 2), address: backend }],
        label: None,
    };
    let plan = EdgePlan { version: 1, endpoints: vec![endpoint], ..EdgePlan::default() };
    edge.apply(Arc::new(plan)).await;
    edge
}
