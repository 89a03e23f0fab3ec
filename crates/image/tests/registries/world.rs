//! What the tests of registries share: two stores, and registries of several kinds.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use helix_image::pull::Transport;
use helix_image::registry::{RegistryAction, router};
use helix_image::{
    Auth, ComposeFile, ComposeLayer, Digest, FileSource, ImageConfig, Progress, Puller, Store,
    compose,
};

pub(crate) const USER: &str = "helix";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Two stores and a directory to keep them in.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) here: Store,
    pub(crate) there: Store,
}

impl World {
    pub(crate) fn new() -> Self {
        // Other tests may have installed it already; any one will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let here = Store::open(&directory.path().join("here")).unwrap();
        let there = Store::open(&directory.path().join("there")).unwrap();
        Self { directory, here, there }
    }

    pub(crate) async fn image(&self, content: &str) -> Digest {
        let file = |path: &str, bytes: Vec<u8>| ComposeFile {
            path: path.to_owned(),
            source: FileSource::Bytes(bytes),
            mode: 0o644,
        };
        let mut state = 7_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let big: Vec<u8> = (0..3_000_000).map(|_| noise()).collect();
        let layers = vec![
            ComposeLayer::Files(vec![file("/big", big)]),
            ComposeLayer::Files(vec![file("/content", content.into())]),
        ];
        let config = ImageConfig { cmd: vec!["/content".to_owned()], ..Default::default() };
        compose(&self.here, layers, config).await.unwrap()
    }

    pub(crate) fn puller(&self) -> Puller {
        Puller::new(&self.there, &Transport::default()).unwrap()
    }
}

/// Ends a server even when the test fails.
pub(crate) struct Server(pub(crate) Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn installed(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|directory| directory.join(program).is_file());
    if !found {
        println!("skipped: `{program}` is not installed");
    }
    found
}

/// Debian's registry on loopback, keeping its content below `directory`.
pub(crate) async fn debian_registry(directory: &Path) -> (Server, String) {
    start_debian_registry(directory, "127.0.0.1", free_port("127.0.0.1"), "").await
}

pub(crate) fn free_port(host: &str) -> u16 {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port()
}

/// `more` is added to the `http` section of its configuration.
pub(crate) async fn start_debian_registry(
    directory: &Path,
    host: &str,
    port: u16,
    more: &str,
) -> (Server, String) {
    let config = directory.join("registry.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}:{port}\n{more}",
        directory.join("registry").display()
    );
    std::fs::write(&config, text).unwrap();
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child);
    let address = format!("{host}:{port}");
    let until = Instant::now() + DEADLINE;
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        assert!(Instant::now() < until, "docker-registry did not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (server, address)
}

pub(crate) async fn serve(app: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// The embedded registry: anybody may read `open/…`, the rest needs the
/// password.
pub(crate) async fn embedded_registry(directory: &Path) -> String {
    let store = Store::open(&directory.join("embedded")).unwrap();
    let app = router(
        store,
        Arc::new(|asking, action| {
            let open = matches!(&action, RegistryAction::Pull { repository } if repository.starts_with("open/"));
            let known = asking
                .headers
                .get("authorization")
                .is_some_and(|value| value == "Basic aGVsaXg6Y29ycmVjdCBob3JzZQ==");
            (open || known).into()
        }),
    );
    serve(app).await.to_string()
}

pub(crate) fn credentials() -> Auth {
    Auth::Basic { user: USER.to_owned(), password: PASSWORD.to_owned() }
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) done: AtomicU64,
    pub(crate) total: AtomicU64,
}

impl Progress for Seen {
    fn bytes(&self, done: u64, total: u64) {
        self.done.fetch_max(done, Ordering::SeqCst);
        self.total.store(total, Ordering::SeqCst);
    }
}

/// A registry that serves one image with `blob` deciding how its layers come.
pub(crate) async fn strange_registry<F, R>(world: &World, digest: Digest, blob: F) -> String
where
    F: Fn(Digest) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = axum::response::Response> + Send,
{
    let store = world.here.clone();
    let manifest = std::fs::read(store.blob_path(&digest)).unwrap();
    let app = axum::Router::new()
        .route("/v2/x/manifests/{name}", axum::routing::get(move || async move { manifest }))
        .route(
            "/v2/x/blobs/{digest}",
            axum::routing::get(move |axum::extract::Path(digest): axum::extract::Path<String>| {
                let blob = blob.clone();
                async move { blob(digest.parse().unwrap()).await }
            }),
        );
    serve(app).await.to_string()
}

pub(crate) fn whole(store: &Store, digest: Digest) -> axum::response::Response {
    axum::response::Response::new(Body::from(std::fs::read(store.blob_path(&digest)).unwrap()))
}
