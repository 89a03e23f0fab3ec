//! A deploy has succeeded when the edge sends work to what it started and to
//! nothing else.

use std::time::Duration;

use helix_control::plan::edge_plan;
use helix_control::report::edge_commands;
use helix_model::deploy::Phase as DeployPhase;
use helix_model::instance::Phase;
use helix_model::plan::{EdgePlan, EdgeReport, EndpointReport};

use crate::world::World;

/// The edge takes in a plan and tells so; something stays open to whatever drains.
fn follow(world: &mut World, plan: &EdgePlan) {
    let endpoints = plan.endpoints.iter().map(|endpoint| EndpointReport {
        id: endpoint.id,
        reachable: vec!["http://app.example".to_owned()],
        problem: None,
    });
    let report = EdgeReport {
        version: plan.version,
        routed: Some(plan.routed()),
        endpoints: endpoints.collect(),
        ..EdgeReport::default()
    };
    for command in edge_commands(&world.state, report) {
        world.command(command).unwrap();
    }
    world.settle();
}

/// An app behind an edge that has its latest plan.
fn serving() -> World {
    let mut world = World::serving("v1");
    let plan = edge_plan(&world.state);
    follow(&mut world, &plan);
    assert!(world.instance("web-1").unwrap().status.routed);
    world
}

#[test]
fn a_deploy_waits_until_new_work_goes_nowhere_else() {
    let mut world = serving();
    let deploy = world.deploy("v2");
    let before = edge_plan(&world.state);
    world.report_all(Phase::Ready);
    assert_eq!(world.phase(deploy), DeployPhase::Rolling, "the edge has not been told");
    follow(&mut world, &before);
    assert_eq!(world.phase(deploy), DeployPhase::Rolling, "the edge follows an older plan");
    let plan = edge_plan(&world.state);
    follow(&mut world, &plan);
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
    let routed = |name: &str| world.instance(name).unwrap().status.routed;
    assert_eq!((routed("web-1"), routed("web-2")), (false, true));
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
