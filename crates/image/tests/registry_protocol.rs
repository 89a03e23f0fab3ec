//! The embedded registry, request by request, as the distribution spec writes
//! them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;

use helix_image::registry::{Verdict, router};
use helix_image::{Digest, Store};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};

/// A registry open to everybody, and a client for it.
struct World {
    _directory: tempfile::TempDir,
    store: Store,
    base: String,
    client: Client,
}

impl World {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let app = router(store.clone(), Arc::new(|_, _| Verdict::Allowed));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let client = Client::builder().no_proxy().build().unwrap();
        Self { _directory: directory, store, base, client }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn start_upload(&self) -> String {
        let response = self.request(Method::POST, "/v2/a/b/blobs/uploads/").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        header(&response, "location")
    }

    /// Pushes a blob in one request.
    async fn blob(&self, repository: &str, content: &'static str) -> Digest {
        let digest = Digest::of(content.as_bytes());
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let response = self.request(Method::POST, &path).body(content).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        digest
    }

    async fn put_manifest(&self, path: &str, text: &str) -> Response {
        self.request(Method::PUT, path).body(text.to_owned()).send().await.unwrap()
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

async fn error_code(response: Response) -> String {
    let body: serde_json::Value = response.json().await.unwrap();
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}

fn manifest(config: &Digest, config_size: usize, layer: &Digest, layer_size: usize) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"c","digest":"{config}","size":{config_size}}},
        "layers":[{{"mediaType":"l","digest":"{layer}","size":{layer_size}}}]}}"#
    )
}

