//! The helper every test enters through: an edge of its own, plans made from
//! endpoints, and waiting on conditions with a deadline.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use helix_edge::{AccessLogConfig, AnyIp, Config, Edge, QuicPort, Stats, Takeover};
use helix_model::edge::AgentUrl;
use helix_model::endpoint::OwnPort;
use helix_model::manifest::Handling;
use helix_model::plan::{Backend, EdgePlan, EdgeReport, EndpointPlan, Label, Route};
use helix_model::{Id, Instance, Timestamp};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longer than anything here takes, shorter than a person waits.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// An edge and the version of its last plan.
pub(crate) struct World {
    pub(crate) edge: Edge,
    version: AtomicU64,
}

/// On free loopback ports, and nothing besides.
fn config() -> Config {
    let free = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    Config {
        http_listen: vec![free],
        https_listen: vec![free],
        metrics_listen: Some(free),
        access_log: None,
        takeover: None,
        plan_file: None,
        kept_certificates: None,
        balancers: Vec::new(),
        agents: Vec::new(),
        agents_quic: QuicPort::AsHttps,
        addresses: Vec::new(),
        any_ip: AnyIp::Off,
        region: None,
        own_threads: true,
    }
}

impl World {
    pub(crate) async fn new() -> World {
        World::with(AnyIp::Off, None).await
    }

    /// One that believes load balancers in these networks.
    pub(crate) async fn behind(networks: &[&str]) -> World {
        let network = |text: &&str| {
            text.parse().unwrap_or_else(|_| text.parse::<std::net::IpAddr>().unwrap().into())
        };
        let balancers = networks.iter().map(network).collect();
        World::starting(Config { balancers, ..config() }).await
    }

    /// One that may be taken over there, or takes over what runs.
    pub(crate) async fn at(socket: &Path, take: bool) -> World {
        let takeover = Some(Takeover { socket: socket.to_owned(), take });
        World::starting(Config { takeover, ..config() }).await
    }

    /// One that writes down what has ended.
    pub(crate) async fn writing(access_log: AccessLogConfig) -> World {
        World::starting(Config { access_log: Some(access_log), ..config() }).await
    }

    /// One that takes over what runs there with this plan, as it was kept on disk.
    pub(crate) async fn started_with(socket: &Path, endpoints: Vec<EndpointPlan>) -> World {
        let file = socket.with_file_name("plan.json");
        let plan = EdgePlan { version: 1, endpoints, ..EdgePlan::default() };
        std::fs::write(&file, serde_json::to_vec(&plan).unwrap()).unwrap();
        let takeover = Some(Takeover { socket: socket.to_owned(), take: true });
        World::starting(Config { takeover, plan_file: Some(file), ..config() }).await
    }

    /// One that keeps its plan and its certificates for the next.
    pub(crate) async fn keeping(plan: &Path, certificates: &Path) -> World {
        let (plan_file, kept) = (Some(plan.to_owned()), Some(certificates.to_owned()));
        World::starting(Config { plan_file, kept_certificates: kept, ..config() }).await
    }

    /// One whose time is the test's.
    pub(crate) async fn on_the_tests_clock() -> World {
        World::starting(Config { own_threads: false, ..config() }).await
    }

    /// One that takes agents at these URLs.
    pub(crate) async fn taking(agents: Vec<AgentUrl>) -> World {
        World::starting(Config { agents, ..config() }).await
    }

    /// The same, which may be taken over there, or takes over what runs.
    pub(crate) async fn taking_at(agents: Vec<AgentUrl>, socket: &Path, take: bool) -> World {
        let takeover = Some(Takeover { socket: socket.to_owned(), take });
        World::starting(Config { agents, takeover, ..config() }).await
    }

    /// One that these prefixes are routed to.
    pub(crate) async fn given(prefixes: &[&str]) -> World {
        let addresses = prefixes.iter().map(|text| text.parse().unwrap()).collect();
        World::starting(Config { addresses, any_ip: AnyIp::Auto, ..config() }).await
    }

    pub(crate) async fn with(any_ip: AnyIp, plan_file: Option<PathBuf>) -> World {
        World::starting(Config { any_ip, plan_file, ..config() }).await
    }

    async fn starting(config: Config) -> World {
        World { edge: Edge::start(config).await.unwrap(), version: AtomicU64::new(0) }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.edge.http_addresses()[0]
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.edge.https_addresses()[0]
    }

    pub(crate) async fn apply(&self, endpoints: Vec<EndpointPlan>) -> EdgeReport {
        self.apply_draining(endpoints, &[]).await
    }

