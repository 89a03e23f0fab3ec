//! Certificates over the API: what is taken, who gets the key, and that it is shown to
//! nobody.

use helix_certificate::Authority;
use helix_model::certificate::Pin;
use helix_model::{Certificate, Code, Resource};
use reqwest::Method;
use serde_json::{Value, json};

use crate::people::now;
use crate::world::World;

/// The host of the app `shop`.
const HOST: &str = "shop.localhost";

/// A chain and a key, each in PEM.
fn issued(host: &str) -> (String, String) {
    let authority = Authority::create("test", now().0).unwrap();
    let pem = authority.issue(host, now().0).unwrap().to_pem();
    let text = std::str::from_utf8(&pem).unwrap();
    let (key, chain) = text.split_at(text.find("-----BEGIN CERTIFICATE").unwrap());
    (format!("{chain}{}", authority.certificate_pem()), key.to_owned())
}

/// The middle of a key, which is nowhere else.
fn secret_part(key: &str) -> &str {
    key.lines().nth(1).unwrap()
}

impl World {
    async fn add(&self, name: Option<&str>, chain: &str, key: &str) -> (u16, Value) {
        let mut body = json!({ "certificate": chain, "key": key });
        if let Some(name) = name {
            body["name"] = json!(name);
        }
        self.send_as(self.root(), Method::POST, "/v1/certificates?org=default", body).await
    }

    fn certificate(&self) -> Resource<Certificate> {
        self.engine().state().certificates.iter().next().unwrap().clone()
    }

    async fn delivered(&self, pin: Option<Pin>) -> Result<String, helix_model::Problem> {
        let sent = self.server().deliver_certificate("e1", HOST, pin).await?;
        Ok(String::from_utf8(sent.to_vec()).unwrap())
    }

    /// Ids of the sealed records of certificates.
    async fn sealed(&self) -> usize {
        let url = format!("sqlite://{}?mode=ro", self.dir().join("log/log.db").display());
        let pool = sqlx::sqlite::SqlitePool::connect(&url).await.unwrap();
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT id FROM sealed WHERE id LIKE 'certificates/%'")
                .fetch_all(&pool)
                .await
                .unwrap();
        rows.len()
    }
}

#[tokio::test]
async fn a_certificate_is_shown_without_its_key_and_handed_to_edges_with_it() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let (chain, key) = issued(HOST);
    let (status, receipt) = world.add(None, &chain, &key).await;
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(receipt["operation"], "set_certificate");
    let shown = world.get("/v1/certificates/default%2Fshop-localhost").await;
    assert_eq!(shown["desired"]["names"], json!([HOST]));
    assert_eq!(shown["desired"]["issuer"], "test");
    assert_eq!(shown["current"]["phase"], "valid");

    let certificate = world.certificate();
    let pin = Pin { certificate: certificate.id, record: certificate.spec.issued.unwrap().record };
    let sent = world.delivered(Some(pin)).await.unwrap();
    assert!(sent.contains(secret_part(&key)) && sent.matches("BEGIN CERTIFICATE").count() == 2);
    let trail = world.get("/v1/audit?org=default&all=true").await.to_string();
    assert!(trail.contains("deliver_certificate"), "{trail}");

    let events = world.get("/v1/events?limit=200").await.to_string();
    assert!(events.contains("certificate.created"), "{events}");
    for text in [receipt.to_string(), shown.to_string(), events, trail] {
        assert!(!text.contains(secret_part(&key)) && !text.contains("PRIVATE"), "{text}");
    }
}

#[tokio::test]
async fn a_replaced_certificate_leaves_no_key_behind_and_no_edge_gets_it() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let (chain, key) = issued(HOST);
    world.add(Some("shop"), &chain, &key).await;
    let before = world.certificate();
    let (status, again) = world.add(Some("shop"), &chain, &key).await;
    assert_eq!((status, world.sealed().await), (200, 1), "{again}");
    assert_eq!(world.certificate().spec, before.spec, "it is the same one");
    let (chain, key) = issued(HOST);
    world.add(Some("shop"), &chain, &key).await;
    let after = world.certificate();
    assert_eq!((before.id, world.sealed().await), (after.id, 1));
    let old = Pin { certificate: before.id, record: before.spec.issued.unwrap().record };
    assert_eq!(world.delivered(Some(old)).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_and_tells_nothing_of_the_key() {
    let world = World::new().await;
    let (chain, key) = issued(HOST);
    let (_, other) = issued(HOST);
    for (chain, key, field) in [
        (chain.as_str(), other.as_str(), "key"),
        (chain.as_str(), chain.as_str(), "key"),
        (key.as_str(), key.as_str(), "certificate"),
    ] {
        let (status, problem) = world.add(None, chain, key).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_argument")), "{problem}");
        assert_eq!(problem["details"][0]["field"], field, "{problem}");
        assert!(!problem.to_string().contains(secret_part(&other)), "{problem}");
    }
    let (status, problem) = world.add(Some("Not a name"), &chain, &key).await;
    assert_eq!(status, 400, "{problem}");
    assert!(!problem.to_string().contains(secret_part(&key)), "{problem}");
    assert_eq!(world.sealed().await, 0);
}

#[tokio::test]
async fn the_installation_vouches_for_hosts_it_has_and_for_no_other() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let authority = world.get("/v1/authority").await;
    let pem = authority["certificate"].as_str().unwrap().to_owned();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    let sent = world.delivered(None).await.unwrap();
    let (key, chain) = sent.split_at(sent.find("-----BEGIN CERTIFICATE").unwrap());
    let whole = format!("{chain}{pem}");
    // The chain holds, and the host is the one that was asked for.
    let read = helix_certificate::read(whole.as_bytes(), key.as_bytes(), now().0 + 1000).unwrap();
    assert_eq!(read.facts.names, [HOST]);
    let other = world.server().deliver_certificate("e1", "other.example", None).await;
    assert_eq!(other.unwrap_err().code, Code::NotFound);
    let fingerprint = authority["fingerprint"].clone();
    let world = world.restarted().await;
    assert_eq!(world.get("/v1/authority").await["fingerprint"], fingerprint);
}