#[tokio::test]
async fn says_that_it_is_a_registry() {
    let world = World::new().await;
    for path in ["/v2/", "/v2"] {
        let response = world.get(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    }
}

#[tokio::test]
async fn blobs_come_in_one_piece_or_many() {
    let world = World::new().await;
    let digest = world.blob("a/b", "at once").await;
    let path = format!("/v2/a/b/blobs/{digest}");
    assert_eq!(world.get(&path).await.text().await.unwrap(), "at once");
    let head = world.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(header(&head, "content-length"), "7");
    assert_eq!(header(&head, "docker-content-digest"), digest.to_string());

    let location = world.start_upload().await;
    let chunk = |range: &'static str, body: &'static str| {
        world.request(Method::PATCH, &location).header("content-range", range).body(body).send()
    };
    let response = chunk("0-4", "first").await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(header(&response, "range"), "0-4");
    let out_of_order = chunk("9-12", "later").await.unwrap();
    assert_eq!(out_of_order.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let status = world.get(&location).await;
    assert_eq!(status.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&status, "range"), "0-4");
    chunk("5-11", " second").await.unwrap();
    let digest = Digest::of(b"first second last");
    let finish = format!("{location}?digest={digest}");
    let response = world.request(Method::PUT, &finish).body(" last").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let content = world.get(&header(&response, "location")).await.text().await.unwrap();
    assert_eq!(content, "first second last");
}

#[tokio::test]
async fn uploads_that_lie_are_gone() {
    let world = World::new().await;
    let location = world.start_upload().await;
    let finish = format!("{location}?digest={}", Digest::of(b"good"));
    let response = world.request(Method::PUT, &finish).body("evil").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(error_code(response).await, "DIGEST_INVALID");
    assert!(!world.store.has(&Digest::of(b"good")) && !world.store.has(&Digest::of(b"evil")));
    assert_eq!(world.get(&location).await.status(), StatusCode::NOT_FOUND);

    let location = world.start_upload().await;
    let elsewhere = location.replace("/a/b/", "/other/");
    assert_eq!(world.get(&elsewhere).await.status(), StatusCode::NOT_FOUND);
    let cancelled = world.request(Method::DELETE, &location).send().await.unwrap();
    assert_eq!(cancelled.status(), StatusCode::NO_CONTENT);
    assert_eq!(world.get(&location).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_manifest_needs_its_parts_in_its_own_repository() {
    let world = World::new().await;
    let config = world.blob("a/b", "{}").await;
    let layer = Digest::of(b"layer");
    let text = manifest(&config, 2, &layer, 5);
    let response = world.put_manifest("/v2/a/b/manifests/v1", &text).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(error_code(response).await, "MANIFEST_BLOB_UNKNOWN");

    // Somebody else's layer is of no use, however well its digest is known.
    world.blob("other", "layer").await;
    let response = world.put_manifest("/v2/a/b/manifests/v1", &text).await;
    assert_eq!(error_code(response).await, "MANIFEST_BLOB_UNKNOWN");
    let stolen = world.get(&format!("/v2/a/b/blobs/{layer}")).await;
    assert_eq!(stolen.status(), StatusCode::NOT_FOUND);

    let mount = format!("/v2/a/b/blobs/uploads/?mount={layer}&from=other");
    let response = world.request(Method::POST, &mount).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let wrong_size = manifest(&config, 2, &layer, 6);
    let response = world.put_manifest("/v2/a/b/manifests/v1", &wrong_size).await;
    assert_eq!(error_code(response).await, "MANIFEST_BLOB_UNKNOWN");
    let response = world.put_manifest("/v2/a/b/manifests/v1", &text).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let digest = Digest::of(text.as_bytes());
    assert_eq!(header(&response, "docker-content-digest"), digest.to_string());

    for name in ["v1".to_owned(), digest.to_string()] {
        let response = world.get(&format!("/v2/a/b/manifests/{name}")).await;
        assert_eq!(header(&response, "content-type"), "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(response.text().await.unwrap(), text);
    }
    let other = world.get(&format!("/v2/other/manifests/{digest}")).await;
    assert_eq!(error_code(other).await, "MANIFEST_UNKNOWN");
    let pinned = format!("/v2/a/b/manifests/{}", Digest::of(b"x"));
    assert_eq!(error_code(world.put_manifest(&pinned, &text).await).await, "DIGEST_INVALID");
}

#[tokio::test]
async fn an_unknown_mount_opens_an_upload_instead() {
    let world = World::new().await;
    let digest = Digest::of(b"nothing");
    let mount = format!("/v2/a/b/blobs/uploads/?mount={digest}&from=other");
    let response = world.request(Method::POST, &mount).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn tags_are_listed_in_pages() {
    let world = World::new().await;
    assert_eq!(world.get("/v2/a/b/tags/list").await.status(), StatusCode::NOT_FOUND);
    let config = world.blob("a/b", "{}").await;
    let layer = world.blob("a/b", "layer").await;
    for tag in ["c", "a", "b"] {
        let text = manifest(&config, 2, &layer, 5);
        world.put_manifest(&format!("/v2/a/b/manifests/{tag}"), &text).await;
    }
    let all: serde_json::Value = world.get("/v2/a/b/tags/list").await.json().await.unwrap();
    assert_eq!(all, serde_json::json!({ "name": "a/b", "tags": ["a", "b", "c"] }));
    let first = world.get("/v2/a/b/tags/list?n=2").await;
    assert_eq!(header(&first, "link"), "</v2/a/b/tags/list?n=2&last=b>; rel=\"next\"");
    let rest: serde_json::Value =
        world.get("/v2/a/b/tags/list?n=2&last=b").await.json().await.unwrap();
    assert_eq!(rest["tags"], serde_json::json!(["c"]));
}

#[tokio::test]
async fn nonsense_is_refused_in_the_specs_words() {
    let world = World::new().await;
    for (method, path, code) in [
        (Method::GET, "/v2/UPPER/tags/list", "NAME_INVALID"),
        (Method::GET, "/v2/a/blobs/sha256:12", "DIGEST_INVALID"),
        (Method::GET, "/v2/a/manifests/-bad", "MANIFEST_UNKNOWN"),
        (Method::PUT, "/v2/a/manifests/x", "MANIFEST_INVALID"),
        (Method::PATCH, "/v2/a/blobs/uploads/01ARZ3NDEKTSV4RRFFQ69G5FAV", "BLOB_UPLOAD_UNKNOWN"),
        (Method::PATCH, "/v2/a/blobs/uploads/not-an-id", "BLOB_UPLOAD_UNKNOWN"),
        (Method::DELETE, "/v2/a/manifests/x", "UNSUPPORTED"),
        (Method::GET, "/v2/nothing", "NAME_UNKNOWN"),
    ] {
        let response = world.request(method, path).body("{").send().await.unwrap();
        assert_eq!(error_code(response).await, code, "{path}");
    }
    let huge = vec![b' '; 5 << 20];
    let response = world.request(Method::PUT, "/v2/a/manifests/x").body(huge).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn addresses_that_climb_lead_nowhere() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    // By hand, as the client library would tidy them up.
    for path in [
        "/v2/a/../b/tags/list",
        "/v2/../tags/list",
        "/v2/a/manifests/..",
        "/v2/a/manifests/..%2f..%2fx",
        "/v2/a/%2e%2e/tags/list",
        "/v2/a/blobs/uploads/..",
        "/v2//manifests/x",
    ] {
        let address = world.base.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
}
