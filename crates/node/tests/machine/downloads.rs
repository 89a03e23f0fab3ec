//! Downloads that are given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures::StreamExt;
use helix_image::Digest;
use helix_model::instance::Phase;
use helix_model::plan::InstancePlan;

use crate::tests::leave;
use crate::world::{World, eventually};

/// Says when it is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) async fn a_download_nobody_wants_any_more_ends() {
    let (begun, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json",
            "digest":"sha256:{:064x}","size":1000}},"layers":[]}}"#,
        1
    );
    let digest = Digest::of(manifest.as_bytes());
    let host = never_ending(manifest, begun.clone(), ended.clone()).await;
    let mut world = World::new().await;
    let plan = InstancePlan {
        image: format!("{host}/acme/slow@{digest}"),
        ..world.instance(1, &["idle"])
    };
    world.apply(&[&plan]);
    eventually("the download begins", || begun.load(Ordering::Relaxed)).await;
    world.until(&plan, "pulling", |seen| seen.phase == Phase::Pulling).await;
    assert!(!ended.load(Ordering::Relaxed));
    world.apply(&[]);
    world.gone(&plan).await;
    eventually("the download ends", || ended.load(Ordering::Relaxed)).await;
    leave(world, &[&plan]).await;
}

/// A registry whose blobs begin and never end.
async fn never_ending(manifest: String, begun: Arc<AtomicBool>, ended: Arc<AtomicBool>) -> String {
    let blob = move || async move {
        let guard = Guard(ended);
        begun.store(true, Ordering::Relaxed);
        let first = futures::stream::once(async { Ok::<_, std::io::Error>("{") });
        Body::from_stream(first.chain(futures::stream::pending()).inspect(move |_| {
            let _ = &guard;
        }))
    };
    let routes = Router::new()
        .route("/v2/acme/slow/manifests/{name}", get(|| async { manifest }))
        .route("/v2/acme/slow/blobs/{name}", get(blob));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    host
}
