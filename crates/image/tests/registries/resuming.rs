//! Pulls that break on the way: what has arrived is not asked for again, and what
//! was put together from pieces is still proved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use helix_image::pull::Transport;
use helix_image::{Auth, Digest, NoProgress, Reference, Store, push};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::*;

/// Of what a registry says, so much passes in a second.
const SLOW_BYTES_PER_SECOND: u64 = 3 << 20;

/// More than everything but the content of an image.
const SMALL_BYTES: u64 = 100_000;

/// A slow line to a server on loopback.
struct SlowLine {
    address: String,
    passed: Arc<AtomicU64>,
    cut: tokio::sync::watch::Sender<()>,
}

impl SlowLine {
    async fn to(server: &str) -> SlowLine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let passed = Arc::new(AtomicU64::new(0));
        let (counter, server) = (Arc::clone(&passed), server.to_owned());
        let (cut, mut end) = tokio::sync::watch::channel(());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                end.mark_unchanged();
                let (mut end, pass) = (end.clone(), pass(client, server.clone(), counter.clone()));
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass => {}
                        _ = end.changed() => {}
                    }
                });
            }
        });
        SlowLine { address, passed, cut }
    }

    /// Loses what is on its way, which the kernel would still deliver for a server
    /// that is killed on this machine.
    fn cut(&self) {
        self.cut.send_replace(());
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    async fn has_passed(&self, bytes: u64) {
        let until = Instant::now() + DEADLINE;
        while self.passed() < bytes {
            assert!(Instant::now() < until, "only {} bytes came through", self.passed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn pass(client: TcpStream, server: String, passed: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async move { tokio::io::copy(&mut from_client, &mut to_server).await };
    let answering = async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            let slow = count as u64 * 1_000_000 / SLOW_BYTES_PER_SECOND;
            tokio::time::sleep(Duration::from_micros(slow)).await;
            if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
            passed.fetch_add(count as u64, Ordering::SeqCst);
        }
    };
    tokio::select! {
        _ = asking => {}
        () = answering => {}
    }
}

/// Puts an image into Debian's registry and says how it is reached by a slow line.
async fn behind_a_slow_line(world: &World, registry: &str) -> (SlowLine, Reference, u64) {
    let digest = world.image("slow").await;
    let reference: Reference = format!("{registry}/team/app:v1").parse().unwrap();
    let plain = Transport::default();
    push(&world.here, &digest, &reference, &Auth::Anonymous, &plain, &NoProgress).await.unwrap();
    let line = SlowLine::to(registry).await;
    let reference = format!("{}/team/app:v1", line.address).parse().unwrap();
    (line, reference, world.here.manifest(&digest).unwrap().layer_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_dies_and_comes_back_costs_no_byte_twice() {
    if !installed("docker-registry") {
        return;
    }
    let world = World::new();
    let (directory, port) = (world.directory.path(), free_port("127.0.0.1"));
    let (mut server, registry) = start_debian_registry(directory, "127.0.0.1", port, "").await;
    let (line, reference, size) = behind_a_slow_line(&world, &registry).await;

    let puller = world.puller();
    let pulling =
        tokio::spawn(async move { puller.pull(&reference, &Auth::Anonymous, &NoProgress).await });
    line.has_passed(size / 2).await;
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    line.cut();
    let (_server, _) = start_debian_registry(directory, "127.0.0.1", port, "").await;
    let pulled = pulling.await.unwrap().unwrap();

    assert!(line.passed() < size + SMALL_BYTES, "{} of {size} bytes", line.passed());
    let manifest = world.there.manifest(&pulled.manifest_digest).unwrap();
    assert!(
        manifest.layers.iter().all(|layer| world.there.size(&layer.digest) == Some(layer.size))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_was_given_up_goes_on_where_it_was() {
    if !installed("docker-registry") {
        return;
    }
    let world = World::new();
    let (server, registry) = debian_registry(world.directory.path()).await;
    let (line, reference, size) = behind_a_slow_line(&world, &registry).await;
    let pull = || {
        let (puller, reference) = (world.puller(), reference.clone());
        tokio::spawn(async move { puller.pull(&reference, &Auth::Anonymous, &NoProgress).await })
    };
    let first = pull();
    line.has_passed(size / 2).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    // What was already on its way is lost.
    let before = line.passed() - SMALL_BYTES;

    // Nor does a server that is away for longer than is waited for lose it.
    drop(server);
    let error = pull().await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("image_pull_failed", true));
    let port = registry.rsplit_once(':').unwrap().1.parse().unwrap();
    let _server = start_debian_registry(world.directory.path(), "127.0.0.1", port, "").await;
    // The agent may have been killed meanwhile.
    Store::open(world.there.root()).unwrap();
    pull().await.unwrap().unwrap();
    assert!(line.passed() - before < size - before + 2 * SMALL_BYTES, "{}", line.passed());
}

/// The first half of a blob, then the end of the connection.
fn half(store: &Store, digest: Digest) -> Response {
    let bytes = std::fs::read(store.blob_path(&digest)).unwrap();
    let half = bytes::Bytes::from(bytes).slice(..1_500_000);
    Response::new(Body::from_stream(futures::stream::iter([
        Ok(half),
        Err(std::io::Error::other("the cable")),
    ])))
}

/// Pulls an image whose large layer first comes by half, then as `then` says.
/// Returns what came of it and how often that layer was asked for.
async fn pull_by_halves<F>(world: &World, then: F) -> (helix_image::Result<()>, usize)
where
    F: Fn(&Store, Digest) -> Response + Clone + Send + Sync + 'static,
{
    let digest = world.image("halves").await;
    let large = world.here.manifest(&digest).unwrap().layers[0].digest;
    let requests = Arc::new(AtomicUsize::new(0));
    let (counter, store) = (Arc::clone(&requests), world.here.clone());
    let registry = strange_registry(world, digest, move |asked| {
        let answer = match asked == large {
            true if counter.fetch_add(1, Ordering::SeqCst) == 0 => half(&store, asked),
            true => then(&store, asked),
            false => whole(&store, asked),
        };
        async move { answer }
    })
    .await;
    let reference: Reference = format!("{registry}/x:v1").parse().unwrap();
    let pulled = world.puller().pull(&reference, &Auth::Anonymous, &NoProgress).await;
    (pulled.map(drop), requests.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_knows_no_parts_is_asked_for_the_whole() {
    let (pulled, requests) = pull_by_halves(&World::new(), whole).await;
    pulled.unwrap();
    assert_eq!(requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_sends_another_part_is_asked_for_the_whole() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (pulled, requests) = pull_by_halves(&World::new(), move |store, digest| {
        let mut response = whole(store, digest);
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 => {
                *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
                let range = "bytes 1-9/10".parse().unwrap();
                response.headers_mut().insert("content-range", range);
            }
            1 => *response.status_mut() = http::StatusCode::RANGE_NOT_SATISFIABLE,
            _ => {}
        }
        response
    })
    .await;
    assert_eq!(pulled.unwrap_err().code(), "image_pull_failed", "416 to a request for the whole");
    assert_eq!(requests, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_do_not_fit_are_fetched_in_one_and_only_once() {
    let world = World::new();
    let wrong_end = |store: &Store, digest: Digest| {
        let size = store.size(&digest).unwrap() as usize;
        let mut response = Response::new(Body::from(vec![7; size - 1_500_000]));
        *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes 1500000-{}/{size}", size - 1);
        response.headers_mut().insert("content-range", range.parse().unwrap());
        response
    };
    let sent = Arc::new(AtomicUsize::new(0));
    let (pulled, requests) =
        pull_by_halves(&world, move |store, digest| match sent.fetch_add(1, Ordering::SeqCst) {
            0 => wrong_end(store, digest),
            _ => whole(store, digest),
        })
        .await;
    pulled.unwrap();
    assert_eq!(requests, 3);

    let world = World::new();
    let (pulled, requests) = pull_by_halves(&world, move |store, digest| {
        let size = store.size(&digest).unwrap() as usize;
        Response::new(Body::from(vec![7; size]))
    })
    .await;
    assert_eq!(pulled.unwrap_err().code(), "image_digest_mismatch");
    assert_eq!(requests, 2, "wrong in one piece is wrong");
    assert_eq!(std::fs::read_dir(world.there.root().join("partial")).unwrap().count(), 0);
}
