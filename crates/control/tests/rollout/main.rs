//! Deploys, scaling and rollback, played through with a pretended node.
//!
//! [`World`] is the one way in: it runs the real decisions and reconcilers on a
//! clock of its own; tests say what the node would report.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]

mod acme;
mod addresses;
mod certificates;
mod destroying;
mod domains;
mod endings;
mod endpoints;
mod expose;
mod nodes;
mod properties;
mod quotas;
mod release_command;
mod routing;
mod secrets;
mod snapshots;
mod tunnels;
mod volumes;
mod world;

use std::time::Duration;

use helix_model::deploy::Phase as DeployPhase;
use helix_model::endpoint::Exposure;
use helix_model::instance::{Desired, Phase};
use helix_model::{Code, Reason};
use world::World;

#[test]
fn a_first_deploy_makes_all_that_is_missing_and_succeeds_when_ready() {
    let mut world = World::with_node();
    let deploy = world.deploy("v1");
    assert_eq!(world.running(), ["web-1 v1 pending"]);
    world.report_all(Phase::Ready);
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
    assert_eq!(world.hosts(), ["shop.localhost"]);
    let tcp = world.state.endpoints.iter().find_map(|it| match it.spec.exposure {
        Exposure::Tcp { address, listen_port } => Some((address.to_string(), listen_port)),
        _ => None,
    });
    assert!(tcp.is_some_and(|(address, port)| address.ends_with("::1") && port == 80));
}

#[test]
fn the_old_release_goes_only_when_the_new_one_is_ready() {
    let mut world = World::serving("v1");
    world.deploy("v2");
    assert_eq!(world.running(), ["web-1 v1 ready", "web-2 v2 pending"]);
    world.report("web-2", Phase::Starting);
    assert_eq!(world.running(), ["web-1 v1 ready", "web-2 v2 starting"]);
    world.report("web-2", Phase::Ready);
    assert_eq!(world.running(), ["web-2 v2 ready"]);
    assert_eq!(world.desired("web-1"), Some(Desired::Draining));
}

#[test]
fn a_draining_instance_stops_when_nothing_is_open_or_its_grace_is_over() {
    let mut world = World::serving("v1");
    world.deploy("v2");
    world.report("web-2", Phase::Ready);
    world.drained("web-1");
    assert_eq!(world.desired("web-1"), Some(Desired::Stopped));
    world.report("web-1", Phase::Stopped);
    assert_eq!(world.desired("web-1"), None);

    world.deploy("v3");
    world.report("web-3", Phase::Ready);
    assert_eq!(world.desired("web-2"), Some(Desired::Draining));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.desired("web-2"), Some(Desired::Stopped));
}

#[test]
fn three_instances_are_replaced_one_by_one() {
    let mut world = World::serving("v1");
    world.scale(3);
    world.report_all(Phase::Ready);
    world.deploy("v2");
    let mut steps = vec![world.counts()];
    while world.report_next(Phase::Ready) {
        steps.push(world.counts());
    }
    assert_eq!(steps, ["3 v1 + 1 v2", "2 v1 + 2 v2", "1 v1 + 3 v2", "0 v1 + 3 v2"]);
}

#[test]
fn a_release_that_never_gets_healthy_fails_and_the_old_one_keeps_serving() {
    let mut world = World::serving("v1");
    let deploy = world.deploy("v2");
    world.fail("web-2", Reason::HealthcheckFailed, 0);
    assert_eq!(world.phase(deploy), DeployPhase::Failed);
    assert_eq!(world.reason(deploy), Some(Reason::HealthcheckFailed));
    assert_eq!(world.running(), ["web-1 v1 ready"]);
    assert_eq!(world.hosts(), ["shop.localhost"]);
}

#[test]
fn a_program_that_exits_gets_one_more_try_before_the_deploy_fails() {
    let mut world = World::serving("v1");
    let deploy = world.deploy("v2");
    world.fail("web-2", Reason::WorkloadExited, 0);
    assert_eq!(world.phase(deploy), DeployPhase::Rolling);
    world.fail("web-2", Reason::WorkloadExited, 1);
    assert_eq!(world.phase(deploy), DeployPhase::Failed);
}

#[test]
fn a_failed_first_deploy_leaves_nothing_running() {
    let mut world = World::with_node();
    let deploy = world.deploy("v1");
    world.fail("web-1", Reason::ImageNotFound, 0);
    assert_eq!(world.phase(deploy), DeployPhase::Failed);
    assert!(world.running().is_empty());
}

