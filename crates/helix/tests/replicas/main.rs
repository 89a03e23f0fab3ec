//! Several servers on one database, as operators have them: killed with -9 while
//! clients write and visitors visit.
//!
//! Needs a PostgreSQL on this machine; without one the test says that it skips.

// Helpers are not built as tests, so clippy does not see that they are ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../world/mod.rs"]
pub mod world;

#[path = "../../../log/tests/backends/cluster.rs"]
pub mod cluster;

pub mod api;
pub mod installation;
pub mod ledger;
pub mod writers;

use std::time::{Duration, Instant};

use installation::Installation;
use ledger::Ledger;
use world::load::Load;
use world::{tool, until};
use writers::Writers;

/// What is promised, and what a busy machine is given.
const TAKEOVER: Duration = Duration::from_secs(5);
const TAKEOVER_MAX: Duration = Duration::from_secs(15);

#[test]
fn replicas_and_their_database_are_killed_and_nothing_is_lost_or_done_twice() {
    let Some(mut installation) = Installation::start() else { return };
    installation.deploy_tool();
    let visitors = Load::start(installation.edge, "tool.localhost");
    every_replica_reaches_every_instance(&installation);
    every_replica_tells_what_goes_through_the_edge(&installation);

    // A new program in place of the old, with visitors at it: at the port it shares, and at
    // an address that is the env's own.
    let by_address = Load::start(installation.expose_by_address(), "tool.localhost");
    for _ in 0..3 {
        by_address.goes_on(20);
        installation.replace_edge();
        every_replica_tells_what_goes_through_the_edge(&installation);
    }
    by_address.finish().nothing_lost("by the address of the env");

    let writers = Writers::start(&installation.replicas, &installation.world.work());
    for index in 0..installation.replicas.len() {
        writers.go_on();
        let led = installation.leader() == Some(index);
        let killed = Instant::now();
        installation.kill_server(index);
        if led {
            until("another to reconcile", || {
                installation.leader().is_some_and(|leader| leader != index)
            });
            let took = killed.elapsed();
            println!("another replica reconciled {took:?} after the kill; promised {TAKEOVER:?}");
            assert!(took < TAKEOVER_MAX, "the takeover took {took:?}");
        }
        writers.go_on();
        installation.start_server(index);
    }
    installation.database.kill();
    visitors.goes_on(20);
    installation.database.restart();
    writers.go_on();
    let accounts = writers.finish();
    println!("{} writes were acknowledged, {} refused", accounts.accepted(), accounts.refused());

    let ledger = Ledger::read(&installation);
    ledger.has_each_once(&accounts);
    ledger.gives_nothing_twice();
    accounts.same_receipts_everywhere(&installation.replicas);
    ledger.replicas_agree(&installation);
    every_replica_reaches_every_instance(&installation);
    visitors.finish().nothing_lost("through the edge");

    what_ends_at_one_ends_at_all(&installation);
    a_machine_that_never_comes_back_is_given_up(&mut installation);
}

/// A token that one replica revokes lets nobody in at another.
fn what_ends_at_one_ends_at_all(installation: &Installation) {
    let words = ["tokens", "create", "guest", "--service", "--scope", "apps:read", "--json"];
    let token = installation.helix_at(0, &words).ok().document();
    let token = token["token"].as_str().unwrap().to_owned();
    let status = |index: usize| api::status_as(installation.replicas[index], "/v1/apps", &token);
    until("every replica to know the token", || (0..3).all(|index| status(index) == 200));
    installation.helix_at(1, &["tokens", "revoke", "guest", "--org", "default"]).ok();
    let revoked = Instant::now();
    until("no replica to take the token", || (0..3).all(|index| status(index) == 401));
    println!("the token was worth nothing anywhere {:?} after it was revoked", revoked.elapsed());
}

/// What ran there begins elsewhere, and whoever waits for it to go is done.
fn a_machine_that_never_comes_back_is_given_up(installation: &mut Installation) {
    installation.kill_machine("n2");
    let node = |index: usize| api::get(installation.replicas[index], "/v1/nodes/n2");
    until("the node to count as gone", || node(0)["current"]["connected"] == false);
    installation.helix_at(1, &["nodes", "destroy", "n2", "--yes"]).ok();
    let words = ["wait", "env/production", "--for", "ready", "--timeout", "60s"];
    installation.helix_at(2, &words).ok();
    let listed =
        installation.helix_at(2, &["instances", "list", "--env", "production", "--json"]).ok();
    let items = listed.document()["items"].as_array().unwrap().clone();
    assert_eq!(items.len(), 4, "{items:#?}");
    installation.helix_at(2, &["nodes", "describe", "n2"]).code_is(4);
    every_replica_reaches_every_instance(installation);
}

/// The edge is linked to one of them; visitors are at it all the time.
fn every_replica_tells_what_goes_through_the_edge(installation: &Installation) {
    for index in 0..installation.replicas.len() {
        until("the visitors to be seen", || {
            let told = installation.helix_at(index, &["top", "--once", "--json"]).ok().document();
            let busy = told["items"][0]["per_second"].as_f64().unwrap_or_default() > 0.0;
            told["edges"] == 1 && busy
        });
    }
}

/// Each instance lives on one node, which is linked to one replica.
fn every_replica_reaches_every_instance(installation: &Installation) {
    for index in 0..installation.replicas.len() {
        let listed =
            installation.helix_at(index, &["instances", "list", "--env", "production", "--json"]);
        let listed = listed.ok().document();
        let ready: Vec<&str> = listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["current"]["phase"] == "ready")
            .filter_map(|it| it["name"].as_str())
            .collect();
        assert!(ready.len() >= 4, "{listed:#}");
        for instance in ready {
            let said = installation.helix_at(
                index,
                &["exec", instance, "--env", "production", "--", tool::PROGRAM, "say"],
            );
            assert_eq!(said.ok().stdout, "out\n", "{instance} at {index}");
            let exit = ["exec", instance, "--env", "production", "--", tool::PROGRAM, "exit", "7"];
            installation.helix_at(index, &exit).code_is(7);
            let logs = ["logs", "--instance", instance, "--env", "production"];
            let logs = installation.helix_at(index, &logs).ok();
            assert!(logs.stdout.contains("listening"), "{instance} at {index}: {}", logs.stdout);
        }
    }
}
