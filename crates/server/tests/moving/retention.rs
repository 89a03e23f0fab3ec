//! Several replicas and one archive.

use std::path::Path;
use std::time::Duration;

use helix_image::Store;
use helix_log::ArchiveError;
use helix_server::{Advertise, Config, Keep, Server, Storage, StorageError, Token};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::objects::{Objects, URL};
use crate::{connect, origin};

/// One segment and some more.
const EVENTS: u32 = 10_100;

struct Replica {
    server: Server,
    token: Token,
}

impl Replica {
    async fn start(database: &str, objects: &Objects, dir: &Path, token: &Token) -> Replica {
        let storage = Storage::connect(database, dir).await.unwrap();
        let storage = storage.archived_at(Path::new(URL), objects.variables()).await.unwrap();
        let keep = Keep { events: Some(Duration::ZERO), audit: None };
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            storage: storage.keeping(keep),
            images: Store::open(&dir.join("images")).unwrap(),
            token: token.hash(),
            version: "0.0.0".to_owned(),
            advertise: Some(Advertise::Listening),
            registries: helix_server::Registries::default(),
            domains: helix_server::Domains::default(),
            denied_ports: None,
            tunnel_ports: None,
            anonymous_tunnels: None,
            acme: None,
        };
        Replica { server: Server::start(config).await.unwrap(), token: token.clone() }
    }

    async fn ask(&self, method: reqwest::Method, path: &str) -> Value {
        let url = format!("http://{}{path}", self.server.address());
        let request = reqwest::Client::new().request(method, url);
        let answer = request.bearer_auth(self.token.reveal()).send().await.unwrap();
        let status = answer.status();
        let body = answer.json().await.unwrap();
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(reqwest::Method::GET, path).await
    }
}

#[tokio::test]
async fn one_replica_archives_and_the_others_read_across_the_boundary() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(objects) = Objects::start() else { return };
    let Some(cluster) = Cluster::start() else { return };
    let database = cluster.create_database();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = Token::fresh();
    let first = Replica::start(&database, &objects, one.path(), &token).await;
    std::fs::copy(one.path().join("keys"), other.path().join("keys")).unwrap();
    let second = Replica::start(&database, &objects, other.path(), &token).await;

    for turn in 0..EVENTS / 100 {
        let submitted =
            (0..100).map(|at| first.server.engine().submit(connect(turn * 100 + at), origin(None)));
        for receipt in futures::future::join_all(submitted).await {
            receipt.unwrap();
        }
    }
    let done = first.ask(reqwest::Method::POST, "/v1/admin/retention").await;
    assert_eq!(done["events_archived"], 10_000, "{done}");

    for replica in [&first, &second] {
        let page = replica.get("/v1/events?after=0&limit=5").await;
        assert_eq!(page["items"][0]["type"], "installation.created", "{page}");
        let across = replica.get("/v1/events?after=9998&limit=5").await;
        let positions: Vec<_> = across["items"].as_array().unwrap().iter().collect();
        let positions: Vec<_> = positions.iter().map(|it| it["position"].as_u64()).collect();
        assert_eq!(positions, (9999..10_004).map(Some).collect::<Vec<_>>());
        assert_eq!(replica.get("/v1/audit/verify").await["intact"], true);
        assert_eq!(replica.get("/v1/admin/verify-state").await["same"], true);
    }

    // A third that looks for history where it is not is told so at once.
    let third = tempfile::tempdir().unwrap();
    std::fs::copy(one.path().join("keys"), third.path().join("keys")).unwrap();
    let storage = Storage::connect(&database, third.path()).await.unwrap();
    let refused = storage.archived_at(third.path(), []).await.map(drop).unwrap_err();
    let StorageError::Archive(ArchiveError::Elsewhere { .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(refused.hint().unwrap().contains("--archive"));
}