#[test]
fn a_deploy_that_was_half_through_gives_back_what_it_took() {
    let mut world = World::serving("v1");
    world.scale(3);
    world.report_all(Phase::Ready);
    world.deploy("v2");
    world.report_next(Phase::Ready);
    assert_eq!(world.counts(), "2 v1 + 2 v2");
    world.fail_next(Reason::HealthcheckFailed);
    assert_eq!(world.ready(), 3, "the ready one of v2 stays until v1 is whole again");
    while world.report_next(Phase::Ready) {}
    assert_eq!(world.counts(), "3 v1 + 0 v2");
}

#[test]
fn a_bare_rollback_goes_to_what_served_before() {
    let mut world = World::serving("v1");
    world.deploy("v2");
    world.report_all(Phase::Ready);
    world.rollback().unwrap();
    world.report_all(Phase::Ready);
    assert_eq!(world.serving_release(), "v1");
    world.rollback().unwrap();
    world.report_all(Phase::Ready);
    assert_eq!(world.serving_release(), "v2");
}

#[test]
fn without_an_earlier_release_rollback_says_so() {
    let mut world = World::serving("v1");
    assert_eq!(world.rollback().unwrap_err().code, Code::PreconditionFailed);
}

#[test]
fn a_newer_deploy_takes_over() {
    let mut world = World::serving("v1");
    let first = world.deploy("v2");
    let second = world.deploy("v3");
    assert_eq!(world.reason(first), Some(Reason::DeploySuperseded));
    assert_eq!(world.running(), ["web-1 v1 ready", "web-3 v3 pending"]);
    world.report_all(Phase::Ready);
    assert_eq!(world.phase(second), DeployPhase::Succeeded);
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let mut world = World::with_node_of(300 << 20);
    world.deploy("v1");
    world.report_all(Phase::Ready);
    let deploy = world.deploy("v2");
    assert_eq!(world.reason(deploy), Some(Reason::NoCapacityMemory));
    assert_eq!(world.running(), ["web-1 v1 ready"]);
}

#[test]
fn room_that_is_being_given_back_is_waited_for() {
    let mut world = World::with_node_of(600 << 20);
    world.deploy("v1");
    world.report_all(Phase::Ready);
    world.deploy("v2");
    world.report_all(Phase::Ready);
    let deploy = world.deploy("v3");
    assert_eq!(world.phase(deploy), DeployPhase::Rolling, "web-1 is still on its way out");
    world.drained("web-1");
    world.report("web-1", Phase::Stopped);
    assert_eq!(world.running(), ["web-2 v2 ready", "web-3 v3 pending"]);
}

#[test]
fn without_a_node_a_deploy_waits_a_little_and_then_fails() {
    let mut world = World::empty();
    let deploy = world.deploy("v1");
    assert_eq!(world.phase(deploy), DeployPhase::Rolling);
    world.pass(Duration::from_secs(15));
    assert_eq!(world.reason(deploy), Some(Reason::NoNodesActive));
}

#[test]
fn nothing_happens_for_ten_minutes_and_the_deploy_fails() {
    let mut world = World::serving("v1");
    let deploy = world.deploy("v2");
    world.report("web-2", Phase::Starting);
    world.pass(Duration::from_secs(599));
    assert_eq!(world.phase(deploy), DeployPhase::Rolling);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.reason(deploy), Some(Reason::DeployTimeout));
}

#[test]
fn scaling_down_takes_the_failed_one_first() {
    let mut world = World::serving("v1");
    world.scale(3);
    world.report_all(Phase::Ready);
    world.fail("web-2", Reason::CrashLoopBackoff, 3);
    world.scale(2);
    assert_eq!(world.running(), ["web-1 v1 ready", "web-3 v1 ready"]);
}

#[test]
fn scaling_a_process_that_is_not_there_names_those_that_are() {
    let mut world = World::serving("v1");
    let problem = world.try_scale("worker", 2).unwrap_err();
    assert_eq!(problem.code, Code::InvalidArgument);
    assert_eq!(problem.detail, "v1 has no process `worker`; it has web");
}

#[test]
fn two_apps_of_one_name_get_different_hosts() {
    let mut world = World::serving("v1");
    world.second_project();
    world.deploy_in("other", "v1");
    assert_eq!(world.hosts(), ["shop.localhost", "shop.other.localhost"]);
}

#[test]
fn a_repeated_report_is_no_news() {
    let mut world = World::serving("v1");
    let before = world.state.position;
    world.report("web-1", Phase::Ready);
    assert_eq!(world.state.position, before);
}

#[test]
fn a_report_over_a_link_that_was_given_up_is_no_news() {
    let mut world = World::serving("v1");
    world.connect();
    world.report_over(1, "web-1", Phase::Failed);
    assert_eq!(world.running(), ["web-1 v1 ready"]);
    world.report_over(2, "web-1", Phase::Unready);
    assert_eq!(world.running(), ["web-1 v1 unready"]);
}
