//! The shared HTTPS listener: certificates that come and change, both versions of HTTP
//! inside, and what is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use helix_certificate::Authority;
use helix_edge::{CertificateSource, Fetched};
use helix_model::bundle::VersionId;
use helix_model::certificate::Pin;
use helix_model::plan::{EdgePlan, EndpointPlan};
use helix_model::{Id, Timestamp};
use http::StatusCode;
use rustls::HandshakeKind;

use crate::app::{App, get, raw};
use crate::secure::{Inside, SecureClient};
use crate::world::{World, http, soon};

/// A server that vouches for every host, and hands out what it was given.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) authority: Arc<Authority>,
    brought: Arc<Mutex<BTreeMap<Pin, Vec<u8>>>>,
}

impl Server {
    pub(crate) fn new() -> Server {
        let authority = Arc::new(Authority::create("test", now_ms()).unwrap());
        Server { authority, brought: Arc::default() }
    }

    /// A certificate that somebody brought for a host.
    fn bring(&self, number: u128, host: &str) -> Pin {
        let at = Timestamp(1);
        let pin = Pin { certificate: Id::new(at, number), record: VersionId::new(at, number) };
        let bundle = self.authority.issue(host, now_ms()).unwrap().to_pem().to_vec();
        self.brought.lock().unwrap_or_else(PoisonError::into_inner).insert(pin, bundle);
        pin
    }
}

