//! The tests. Each is a name, whether it needs root, and what to do.

use helix_model::Reason;
use helix_model::api::ExecRequest;
use helix_model::instance::Phase;
use helix_model::manifest::{Check, Health};
use helix_model::plan::InstancePlan;
use helix_node::{Agent, Isolation, LogQuery, NodeError, Stop};

use crate::disk::{
    a_full_disk_costs_nothing_that_runs,
    an_image_that_does_not_fit_is_told_and_fetched_when_it_does, unused_images_go_first,
};
use crate::downloads::a_download_nobody_wants_any_more_ends;
use crate::egress::{
    a_filter_that_lets_nothing_pass_is_told, beside_the_firewall_of_somebody_else_too,
    instances_reach_the_network_and_nothing_else, rules_come_and_go_with_the_agent,
    what_stays_on_the_machine_is_not_tracked,
};
use crate::faults::{
    after_the_machine_was_down_all_is_as_it_was, an_agent_killed_at_every_step_goes_on_where_it_was,
};
use crate::peers::instances_of_one_env_find_each_other_where_it_asks_for_that;
use crate::secrets::{
    a_plain_process_is_told_where_its_secrets_are,
    an_instance_restarts_with_its_secrets_when_no_server_is_in_reach,
    without_its_secrets_an_instance_waits_and_says_for_what,
};
use crate::snapshots::{
    a_damaged_snapshot_becomes_no_volume, a_snapshot_shows_one_moment_and_becomes_another_volume,
    what_an_agent_left_frozen_is_let_go, writers_do_not_wait_longer_than_allowed,
};
use crate::volumes::{
    a_volume_outlives_its_instances_and_goes_when_told,
    a_volume_that_is_not_where_it_was_is_not_made_anew,
    an_agent_killed_at_any_moment_loses_no_volume, two_instances_never_have_one_volume,
    without_privileges_a_volume_is_a_directory,
};
use crate::world::{World, eventually, get, http};