    /// Applies the next plan, in which these instances are draining.
    pub(crate) async fn apply_draining(
        &self,
        endpoints: Vec<EndpointPlan>,
        draining: &[u128],
    ) -> EdgeReport {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let draining = draining.iter().map(|number| instance(*number)).collect();
        self.edge
            .apply(Arc::new(EdgePlan { version, endpoints, draining, ..EdgePlan::default() }))
            .await
    }

    /// Waits until so many tunnels are reached over TLS.
    pub(crate) async fn secure_tunnels(&self, count: usize) {
        let is_secure = |it: &String| it.starts_with("https://");
        let report = self.report(|report| {
            let tunnels = report.tunnels.iter();
            tunnels.filter(|it| it.reachable.iter().any(is_secure)).count() == count
        });
        report.await;
    }

    /// Waits until so many endpoints are reached over TLS.
    pub(crate) async fn secure(&self, count: usize) {
        let is_secure = |it: &String| it.starts_with("https://");
        let report = self.report(|report| {
            let endpoints = report.endpoints.iter();
            endpoints.filter(|it| it.reachable.iter().any(is_secure)).count() == count
        });
        report.await;
    }

    /// Waits until this has been counted: what a client sees may come before it.
    pub(crate) async fn counts(&self, condition: impl Fn(&Stats) -> bool) {
        let counted = async {
            while !condition(&self.edge.stats()) {
                tokio::task::yield_now().await;
            }
        };
        soon(counted).await;
    }

    /// Waits for a report that fulfils the condition.
    pub(crate) async fn report(&self, condition: impl FnMut(&EdgeReport) -> bool) -> EdgeReport {
        let mut reports = self.edge.reports();
        let report = tokio::time::timeout(DEADLINE, reports.wait_for(condition)).await;
        report.expect("no such report in time").unwrap().clone()
    }
}

pub(crate) fn instance(number: u128) -> Id<Instance> {
    Id::new(Timestamp(1), number)
}

/// An HTTP endpoint of these instances.
pub(crate) fn http(number: u128, host: &str, backends: &[(u128, SocketAddr)]) -> EndpointPlan {
    endpoint(number, Route::Http { hosts: vec![host.to_owned()] }, backends)
}

/// A TCP endpoint of these instances.
pub(crate) fn tcp(
    number: u128,
    address: Ipv6Addr,
    port: u16,
    backends: &[(u128, SocketAddr)],
) -> EndpointPlan {
    endpoint(number, Route::Tcp { address, port }, backends)
}

/// A TLS endpoint of these instances, on a port of its own or on the shared one.
pub(crate) fn tls(
    number: u128,
    host: &str,
    own: Option<OwnPort>,
    backends: &[(u128, SocketAddr)],
) -> EndpointPlan {
    endpoint(number, Route::Tls { host: host.to_owned(), own }, backends)
}

/// A UDP endpoint of these instances.
pub(crate) fn udp(
    number: u128,
    address: Ipv6Addr,
    port: u16,
    backends: &[(u128, SocketAddr)],
) -> EndpointPlan {
    endpoint(number, Route::Udp { address, port }, backends)
}

fn endpoint(number: u128, route: Route, backends: &[(u128, SocketAddr)]) -> EndpointPlan {
    let backend = |(number, address): &(u128, SocketAddr)| Backend {
        instance: instance(*number),
        address: *address,
    };
    let backends = backends.iter().map(backend).collect();
    let (certificate, handling) = (None, Handling::default());
    let name = |text: &str| text.parse().unwrap();
    let label = Label {
        app: name("app"),
        env: name("production"),
        endpoint: name(&format!("endpoint-{number}")),
    };
    let (id, label) = (Id::new(Timestamp(1), number), Some(label));
    let addresses = Vec::new();
    EndpointPlan { id, route, addresses, certificate, handling, backends, label }
}

/// A connection there is reset, perhaps before it is known to have been made.
pub(crate) async fn is_reset_at(address: SocketAddr) {
    let connected = TcpStream::connect(address).await;
    if let Ok(mut stream) = connected {
        let error = soon(stream.read(&mut [0])).await.expect_err("it is not reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

/// The only address a report gives, as something to connect to.
pub(crate) fn only_address(report: &EdgeReport) -> SocketAddr {
    let [endpoint] = report.endpoints.as_slice() else { panic!("not one endpoint: {report:?}") };
    let [address] = endpoint.reachable.as_slice() else { panic!("not one address: {report:?}") };
    address.parse().unwrap()
}

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("not in time")
}