impl CertificateSource for Server {
    fn fetch(&self, host: &str, pin: Option<Pin>) -> Fetched {
        let found = match pin {
            None => Some(self.authority.issue(host, now_ms()).unwrap().to_pem()),
            Some(pin) => {
                let brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
                brought.get(&pin).map(|pem| pem.clone().into())
            }
        };
        Box::pin(async move { found.ok_or_else(|| "it is not here".to_owned()) })
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn certified(endpoint: EndpointPlan, pin: Pin) -> EndpointPlan {
    EndpointPlan { certificate: Some(pin), ..endpoint }
}

/// An edge that serves these, each over TLS, too.
pub(crate) async fn serving(server: &Server, endpoints: Vec<EndpointPlan>) -> World {
    let world = World::new().await;
    world.edge.certificates_from(Some(Arc::new(server.clone())));
    let count = endpoints.len();
    world.apply(endpoints).await;
    world.secure(count).await;
    world
}

#[tokio::test]
async fn requests_over_tls_reach_the_app_in_both_versions_of_http() {
    let (server, app) = (Server::new(), App::http(1).await);
    let world = serving(&server, vec![http(1, "app.example", &[app.backend()])]).await;
    for inside in [Inside::Http1, Inside::Http2] {
        let client = SecureClient::trusting(&server.authority, inside);
        let mut open = client.connect(world.https(), "app.example").await.unwrap();
        assert_eq!(open.get("app.example", "/").await.body, "app 1");
        let told = open.get("app.example", "/headers").await.body;
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(r#""x-forwarded-proto": "https""#), "{told}");
        assert!(
            told.contains("proto=https") && told.contains(r#""host": "app.example""#),
            "{told}"
        );
        let echoed = open.post("app.example", "/echo", "x".repeat(300_000)).await;
        assert_eq!(echoed.body.len(), 300_000);
    }
    let stats = world.edge.stats();
    assert_eq!((stats.tls_connections, stats.tls_refused), (2, 0));
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let (server, app) = (Server::new(), App::http(1).await);
    let world = serving(&server, vec![http(1, "app.example", &[app.backend()])]).await;
    let client = SecureClient::trusting(&server.authority, Inside::Http2);
    let open = client.connect(world.https(), "app.example").await.unwrap();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut open = open.again();
            tokio::spawn(async move { open.get("app.example", "/slow").await.body })
        })
        .collect();
    let all_seen = || app.seen.load(std::sync::atomic::Ordering::Relaxed) == 20;
    soon(async {
        while !all_seen() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    app.gate.add_permits(20);
    for one in waiting {
        assert_eq!(soon(one).await.unwrap(), "app 1");
    }
    world.counts(|stats| stats.tls_connections == 1).await;
}

#[tokio::test]
async fn a_client_that_takes_everything_back_is_cut_off_and_others_are_not() {
    let (server, app) = (Server::new(), App::http(1).await);
    let world = serving(&server, vec![http(1, "app.example", &[app.backend()])]).await;
    let client = SecureClient::trusting(&server.authority, Inside::Http2);
    let mut polite = client.connect(world.https(), "app.example").await.unwrap();
    let rude = client.connect(world.https(), "app.example").await.unwrap();
    let cut_off = soon(rude.take_back(100_000, "app.example", "/slow")).await;
    assert!(cut_off, "a flood of resets goes on for as long as the client likes");
    assert_eq!(polite.get("app.example", "/").await.body, "app 1");
}

#[tokio::test]
async fn hosts_that_are_not_here_get_no_certificate() {
    let (server, app) = (Server::new(), App::http(1).await);
    let world = serving(&server, vec![http(1, "app.example", &[app.backend()])]).await;
    let client = SecureClient::trusting(&server.authority, Inside::Http1);
    assert!(client.connect(world.https(), "other.example").await.is_err());
    // An address is no name, so the client names no host.
    assert!(client.connect(world.https(), "::1").await.is_err());
    let answer = raw(world.https(), "GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("begin the URL"), "{answer}");
    raw(world.https(), "\0\0\0").await;
    world.counts(|stats| stats.tls_refused == 3).await;
}

#[tokio::test]
async fn a_connection_for_one_host_carries_no_requests_for_another() {
    let (server, app) = (Server::new(), App::http(1).await);
    let hosts = ["app.example", "other.example"];
    let endpoints = (1..).zip(hosts).map(|(number, host)| http(number, host, &[app.backend()]));
    let world = serving(&server, endpoints.collect()).await;
    for inside in [Inside::Http1, Inside::Http2] {
        let client = SecureClient::trusting(&server.authority, inside);
        let mut open = client.connect(world.https(), "app.example").await.unwrap();
        let answer = open.get("other.example", "/").await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(open.get("app.example", "/").await.body, "app 1");
    }
}

#[tokio::test]
async fn a_certificate_changes_under_open_connections() {
    let server = Server::new();
    let app = App::http(1).await;
    let endpoint = || http(1, "app.example", &[app.backend()]);
    let first = server.bring(1, "app.example");
    let world = serving(&server, vec![certified(endpoint(), first)]).await;
    let client = SecureClient::trusting(&server.authority, Inside::Http2);
    let mut before = client.connect(world.https(), "app.example").await.unwrap();
    assert_eq!(before.get("app.example", "/").await.body, "app 1");

    let second = server.bring(2, "app.example");
    world.apply(vec![certified(endpoint(), second)]).await;
    let shown = soon(async {
        loop {
            let fresh = SecureClient::trusting(&server.authority, Inside::Http2);
            let open = fresh.connect(world.https(), "app.example").await.unwrap();
            if open.certificate() != before.certificate() {
                return open.certificate().to_vec();
            }
        }
    });
    assert_ne!(shown.await, before.certificate());
    assert_eq!(before.get("app.example", "/").await.body, "app 1");
}

#[tokio::test]
async fn what_has_a_certificate_is_led_to_https_and_nothing_else_is() {
    let (server, app) = (Server::new(), App::http(1).await);
    let pin = server.bring(1, "app.example");
    let endpoints = vec![
        certified(http(1, "app.example", &[app.backend()]), pin),
        http(2, "plain.localhost", &[app.backend()]),
    ];
    let world = serving(&server, endpoints).await;
    let answer = get(world.http(), "app.example:8080", "/a?b=c").await;
    assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
    let port = world.https().port();
    assert_eq!(answer.headers["location"], format!("https://app.example:{port}/a?b=c").as_str());
    assert_eq!(answer.headers["x-helix-reason"], "https");
    assert_eq!(get(world.http(), "plain.localhost", "/").await.body, "app 1");
    let report = world.edge.reports().borrow().clone();
    assert!(report.endpoints[0].reachable[0].starts_with("https://"), "{report:?}");
    assert!(report.endpoints[1].reachable[0].starts_with("http://"), "{report:?}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_fetched_is_told_and_traffic_stays_as_it_was() {
    let (server, app) = (Server::new(), App::http(1).await);
    let at = Timestamp(1);
    let pin = Pin { certificate: Id::new(at, 9), record: VersionId::new(at, 9) };
    let world = World::new().await;
    world.edge.certificates_from(Some(Arc::new(server)));
    world.apply(vec![certified(http(1, "app.example", &[app.backend()]), pin)]).await;
    let report = world.report(|report| report.endpoints[0].problem.is_some()).await;
    let problem = report.endpoints[0].problem.as_deref().unwrap();
    assert_eq!(problem, "its certificate cannot be fetched: it is not here");
    assert_eq!(get(world.http(), "app.example", "/").await.body, "app 1");
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session() {
    let (server, app) = (Server::new(), App::http(1).await);
    let world = serving(&server, vec![http(1, "app.example", &[app.backend()])]).await;
    let client = SecureClient::trusting(&server.authority, Inside::Http1);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut open = client.connect(world.https(), "app.example").await.unwrap();
        assert_eq!(open.get("app.example", "/").await.body, "app 1");
        assert_eq!(open.handshake(), expected);
    }
}

#[tokio::test]
async fn an_edge_that_starts_anew_serves_what_it_had_while_no_server_is_in_reach() {
    let (server, app) = (Server::new(), App::http(1).await);
    let dir = tempfile::tempdir().unwrap();
    let memory = dir.path().join("certificates");
    let plan = dir.path().join("plan.json");
    let (made, brought) = ("made.example", "brought.example");
    let pin = server.bring(1, brought);
    let endpoints = || {
        let second = certified(http(2, brought, &[app.backend()]), pin);
        vec![http(1, made, &[app.backend()]), second]
    };
    let first = World::keeping(&plan, &memory).await;
    first.edge.certificates_from(Some(Arc::new(server.clone())));
    first.apply(endpoints()).await;
    first.secure(2).await;
    first.edge.shutdown(Duration::ZERO).await;

    let second = World::keeping(&plan, &memory).await;
    second.secure(2).await;
    let client = SecureClient::trusting(&server.authority, Inside::Http1);
    for host in [made, brought] {
        let mut open = client.connect(second.https(), host).await.unwrap();
        assert_eq!(open.get(host, "/").await.body, "app 1");
    }
    let modes = std::fs::read_dir(&memory).unwrap().map(|entry| {
        std::os::unix::fs::PermissionsExt::mode(&entry.unwrap().metadata().unwrap().permissions())
    });
    assert!(modes.into_iter().all(|mode| mode & 0o777 == 0o600));

    // What nobody needs any more is not kept.
    second.apply(vec![http(1, made, &[app.backend()])]).await;
    let count = || std::fs::read_dir(&memory).unwrap().count();
    soon(async {
        while count() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn certificates_that_were_kept_of_another_installation_are_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let (file, memory) = (folder.path().join("plan.json"), folder.path().join("certificates"));
    let (old, new, app) = (Server::new(), Server::new(), App::http(1).await);
    let plan = |version, network: &str| {
        let installation = Some(network.parse().unwrap());
        let endpoints = vec![http(1, "app.example", &[app.backend()])];
        Arc::new(EdgePlan { version, installation, endpoints, ..EdgePlan::default() })
    };
    let believes = async |world: &World, server: &Server| {
        let client = SecureClient::trusting(&server.authority, Inside::Http1);
        client.connect(world.https(), "app.example").await.is_ok()
    };
    let world = World::keeping(&file, &memory).await;
    world.edge.certificates_from(Some(Arc::new(old.clone())));
    world.edge.apply(plan(7, "fd00:1::")).await;
    world.secure(1).await;
    world.edge.shutdown(Duration::ZERO).await;

    let world = World::keeping(&file, &memory).await;
    world.secure(1).await;
    assert!(believes(&world, &old).await, "no server is there");
    world.edge.certificates_from(Some(Arc::new(new.clone())));
    world.edge.apply(plan(3, "fd00:2::")).await;
    soon(async {
        while !believes(&world, &new).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    world.edge.shutdown(Duration::ZERO).await;

    // Kept, in turn, for the next start.
    let world = World::keeping(&file, &memory).await;
    world.secure(1).await;
    assert!(believes(&world, &new).await && !believes(&world, &old).await);
}