type Test = (&'static str, bool, fn());

macro_rules! tests {
    ($($name:ident $(($root:ident))?,)*) => {
        pub(crate) const ALL: &[Test] = &[$(
            (stringify!($name), tests!(@root $($root)?), || block_on($name())),
        )*];
    };
    (@root root) => { true };
    (@root) => { false };
}

tests! {
    from_plan_to_answer_and_away_again(root),
    a_killed_program_is_started_again(root),
    a_program_whose_keeper_is_killed_is_started_again(root),
    a_restarted_agent_adopts_what_runs(root),
    what_no_plan_knows_is_ended(root),
    an_agent_killed_at_any_moment_leaves_nothing(root),
    an_agent_killed_at_every_step_goes_on_where_it_was(root),
    after_the_machine_was_down_all_is_as_it_was(root),
    running_out_of_memory_is_told(root),
    a_crash_loop_is_told(root),
    a_missing_image_is_told(root),
    failing_health_is_told_and_recovers_by_restart(root),
    a_command_tells_health(root),
    commands_run_inside_instances(root),
    output_of_several_is_merged_and_survives_them(root),
    leaving_with_the_instances_brings_them_back_later(root),
    a_download_nobody_wants_any_more_ends(root),
    a_full_disk_costs_nothing_that_runs(root),
    an_image_that_does_not_fit_is_told_and_fetched_when_it_does(root),
    unused_images_go_first(root),
    an_instance_restarts_with_its_secrets_when_no_server_is_in_reach(root),
    without_its_secrets_an_instance_waits_and_says_for_what(root),
    a_plain_process_is_told_where_its_secrets_are,
    instances_reach_the_network_and_nothing_else(root),
    beside_the_firewall_of_somebody_else_too(root),
    what_stays_on_the_machine_is_not_tracked(root),
    a_filter_that_lets_nothing_pass_is_told(root),
    rules_come_and_go_with_the_agent(root),
    instances_of_one_env_find_each_other_where_it_asks_for_that(root),
    a_volume_outlives_its_instances_and_goes_when_told(root),
    an_agent_killed_at_any_moment_loses_no_volume(root),
    a_volume_that_is_not_where_it_was_is_not_made_anew(root),
    a_snapshot_shows_one_moment_and_becomes_another_volume(root),
    writers_do_not_wait_longer_than_allowed(root),
    a_damaged_snapshot_becomes_no_volume(root),
    what_an_agent_left_frozen_is_let_go(root),
    two_instances_never_have_one_volume(root),
    without_privileges_a_volume_is_a_directory,
    without_privileges_ports_are_forwarded,
    a_plain_process_is_told_its_port,
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}

async fn from_plan_to_answer_and_away_again() {
    let mut world = World::new().await;
    let facts = world.agent.facts();
    assert_eq!(facts.isolation, "container");
    assert!(facts.cpus > 0 && facts.memory_bytes > 0);
    let (first, second) = (world.server(1), world.server(2));
    world.apply(&[&first, &second]);
    let address = world.ready(&first).await;
    assert_eq!(address.ip(), first.address, "IPv6 first");
    assert_eq!(get(address, "/"), first.id.to_string());
    assert_eq!(get(world.ready(&second).await, "/"), second.id.to_string());
    world.apply(&[&second]);
    world.gone(&first).await;
    assert_eq!(world.traces(first.id), [""; 0]);
    assert_eq!(get(world.ready(&second).await, "/"), second.id.to_string());
    leave(world, &[&second]).await;
}

async fn a_killed_program_is_started_again() {
    let mut world = World::new().await;
    let plan = world.server(1);
    world.apply(&[&plan]);
    let address = world.ready(&plan).await;
    get(address, "/exit");
    let seen = world.until(&plan, "the crash", |seen| seen.phase == Phase::Failed).await;
    assert_eq!(seen.reason, Some(Reason::WorkloadExited));
    assert!(seen.message.unwrap().starts_with("exited with code 3"));
    let again =
        |seen: &helix_model::instance::Observed| seen.phase == Phase::Ready && seen.restarts == 1;
    let seen = world.until(&plan, "ready again", again).await;
    assert_eq!(seen.exit.unwrap().code, Some(3));
    assert_eq!(get(seen.ports[&http()], "/"), plan.id.to_string());
    leave(world, &[&plan]).await;
}

async fn a_program_whose_keeper_is_killed_is_started_again() {
    let mut world = World::new().await;
    let plan = world.server(1);
    world.apply(&[&plan]);
    world.ready(&plan).await;
    let before = world.place.status(plan.id).unwrap();
    world.kill(before.shim.pid);
    let again =
        |seen: &helix_model::instance::Observed| seen.phase == Phase::Ready && seen.restarts == 1;
    let seen = world.until(&plan, "ready again", again).await;
    assert_eq!(get(seen.ports[&http()], "/"), plan.id.to_string());
    assert!(!before.workload.unwrap().is_alive(), "the old program is gone");
    leave(world, &[&plan]).await;
}

async fn a_restarted_agent_adopts_what_runs() {
    let mut world = World::new().await;
    let plan = world.server(1);
    world.apply(&[&plan]);
    world.ready(&plan).await;
    let pid = world.place.pid(plan.id);
    world.restart_agent().await;
    let address = world.ready(&plan).await;
    assert_eq!(world.place.pid(plan.id), pid);
    assert_eq!(get(address, "/"), plan.id.to_string());
    let (_, seen) = world.agent.current().pop().unwrap();
    assert_eq!(seen.restarts, 0);
    leave(world, &[&plan]).await;
}

async fn what_no_plan_knows_is_ended() {
    let mut world = World::new().await;
    let plan = world.server(1);
    world.apply(&[&plan]);
    world.ready(&plan).await;
    world.agent.shutdown(Stop::Detach).await;
    std::fs::remove_file(world.place.data_dir.join("plan.json")).unwrap();
    world.restart_agent().await;
    assert!(world.place.status(plan.id).unwrap().workload.unwrap().is_alive(), "not yet judged");
    let other = world.instance(2, &["idle"]);
    world.apply(&[&other]);
    world.gone(&plan).await;
    assert_eq!(world.traces(plan.id), [""; 0]);
    leave(world, &[&other]).await;
}

async fn an_agent_killed_at_any_moment_leaves_nothing() {
    let mut world = World::new().await;
    world.agent.shutdown(Stop::Detach).await;
    let plans: Vec<InstancePlan> = (1..=3).map(|number| world.server(number)).collect();
    let all: Vec<&InstancePlan> = plans.iter().collect();
    for life_ms in [40, 70, 100, 130, 160, 200, 300] {
        // Half of them leave and come back, so that stops are cut short too.
        let some = if life_ms % 20 == 0 { &all[..] } else { &all[..1] };
        world.killed_after(some, life_ms).await;
    }
    world.restart_agent().await;
    world.apply(&all);
    for plan in &plans {
        assert_eq!(get(world.ready(plan).await, "/"), plan.id.to_string());
    }
    leave(world, &all).await;
}

async fn running_out_of_memory_is_told() {
    let mut world = World::new().await;
    let plan = world.server(1);
    world.apply(&[&plan]);
    let address = world.ready(&plan).await;
    if !world.place.status(plan.id).unwrap().limits.limits_enforced {
        drop(std::io::Write::write_all(
            &mut std::io::stderr(),
            b"no memory limits on this machine: out-of-memory is not tested\n",
        ));
        return leave(world, &[&plan]).await;
    }
    get(address, "/eat");
    let seen = world.until(&plan, "the end", |seen| seen.phase == Phase::Failed).await;
    assert_eq!(seen.reason, Some(Reason::OomKilled));
    assert!(seen.exit.unwrap().oom_killed);
    assert!(seen.message.unwrap().contains("limit of 64"));
    leave(world, &[&plan]).await;
}

async fn a_crash_loop_is_told() {
    let mut world = World::new().await;
    let plan = world.instance(1, &["crash", "7"]);
    world.apply(&[&plan]);
    let looping =
        |seen: &helix_model::instance::Observed| seen.reason == Some(Reason::CrashLoopBackoff);
    let seen = world.until(&plan, "the crash loop", looping).await;
    assert_eq!(seen.phase, Phase::Failed);
    assert!(seen.message.unwrap().contains("exited with code 7"));
    assert!(seen.restarts >= 2);
    leave(world, &[&plan]).await;
}

async fn a_missing_image_is_told() {
    let mut world = World::new().await;
    let plan = InstancePlan {
        image: format!("helix.internal/acme/app@sha256:{:064x}", 1),
        ..world.instance(1, &["idle"])
    };
    world.apply(&[&plan]);
    let seen = world.until(&plan, "the failure", |seen| seen.phase == Phase::Failed).await;
    assert_eq!(seen.reason, Some(Reason::ImageNotFound));
    leave(world, &[&plan]).await;
}

async fn failing_health_is_told_and_recovers_by_restart() {
    let mut world = World::new().await;
    let plan = world.server(1);
    world.apply(&[&plan]);
    let address = world.ready(&plan).await;
    get(address, "/sicken");
    let seen = world.until(&plan, "unready", |seen| seen.phase == Phase::Unready).await;
    assert_eq!(seen.reason, Some(Reason::HealthcheckFailed));
    assert_eq!(seen.message.as_deref(), Some("GET /health on port 8080 answered 500"));
    assert!(seen.ports.is_empty());
    get(address, "/exit");
    world.until(&plan, "ready again", |seen| seen.phase == Phase::Ready).await;
    leave(world, &[&plan]).await;
}

async fn a_command_tells_health() {
    let mut world = World::new().await;
    let words = ["/app", "workload", "is-well"].map(str::to_owned);
    let health = Health {
        check: Check::Exec { command: words.to_vec() },
        port: None,
        interval_seconds: 1,
        timeout_seconds: 5,
        grace_seconds: 0,
        success_threshold: 1,
        failure_threshold: 1,
    };
    let plan = InstancePlan { health: Some(health), ..world.instance(1, &["be-well"]) };
    world.apply(&[&plan]);
    world.ready(&plan).await;
    world.run(plan.id, &["get-ill"]).await;
    let seen = world.until(&plan, "unready", |seen| seen.phase == Phase::Unready).await;
    assert_eq!(seen.reason, Some(Reason::HealthcheckFailed));
    assert_eq!(seen.message.as_deref(), Some("`/app` ended with code 1"));
    world.run(plan.id, &["get-well"]).await;
    world.ready(&plan).await;
    leave(world, &[&plan]).await;
}

async fn commands_run_inside_instances() {
    let mut world = World::new().await;
    let plan = world.instance(1, &["idle"]);
    world.apply(&[&plan]);
    world.ready(&plan).await;
    let request = |words: &[&str]| ExecRequest {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        tty: false,
        cols: 0,
        rows: 0,
        env: [].into(),
    };
    assert_eq!(world.run(plan.id, &["echo", "hello from inside"]).await, "hello from inside");
    let missing = world.agent.exec(plan.id, request(&["/nothing"])).await;
    assert!(matches!(missing, Err(NodeError::Exec(_))));
    let elsewhere = world.instance(5, &["idle"]).id;
    let absent = world.agent.exec(elsewhere, request(&["/app"])).await;
    assert!(matches!(absent, Err(NodeError::NotRunning(_))));
    leave(world, &[&plan]).await;
}

async fn output_of_several_is_merged_and_survives_them() {
    let mut world = World::new().await;
    let (first, second) = (world.server(1), world.server(2));
    let ids = [first.id, second.id];
    world.apply(&[&first]);
    world.ready(&first).await;
    let following = LogQuery { follow: true, ..LogQuery::default() };
    let mut followed = world.agent.logs(&ids[..1], following);
    let line = followed.next().await.unwrap();
    assert_eq!((line.line.as_str(), line.stream.as_str()), ("serving as web-1", "stdout"));
    world.apply(&[&first, &second]);
    world.ready(&second).await;
    world.apply(&[]);
    world.gone(&first).await;
    world.gone(&second).await;
    assert_eq!(followed.next().await, None, "following ends with the instance");
    let mut all = world.agent.logs(&ids, LogQuery::default());
    let (one, two) = (all.next().await.unwrap(), all.next().await.unwrap());
    assert!(one.ts <= two.ts);
    assert_eq!((one.instance.as_str(), two.instance.as_str()), ("web-1", "web-2"));
    assert_eq!((one.process.as_str(), one.instance_id), ("web", first.id.to_string()));
    let tail = LogQuery { tail_lines: Some(1), ..LogQuery::default() };
    assert_eq!(world.agent.logs(&ids, tail).next().await.unwrap().instance, "web-2");
    leave(world, &[]).await;
}

async fn leaving_with_the_instances_brings_them_back_later() {
    let mut world = World::new().await;
    let plan = world.server(1);
    world.apply(&[&plan]);
    world.ready(&plan).await;
    let pid = world.place.pid(plan.id);
    world.agent.shutdown(Stop::StopInstances).await;
    assert_eq!(world.traces(plan.id), [""; 0]);
    let (_, seen) = world.agent.current().pop().unwrap();
    assert_eq!(seen.phase, Phase::Ready, "its end is not reported");
    world.restart_agent().await;
    world.ready(&plan).await;
    assert_ne!(world.place.pid(plan.id), pid);
    leave(world, &[&plan]).await;
}

async fn without_privileges_ports_are_forwarded() {
    let Some(mut world) = World::if_available(Isolation::ContainerRootless).await else {
        return;
    };
    let plan = world.server(1);
    world.apply(&[&plan]);
    let address = world.ready(&plan).await;
    assert!(address.ip().is_loopback());
    assert_eq!(get(address, "/"), plan.id.to_string());
    leave(world, &[&plan]).await;
}

async fn a_plain_process_is_told_its_port() {
    let Some(mut world) = World::if_available(Isolation::Process).await else {
        return;
    };
    let plan = world.server(1);
    world.apply(&[&plan]);
    let address = world.ready(&plan).await;
    assert!(address.ip().is_loopback() && address.port() != 8080);
    assert_eq!(get(address, "/"), plan.id.to_string());
    world.restart_agent().await;
    assert_eq!(world.ready(&plan).await, address, "adopted at the same port");
    leave(world, &[&plan]).await;
}

/// Empties the plan and checks that nothing is left.
pub(crate) async fn leave(mut world: World, plans: &[&InstancePlan]) {
    world.apply(&[]);
    for plan in plans {
        world.gone(plan).await;
        eventually("nothing is left", || world.traces(plan.id).is_empty()).await;
    }
    let agent: &Agent = &world.agent;
    agent.shutdown(Stop::StopInstances).await;
}
