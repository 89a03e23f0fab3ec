//! Release commands: run once before a deploy replaces anything, and able to stop it.

use std::time::Duration;

use helix_model::deploy::Phase as DeployPhase;
use helix_model::instance::{Exit, Observed, Phase};
use helix_model::manifest::{self, Manifest};
use helix_model::node::LOST_AFTER;
use helix_model::{Deploy, Id, Reason};

use crate::world::World;

fn migrating() -> Manifest {
    let text = "schema_version = \"v1\"\n[processes.web]\nports = [{ internal = 80 }]\n\
                [deploy]\nrelease_command = [\"/migrate\"]\nrelease_timeout_seconds = 60\n";
    manifest::parse(text).unwrap()
}

impl World {
    fn deploy_migrating(&mut self, label: &str) -> Id<Deploy> {
        self.try_deploy_as("main", "production", label, migrating()).unwrap()
    }

    /// The command of an instance ends.
    fn command_ends(&mut self, instance: &str, code: i32) {
        let id = self.instance(instance).unwrap().id;
        let exit = Some(Exit { code: Some(code), signal: None, oom_killed: false });
        let (phase, reason) = (Phase::Failed, Some(Reason::WorkloadExited));
        self.observe(id, Observed { phase, reason, exit, ended: true, ..Observed::default() });
    }

    fn message(&self, deploy: Id<Deploy>) -> String {
        self.state.deploys.get(deploy).unwrap().status.message.clone().unwrap_or_default()
    }
}

#[test]
fn nothing_is_replaced_before_the_command_has_ended_well() {
    let mut world = World::serving("v1");
    let deploy = world.deploy_migrating("v2");
    assert_eq!(world.running(), ["web-1 v1 ready", "release-1 v2 pending"]);
    world.report("release-1", Phase::Ready);
    assert_eq!(world.running(), ["web-1 v1 ready", "release-1 v2 ready"]);
    world.command_ends("release-1", 0);
    assert_eq!(world.running(), ["web-1 v1 ready", "web-2 v2 pending"]);
    world.report("web-2", Phase::Ready);
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
    world.let_go();
    assert_eq!(world.running(), ["web-2 v2 ready"]);
    assert_eq!(world.state.instances.iter().count(), 1, "nothing of the command is left");
}

#[test]
fn a_command_that_fails_ends_the_deploy_and_is_not_run_again() {
    let mut world = World::serving("v1");
    let deploy = world.deploy_migrating("v2");
    world.report("release-1", Phase::Starting);
    world.command_ends("release-1", 3);
    assert_eq!(world.phase(deploy), DeployPhase::Failed);
    assert_eq!(world.reason(deploy), Some(Reason::ReleaseCommandFailed));
    assert_eq!(world.message(deploy), "the release command (release-1) exited with code 3");
    assert_eq!(world.running(), ["web-1 v1 ready"]);
}

#[test]
fn a_first_deploy_waits_for_its_command_too() {
    let mut world = World::with_node();
    let deploy = world.deploy_migrating("v1");
    assert_eq!(world.running(), ["release-1 v1 pending"]);
    world.command_ends("release-1", 0);
    assert_eq!(world.running(), ["web-1 v1 pending"]);
    world.report("web-1", Phase::Ready);
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
}

#[test]
fn what_serves_is_kept_in_repair_while_the_command_runs() {
    let mut world = World::serving("v1");
    world.scale(2);
    world.report_all(Phase::Ready);
    world.deploy_migrating("v2");
    world.report("release-1", Phase::Ready);
    world.scale(3);
    assert_eq!(world.counts(), "3 v1 + 1 v2", "scaling concerns what serves");
    world.report("web-3", Phase::Ready);
    assert_eq!(world.counts(), "3 v1 + 1 v2");
    world.command_ends("release-1", 0);
    assert_eq!(world.counts(), "3 v1 + 1 v2", "and the rollout begins");
}

#[test]
fn a_command_has_so_much_time_from_its_start() {
    let mut world = World::serving("v1");
    let deploy = world.deploy_migrating("v2");
    world.report("release-1", Phase::Pulling);
    world.pass(Duration::from_secs(300));
    assert_eq!(world.phase(deploy), DeployPhase::Rolling, "fetching does not count");
    world.report("release-1", Phase::Starting);
    world.pass(Duration::from_secs(59));
    assert_eq!(world.phase(deploy), DeployPhase::Rolling);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.message(deploy), "the release command (release-1) did not end within 60 s");
    assert_eq!(world.running(), ["web-1 v1 ready"]);
}

#[test]
fn a_command_whose_node_is_lost_is_taken_for_failed() {
    let mut world = World::serving("v1");
    let deploy = world.deploy_migrating("v2");
    world.report("release-1", Phase::Ready);
    world.disconnect();
    world.pass(LOST_AFTER);
    assert_eq!(world.reason(deploy), Some(Reason::ReleaseCommandFailed));
    assert!(world.message(deploy).contains("does not report"), "{}", world.message(deploy));
}

#[test]
fn a_newer_deploy_stops_the_command_of_the_one_before() {
    let mut world = World::serving("v1");
    let first = world.deploy_migrating("v2");
    world.report("release-1", Phase::Ready);
    let second = world.deploy_migrating("v3");
    assert_eq!(world.reason(first), Some(Reason::DeploySuperseded));
    assert_eq!(world.running(), ["web-1 v1 ready", "release-2 v3 pending"]);
    world.command_ends("release-2", 0);
    world.report("web-2", Phase::Ready);
    assert_eq!(world.phase(second), DeployPhase::Succeeded);
}

#[test]
fn a_rollback_does_not_run_it() {
    let mut world = World::serving("v1");
    world.deploy_migrating("v2");
    world.command_ends("release-1", 0);
    world.report("web-2", Phase::Ready);
    world.deploy_migrating("v3");
    world.command_ends("release-2", 0);
    world.report("web-3", Phase::Ready);
    world.rollback().unwrap();
    assert_eq!(world.running(), ["web-3 v3 ready", "web-4 v2 pending"]);
}

#[test]
fn a_command_for_which_there_is_no_room_fails_the_deploy() {
    let mut world = World::with_node_of(600 << 20);
    world.deploy("v1");
    world.report_all(Phase::Ready);
    let mut manifest = migrating();
    let command = manifest.release_command.as_mut().unwrap();
    command.process.resources.memory_bytes = 1 << 30;
    let deploy = world.try_deploy_as("main", "production", "v2", manifest).unwrap();
    assert_eq!(world.reason(deploy), Some(Reason::NoCapacityMemory));
    assert_eq!(world.message(deploy), {
        let meaning = Reason::NoCapacityMemory.meaning();
        format!("the release command needs 1Gi: {meaning}")
    });
    assert_eq!(world.running(), ["web-1 v1 ready"]);
}
