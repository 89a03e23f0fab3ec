//! Instances that end, or never began, and what is known of that.

use std::time::Duration;

use helix_control::plan::node_plan;
use helix_model::deploy::Phase as DeployPhase;
use helix_model::instance::{Desired, Observed, Phase};
use helix_model::{Instance, Reason, Resource};

use crate::world::{World, seen};

fn only(world: &World) -> Resource<Instance> {
    let all: Vec<_> = world.state.instances.iter().collect();
    assert_eq!(all.len(), 1);
    all[0].clone()
}

fn ended() -> Observed {
    Observed { reason: Some(Reason::WorkloadExited), ended: true, ..seen(Phase::Failed) }
}

#[test]
fn what_its_node_never_spoke_of_keeps_its_memory_until_the_node_says_it_is_gone() {
    let mut world = World::with_node();
    world.deploy("v1");
    let instance = only(&world);
    world.observe(instance.id, Observed { reason: Some(Reason::ImageNotFound), ..ended() });
    world.observe(instance.id, seen(Phase::Pending));
    assert_eq!(only(&world).spec.desired, Desired::Stopped);
    let plan = node_plan(&world.state, instance.spec.node);
    assert_eq!((plan.instances.len(), plan.stopping), (0, vec![instance.id]));
    world.observe(instance.id, seen(Phase::Stopped));
    assert!(world.state.instances.is_empty());
}

#[test]
fn one_that_served_and_is_pending_since_drains_its_grace() {
    let mut world = World::serving("v1");
    world.report("web-1", Phase::Pending);
    world.scale(0);
    assert_eq!(world.desired("web-1"), Some(Desired::Draining));
    world.drained("web-1");
    assert_eq!(world.desired("web-1"), Some(Desired::Stopped));
}

#[test]
fn a_program_of_the_new_release_that_ended_for_good_fails_the_deploy_at_once() {
    let mut world = World::serving("v1");
    world.scale(2);
    world.report_all(Phase::Ready);
    let deploy = world.deploy("v2");
    world.report_next(Phase::Ready);
    let new = world.state.instances.iter().filter(|it| it.status.observed.phase == Phase::Ready);
    let new = new.max_by_key(|it| it.name.clone()).unwrap().id;
    world.observe(new, ended());
    assert_eq!(world.phase(deploy), DeployPhase::Failed);
    assert_eq!(world.reason(deploy), Some(Reason::WorkloadExited));
}

#[test]
fn one_that_ended_for_good_does_not_keep_another_release_running() {
    let mut world = World::serving("v1");
    world.scale(2);
    world.report_all(Phase::Ready);
    // Half-way through, the deploy fails, and what it took is to come back.
    world.deploy("v2");
    world.report_next(Phase::Ready);
    world.fail_next(Reason::ImageNotFound);
    let pending = |it: &&Resource<Instance>| {
        it.spec.desired == Desired::Running && it.status.observed.phase == Phase::Pending
    };
    let back = world.state.instances.iter().find(pending).unwrap().id;
    world.observe(back, ended());
    assert_eq!(world.counts(), "2 v1 + 1 v2");
    world.pass(Duration::from_secs(11));
    world.report_all(Phase::Ready);
    assert_eq!(world.counts(), "2 v1 + 0 v2");
}
