//! Images going out to registries and coming back: Debian's `docker-registry`,
//! the embedded registry, and `skopeo` as a client nobody here wrote. One test
//! body for both registries.

#![allow(clippy::print_stdout, reason = "skipped tests say so")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod resuming;
mod world;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use helix_image::pull::Transport;
use helix_image::{Auth, Digest, NoProgress, Puller, Reference, push, rootfs};
use world::*;

/// What any registry must do for us.
async fn goes_out_and_comes_back(world: &World, registry: &str, auth: &Auth) {
    let digest = world.image("one").await;
    let tagged: Reference = format!("{registry}/team/app:v1").parse().unwrap();
    let plain = Transport::default();
    push(&world.here, &digest, &tagged, auth, &plain, &NoProgress).await.unwrap();
    push(&world.here, &digest, &tagged, auth, &plain, &NoProgress).await.unwrap();

    let puller = world.puller();
    let resolved = puller.resolve(&tagged, auth).await.unwrap();
    assert_eq!((resolved.manifest_digest, resolved.index_digest), (digest, None));
    let seen = Seen::default();
    let pulled = puller.pull(&tagged, auth, &seen).await.unwrap();
    assert_eq!(pulled.manifest_digest, digest);
    assert_eq!(pulled.config.cmd, ["/content"]);
    assert_eq!(seen.done.into_inner(), seen.total.into_inner());

    let unpacked = rootfs(&world.there, &digest).await.unwrap();
    assert_eq!(std::fs::read_to_string(unpacked.path.join("content")).unwrap(), "one");
    let manifest = world.there.manifest(&digest).unwrap();
    for part in manifest.layers.iter().chain([&manifest.config]) {
        assert_eq!(world.there.size(&part.digest), Some(part.size));
    }

    let missing: Reference = format!("{registry}/team/app:v2").parse().unwrap();
    let error = puller.pull(&missing, auth, &NoProgress).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("image_not_found", false));

    let second = world.image("two").await;
    push(&world.here, &second, &tagged, auth, &plain, &NoProgress).await.unwrap();
    assert_eq!(puller.resolve(&tagged, auth).await.unwrap().manifest_digest, second);
    let old = puller.pull(&tagged.with_digest(digest), auth, &NoProgress).await.unwrap();
    assert_eq!(old.manifest_digest, digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_registry_takes_and_gives_images() {
    if !installed("docker-registry") {
        return;
    }
    let world = World::new();
    let (server, registry) = debian_registry(world.directory.path()).await;
    goes_out_and_comes_back(&world, &registry, &Auth::Anonymous).await;

    // With the registry gone, what is complete here needs no network.
    let reference: Reference = format!("{registry}/team/app:v1").parse().unwrap();
    let puller = world.puller();
    let digest = puller.resolve(&reference, &Auth::Anonymous).await.unwrap().manifest_digest;
    puller.pull(&reference, &Auth::Anonymous, &NoProgress).await.unwrap();
    drop(server);
    let pinned = reference.with_digest(digest);
    puller.pull(&pinned, &Auth::Anonymous, &NoProgress).await.unwrap();
    let error = puller.pull(&reference, &Auth::Anonymous, &NoProgress).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("image_pull_failed", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_registry_takes_and_gives_images() {
    let world = World::new();
    let registry = embedded_registry(world.directory.path()).await;
    goes_out_and_comes_back(&world, &registry, &credentials()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_registry_asks_who_is_there() {
    let world = World::new();
    let registry = embedded_registry(world.directory.path()).await;
    let digest = world.image("secret").await;
    let plain = Transport::default();
    let reference: Reference = format!("{registry}/open/app:v1").parse().unwrap();
    let wrong = Auth::Basic { user: USER.to_owned(), password: "guess".to_owned() };
    for auth in [&Auth::Anonymous, &wrong] {
        let error = push(&world.here, &digest, &reference, auth, &plain, &NoProgress).await;
        assert_eq!(error.unwrap_err().code(), "registry_unauthorized");
    }
    push(&world.here, &digest, &reference, &credentials(), &plain, &NoProgress).await.unwrap();
    world.puller().pull(&reference, &Auth::Anonymous, &NoProgress).await.unwrap();
    let closed: Reference = format!("{registry}/closed/app:v1").parse().unwrap();
    let error = world.puller().pull(&closed, &Auth::Anonymous, &NoProgress).await.unwrap_err();
    assert_eq!(error.code(), "registry_unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_in_and_out_of_the_embedded_registry() {
    if !installed("skopeo") {
        return;
    }
    let world = World::new();
    let registry = embedded_registry(world.directory.path()).await;
    let digest = world.image("travelled").await;
    let reference: Reference = format!("{registry}/team/app:v1").parse().unwrap();
    let plain = Transport::default();
    push(&world.here, &digest, &reference, &credentials(), &plain, &NoProgress).await.unwrap();

    let file = world.directory.path().join("out.tar");
    let archive = format!("oci-archive:{}", file.display());
    let flags = ["--insecure-policy", "copy", "--src-creds", "helix:correct horse"];
    let more = ["--src-tls-verify=false", "--preserve-digests"];
    skopeo(&flags, &more, &format!("docker://{reference}"), &archive).await;
    let imported = helix_image::archive::import_archive(&world.there, &file).await;
    assert_eq!(imported.unwrap(), digest);

    let other: Reference = format!("{registry}/team/other:v2").parse().unwrap();
    let flags = ["--insecure-policy", "copy", "--dest-creds", "helix:correct horse"];
    let more = ["--dest-tls-verify=false", "--dest-compress"];
    skopeo(&flags, &more, &archive, &format!("docker://{other}")).await;
    let pulled = world.puller().pull(&other, &credentials(), &NoProgress).await.unwrap();
    let unpacked = rootfs(&world.there, &pulled.manifest_digest).await.unwrap();
    assert_eq!(std::fs::read_to_string(unpacked.path.join("content")).unwrap(), "travelled");
}

async fn skopeo(flags: &[&str], more: &[&str], from: &str, to: &str) {
    let mut command = tokio::process::Command::new("skopeo");
    command.args(flags).args(more).args([from, to]).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_of_one_image_download_each_blob_once() {
    let world = World::new();
    let digest = world.image("once").await;
    let requests = Arc::new(AtomicUsize::new(0));
    let (counter, store) = (Arc::clone(&requests), world.here.clone());
    let registry = strange_registry(&world, digest, move |digest| {
        counter.fetch_add(1, Ordering::SeqCst);
        let store = store.clone();
        async move { whole(&store, digest) }
    })
    .await;
    let reference: Reference = format!("{registry}/x:v1").parse().unwrap();
    let puller = world.puller();
    let pulls = (0..6).map(|_| puller.pull(&reference, &Auth::Anonymous, &NoProgress));
    for pulled in futures::future::join_all(pulls).await {
        assert_eq!(pulled.unwrap().manifest_digest, digest);
    }
    assert_eq!(requests.load(Ordering::SeqCst), 3, "one config, two layers");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_fails_at_once_and_is_not_kept() {
    let world = World::new();
    let digest = world.image("wrong").await;
    let last = world.here.manifest(&digest).unwrap().layers[1].clone();
    let requests = Arc::new(AtomicUsize::new(0));
    let (counter, store) = (Arc::clone(&requests), world.here.clone());
    let registry = strange_registry(&world, digest, move |asked| {
        let store = store.clone();
        let counter = Arc::clone(&counter);
        async move {
            if asked != last.digest {
                return whole(&store, asked);
            }
            counter.fetch_add(1, Ordering::SeqCst);
            axum::response::Response::new(Body::from(vec![7; last.size as usize]))
        }
    })
    .await;
    let reference: Reference = format!("{registry}/x:v1").parse().unwrap();
    let error = world.puller().pull(&reference, &Auth::Anonymous, &NoProgress).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("image_digest_mismatch", false));
    assert_eq!(requests.load(Ordering::SeqCst), 1, "no second attempt");
    assert!(!world.there.has(&last.digest) && !world.there.has(&digest));

    let other: Digest = Digest::of(b"another manifest");
    let pinned = reference.with_digest(other);
    let error = world.puller().pull(&pinned, &Auth::Anonymous, &NoProgress).await.unwrap_err();
    assert_eq!(error.code(), "image_digest_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_failures_are_tried_again() {
    let world = World::new();
    let digest = world.image("flaky").await;
    let requests = Arc::new(AtomicUsize::new(0));
    let store = world.here.clone();
    let registry = strange_registry(&world, digest, move |asked| {
        let number = requests.fetch_add(1, Ordering::SeqCst);
        let store = store.clone();
        async move {
            match number {
                0 => http::Response::builder().status(503).body(Body::empty()).unwrap(),
                1 => {
                    let broken = futures::stream::iter([
                        Ok(bytes::Bytes::from_static(b"{")),
                        Err(std::io::Error::other("the cable")),
                    ]);
                    axum::response::Response::new(Body::from_stream(broken))
                }
                _ => whole(&store, asked),
            }
        }
    })
    .await;
    let reference: Reference = format!("{registry}/x:v1").parse().unwrap();
    let pulled = world.puller().pull(&reference, &Auth::Anonymous, &NoProgress).await.unwrap();
    assert_eq!(pulled.manifest_digest, digest);
}

/// A registry that answers every manifest with these bytes.
async fn pull_error(manifest: Vec<u8>) -> helix_image::ImageError {
    let world = World::new();
    let app = axum::Router::new()
        .route("/v2/x/manifests/{name}", axum::routing::get(move || async move { manifest }));
    let reference: Reference = format!("{}/x:v1", serve(app).await).parse().unwrap();
    world.puller().pull(&reference, &Auth::Anonymous, &NoProgress).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_beyond_the_limits_are_refused_before_any_layer() {
    let digest = Digest::of(b"");
    let part = |size: u64| format!(r#"{{"mediaType":"x","digest":"{digest}","size":{size}}}"#);
    let manifest = |layers: Vec<String>| {
        let (config, layers) = (part(2), layers.join(","));
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#).into_bytes()
    };
    let heavy = manifest(vec![part(6 << 30), part(6 << 30)]);
    let overflowing = manifest(vec![part(u64::MAX), part(u64::MAX)]);
    let many = manifest(vec![part(1); 129]);
    for bytes in [heavy, overflowing, many, vec![b' '; 5 << 20]] {
        assert_eq!(pull_error(bytes).await.code(), "image_too_large");
    }
    let index = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    assert_eq!(pull_error(index).await.code(), "image_platform_missing");
    assert_eq!(pull_error(b"<html>".to_vec()).await.code(), "image_manifest_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_this_machines_image() {
    if !installed("docker-registry") {
        return;
    }
    let world = World::new();
    let (_server, registry) = debian_registry(world.directory.path()).await;
    let digest = world.image("mine").await;
    let plain = Transport::default();
    let single: Reference = format!("{registry}/x:single").parse().unwrap();
    push(&world.here, &digest, &single, &Auth::Anonymous, &plain, &NoProgress).await.unwrap();
    let size = world.here.size(&digest).unwrap();
    let here = helix_image::manifest::Platform::current().architecture;
    let entry = |architecture: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}",
            "size":{size},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
        )
    };
    let index = |architectures: &[&str]| {
        let entries: Vec<_> = architectures.iter().map(|name| entry(name)).collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
            entries.join(",")
        )
    };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (tag, text) in [("multi", index(&["mips", &here])), ("foreign", index(&["mips"]))] {
        let response = client
            .put(format!("http://{registry}/v2/x/manifests/{tag}"))
            .header("content-type", "application/vnd.oci.image.index.v1+json")
            .body(text)
            .send()
            .await
            .unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    }
    let puller = world.puller();
    let multi: Reference = format!("{registry}/x:multi").parse().unwrap();
    let pulled = puller.pull(&multi, &Auth::Anonymous, &NoProgress).await.unwrap();
    assert_eq!(pulled.manifest_digest, digest);
    assert!(pulled.index_digest.is_some_and(|index| index != digest));
    let foreign: Reference = format!("{registry}/x:foreign").parse().unwrap();
    let error = puller.pull(&foreign, &Auth::Anonymous, &NoProgress).await.unwrap_err();
    assert_eq!(error.code(), "image_platform_missing");
}

/// An address of this machine that is not loopback, where TLS is required.
fn outer_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: connecting a datagram socket only picks the address.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_elsewhere_are_spoken_to_over_tls_only() {
    if !installed("docker-registry") || !installed("openssl") {
        return;
    }
    let Some(host) = outer_address() else {
        println!("skipped: this machine has no address besides loopback");
        return;
    };
    let world = World::new();
    let path = |name: &str| world.directory.path().join(name);
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"])
        .args(["-addext", &format!("subjectAltName=IP:{host}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(path("key.pem"))
        .arg("-out")
        .arg(path("certificate.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let tls =
        format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
    let (_server, registry) =
        start_debian_registry(world.directory.path(), &host, free_port(&host), &tls).await;

    let digest = world.image("private").await;
    let reference: Reference = format!("{registry}/team/app:v1").parse().unwrap();
    let trusting = Transport {
        extra_roots_pem: vec![std::fs::read(certificate).unwrap()],
        ..Transport::default()
    };
    let auth = Auth::Anonymous;
    push(&world.here, &digest, &reference, &auth, &trusting, &NoProgress).await.unwrap();
    let puller = Puller::new(&world.there, &trusting).unwrap();
    let pulled = puller.pull(&reference, &auth, &NoProgress).await.unwrap();
    assert_eq!(pulled.manifest_digest, digest);
    let error = world.puller().resolve(&reference, &auth).await.unwrap_err();
    assert_eq!(error.code(), "image_pull_failed", "an unknown certificate is not trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_traded_for_a_token_of_the_right_scope() {
    use axum::extract::{Path, Query};
    use axum::response::IntoResponse;
    use std::collections::HashMap;

    let world = World::new();
    let digest = world.image("token").await;
    let (store, manifest) =
        (world.here.clone(), std::fs::read(world.here.blob_path(&digest)).unwrap());
    let tokens = axum::Router::new().route(
        "/token",
        axum::routing::get(
            |headers: http::HeaderMap, Query(query): Query<HashMap<String, String>>| async move {
                let known = headers
                    .get("authorization")
                    .is_some_and(|value| value == "Basic aGVsaXg6Y29ycmVjdCBob3JzZQ==");
                let asked = query["scope"] == "repository:x:pull" && query["service"] == "registry";
                if known && asked {
                    r#"{"token":"good","expires_in":60}"#.into_response()
                } else {
                    http::StatusCode::UNAUTHORIZED.into_response()
                }
            },
        ),
    );
    let realm = format!("http://{}/token", serve(tokens).await);
    let app = axum::Router::new().route(
        "/v2/x/{kind}/{name}",
        axum::routing::get(
            move |Path((kind, name)): Path<(String, String)>, headers: http::HeaderMap| async move {
                if headers.get("authorization").is_none_or(|value| value != "Bearer good") {
                    let challenge = format!("Bearer realm=\"{realm}\",service=\"registry\"");
                    return (http::StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)])
                        .into_response();
                }
                match kind.as_str() {
                    "manifests" => manifest.into_response(),
                    _ => whole(&store, name.parse().unwrap()),
                }
            },
        ),
    );
    let reference: Reference = format!("{}/x:v1", serve(app).await).parse().unwrap();
    let error = world.puller().pull(&reference, &Auth::Anonymous, &NoProgress).await.unwrap_err();
    assert_eq!(error.code(), "registry_unauthorized");
    let pulled = world.puller().pull(&reference, &credentials(), &NoProgress).await.unwrap();
    assert_eq!(pulled.manifest_digest, digest);
}
