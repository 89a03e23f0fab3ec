//! A deploy has succeeded when every edge sends work to what it started and to
//! nothing else, and what it replaced goes when every edge has let go of it.

use std::collections::BTreeSet;
use std::time::Duration;

use helix_control::report::edge_commands;
use helix_model::deploy::Phase as DeployPhase;
use helix_model::edge::LOST_AFTER;
use helix_model::instance::{Desired, Phase};
use helix_model::plan::{EdgePlan, EdgeReport, EndpointReport};
use helix_model::{Endpoint, Kind, Resource};

use crate::world::World;

/// An edge takes in a plan and tells so; something stays open to whatever drains.
fn follow(world: &mut World, edge: &str, plan: &EdgePlan) {
    let from = world.edge(edge);
    let endpoints = plan.endpoints.iter().map(|endpoint| EndpointReport {
        id: endpoint.id,
        reachable: vec!["http://app.example".to_owned()],
        problem: None,
        reach: None,
    });
    let report = EdgeReport {
        version: plan.version,
        routed: Some(plan.routed()),
        endpoints: endpoints.collect(),
        ..EdgeReport::default()
    };
    for command in edge_commands(&world.state, from, report) {
        world.command(command).unwrap();
    }
    world.settle();
}

/// An app behind an edge that has its latest plan.
fn serving() -> World {
    let mut world = World::serving("v1");
    let plan = world.edge_plan();
    follow(&mut world, "front", &plan);
    assert!(!world.instance("web-1").unwrap().status.routed_by.is_empty());
    world
}

#[test]
fn a_deploy_waits_until_new_work_goes_nowhere_else() {
    let mut world = serving();
    let deploy = world.deploy("v2");
    let before = world.edge_plan();
    world.report_all(Phase::Ready);
    assert_eq!(world.phase(deploy), DeployPhase::Rolling, "the edge has not been told");
    follow(&mut world, "front", &before);
    assert_eq!(world.phase(deploy), DeployPhase::Rolling, "the edge follows an older plan");
    let plan = world.edge_plan();
    follow(&mut world, "front", &plan);
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
    let routed = |name: &str| world.instance(name).unwrap().status.routed_by.len();
    assert_eq!((routed("web-1"), routed("web-2")), (0, 1));
}

#[test]
fn an_edge_that_is_away_does_not_hold_a_deploy_for_long() {
    let mut world = serving();
    let deploy = world.deploy("v2");
    world.report_all(Phase::Ready);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.phase(deploy), DeployPhase::Rolling);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
}

#[test]
fn where_there_is_no_edge_nothing_is_waited_for() {
    let mut world = World::serving("v1");
    let deploy = world.deploy("v2");
    world.report_all(Phase::Ready);
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
}

#[test]
fn a_deploy_waits_for_every_edge() {
    let mut world = serving();
    let plan = world.edge_plan();
    follow(&mut world, "side", &plan);
    let deploy = world.deploy("v2");
    world.report_all(Phase::Ready);
    let plan = world.edge_plan();
    follow(&mut world, "front", &plan);
    assert_eq!(world.phase(deploy), DeployPhase::Rolling, "the other edge has not been told");
    follow(&mut world, "side", &plan);
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
}

#[test]
fn an_instance_goes_when_every_edge_has_let_go_of_it() {
    let mut world = serving();
    let plan = world.edge_plan();
    follow(&mut world, "side", &plan);
    world.deploy("v2");
    world.report_all(Phase::Ready);
    world.drained_at("front", "web-1");
    assert_eq!(world.instance("web-1").unwrap().spec.desired, Desired::Draining);
    world.drained_at("side", "web-1");
    assert_eq!(world.instance("web-1").unwrap().spec.desired, Desired::Stopped);
}

#[test]
fn an_edge_that_is_away_may_still_serve_for_a_while() {
    let mut world = serving();
    let plan = world.edge_plan();
    follow(&mut world, "side", &plan);
    world.edge_leaves("side");
    world.pass(LOST_AFTER - Duration::from_secs(2));
    world.deploy("v2");
    world.report_all(Phase::Ready);
    world.drained_at("front", "web-1");
    assert_eq!(world.instance("web-1").unwrap().spec.desired, Desired::Draining);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.instance("web-1").unwrap().spec.desired, Desired::Stopped);
}

#[test]
fn what_an_edge_says_over_a_link_it_has_replaced_is_no_news() {
    let mut world = serving();
    let plan = world.edge_plan();
    let before = world.edge("front");
    world.edge_leaves("front");
    let after = world.edge("front");
    assert_ne!(before, after);
    world.deploy("v2");
    world.report_all(Phase::Ready);
    let report =
        EdgeReport { version: plan.version, routed: Some(BTreeSet::new()), ..Default::default() };
    let routed = |world: &World| world.instance("web-1").unwrap().status.routed_by.clone();
    let was = routed(&world);
    for command in edge_commands(&world.state, before, report) {
        world.command(command).unwrap();
    }
    assert_eq!(routed(&world), was);
}

#[test]
fn an_edge_that_never_comes_back_is_forgotten_with_what_it_said() {
    let mut world = serving();
    let front = world.edge("front").edge;
    let refused = world.destroy(Kind::Edge, "front").unwrap_err();
    assert!(refused.detail.contains("is connected"), "{refused}");
    world.edge_leaves("front");
    world.destroy(Kind::Edge, "front").unwrap();
    assert!(world.state.edges.get(front).is_none());
    assert!(world.instance("web-1").unwrap().status.routed_by.is_empty());
    let reachable = |it: &Resource<Endpoint>| it.status.seen.reachable.is_empty();
    assert!(world.state.endpoints.iter().all(reachable));
}
