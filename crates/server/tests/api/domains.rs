//! Domains over the API: who may add, see and vouch for one, and what is said of one
//! that cannot be looked up.

use helix_model::token::Owner;
use helix_model::{Command, Domain, Id, Role, domain};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

impl World {
    pub(crate) async fn add_domain(&self, domain: &str) -> Id<Domain> {
        let add = domain::Add { org: self.org_id("default"), domain: domain.to_owned() };
        self.command(Command::AddDomain(add)).await;
        let state = self.engine().state();
        state.domains.iter().find(|it| it.spec.domain == domain).unwrap().id
    }

    async fn post_as(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        self.send_as(token, Method::POST, path, body).await
    }
}

#[tokio::test]
async fn a_domain_goes_by_its_own_name_and_shows_the_record_to_make() {
    let world = World::new().await;
    let body = json!({ "domain": "Shop.Example." });
    let (status, receipt) = world.post_as(world.root(), "/v1/domains?org=default", body).await;
    assert_eq!((status, &receipt["operation"]), (200, &json!("add_domain")), "{receipt}");
    let shown = world.get("/v1/domains/default%2Fshop.example").await;
    assert_eq!(shown["desired"]["domain"], "shop.example");
    assert_eq!(shown["path"], "default/shop-example");
    let message = shown["conditions"][0]["message"].as_str().unwrap();
    let value = format!("helix-domain={}", shown["id"].as_str().unwrap());
    assert!(message.contains("_helix.shop.example") && message.contains(&value), "{message}");
    let (status, problem) =
        world.post_as(world.root(), "/v1/domains", json!({ "domain": "a.example" })).await;
    assert_eq!((status, &problem["details"][0]["field"]), (400, &json!("org")), "{problem}");
}

#[tokio::test]
async fn dns_that_does_not_answer_is_told_from_a_record_that_is_missing() {
    let world = World::new().await;
    world.add_domain("shop.example").await;
    let path = "/v1/domains/default%2Fshop.example/verify";
    let (status, problem) = world.post_as(world.root(), path, Value::Null).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")), "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("--dns"), "{problem}");
    let shown = world.get("/v1/domains/default%2Fshop.example").await;
    assert_eq!(shown["current"]["problem"]["reason"], "domain_lookup_failed", "{shown}");
}

#[tokio::test]
async fn an_owner_cannot_vouch_and_sees_nothing_of_the_org_that_has_proven_it() {
    let world = World::new().await;
    let id = world.add_domain("shop.example").await;
    world.command(Command::VouchForDomain(id)).await;
    world.new_org("rival").await;
    let rival = world.new_member("rival", "rival-owner", Role::Owner).await;
    let rival = world.token_of(Owner::User(rival), None).await;
    let body = json!({ "domain": "shop.example" });
    let (status, added) = world.post_as(&rival, "/v1/domains?org=rival", body).await;
    assert_eq!(status, 200, "{added}");
    let vouch = "/v1/domains/rival%2Fshop.example/vouch";
    let (status, problem) = world.post_as(&rival, vouch, Value::Null).await;
    assert_eq!(status, 403, "{problem}");
    let (status, problem) = world.post_as(world.root(), vouch, Value::Null).await;
    assert_eq!((status, &problem["code"]), (409, &json!("domain_taken")), "{problem}");
    let theirs = domain::Observe {
        domain: added["subject"]["id"].as_str().unwrap().parse().unwrap(),
        seen: domain::Seen::Record,
    };
    world.command(Command::ObserveDomain(theirs)).await;
    let (_, shown) = world.get_as(&rival, "/v1/domains/rival%2Fshop.example").await;
    assert_eq!(shown["current"]["problem"]["reason"], "domain_taken", "{shown}");
    assert!(!shown.to_string().contains("default"), "{shown}");
}
