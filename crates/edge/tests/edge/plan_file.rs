//! An edge serves its last plan with the control plane gone.

use std::sync::Arc;
use std::time::Duration;

use helix_edge::AnyIp;
use helix_model::plan::EdgePlan;

use crate::app::{App, get};
use crate::world::{World, http};

#[tokio::test]
async fn a_restarted_edge_serves_what_it_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge-plan.json");
    let app = App::http(1).await;
    let world = World::with(AnyIp::Off, Some(path.clone())).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    world.edge.shutdown(Duration::ZERO).await;

    let world = World::with(AnyIp::Off, Some(path)).await;
    assert_eq!(get(world.http(), "app.example", "/").await.body, "app 1");
    assert_eq!(world.edge.reports().borrow().version, 1);
}

#[tokio::test]
async fn an_older_plan_is_ignored() {
    let world = World::new().await;
    let app = App::http(1).await;
    let plan =
        |version, endpoints| Arc::new(EdgePlan { version, endpoints, ..EdgePlan::default() });
    world.edge.apply(plan(7, vec![http(1, "app.example", &[app.backend()])])).await;
    let report = world.edge.apply(plan(6, vec![])).await;
    assert_eq!((report.version, report.endpoints.len()), (7, 1));
    assert_eq!(get(world.http(), "app.example", "/").await.body, "app 1");
}

#[tokio::test]
async fn a_fresh_installation_is_obeyed_although_the_plan_on_disk_is_of_a_longer_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge-plan.json");
    let (old, new) = (App::http(1).await, App::http(2).await);
    let plan = |version, network: &str, app: &App| {
        let installation = Some(network.parse().unwrap());
        let endpoints = vec![http(1, "app.example", &[app.backend()])];
        Arc::new(EdgePlan { version, installation, endpoints, ..EdgePlan::default() })
    };
    let world = World::with(AnyIp::Off, Some(path.clone())).await;
    world.edge.apply(plan(500, "fd00:1::", &old)).await;
    world.edge.shutdown(Duration::ZERO).await;

    let world = World::with(AnyIp::Off, Some(path)).await;
    assert_eq!(get(world.http(), "app.example", "/").await.body, "app 1", "no server is there");
    assert_eq!(world.edge.apply(plan(30, "fd00:2::", &new)).await.version, 30);
    assert_eq!(get(world.http(), "app.example", "/").await.body, "app 2");
    assert_eq!(world.edge.apply(plan(29, "fd00:2::", &old)).await.version, 30, "it is older");
}
