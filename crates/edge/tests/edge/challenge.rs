//! What an authority is answered that wants to see who has a host.

use std::collections::BTreeSet;
use std::sync::Arc;

use helix_model::acme::{Challenge, Way};
use helix_model::plan::EdgePlan;

use crate::app::{App, get};
use crate::world::{World, http};

const PATH: &str = "/.well-known/acme-challenge/token-1";

#[tokio::test]
async fn a_challenge_is_answered_to_the_letter_and_for_its_host_alone() {
    let (app, world) = (App::http(1).await, World::new().await);
    let challenge = Challenge {
        host: "new.example".to_owned(),
        way: Way::Http,
        token: "token-1".to_owned(),
        answer: "token-1.thumb".to_owned(),
    };
    let plan = EdgePlan {
        version: 1,
        endpoints: vec![http(1, "app.example", &[app.backend()])],
        challenges: vec![challenge],
        ..EdgePlan::default()
    };
    let report = world.edge.apply(Arc::new(plan)).await;
    assert_eq!(report.answering, BTreeSet::from(["token-1".to_owned()]));
    // Also before any app has the host.
    let answer = get(world.http(), "NEW.example:80", PATH).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, b"token-1.thumb".as_slice()));
    assert_eq!(get(world.http(), "app.example", PATH).await.body, "app 1", "is the app's own");
    let other = get(world.http(), "new.example", "/.well-known/acme-challenge/token-2").await;
    assert_eq!(other.status.as_u16(), 404);
    let report = world.edge.apply(Arc::new(EdgePlan { version: 2, ..EdgePlan::default() })).await;
    assert!(report.answering.is_empty());
    assert_eq!(get(world.http(), "new.example", PATH).await.status.as_u16(), 404);
}
