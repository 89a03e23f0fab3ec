//! The engine alone, on a log in memory: snapshots, and two writers of one log.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::Arc;
use std::time::Duration;

use helix_log::{EventLog, MemoryLog, Snapshot};
use helix_model::state::SNAPSHOT_FORMAT;
use helix_model::{Actor, Command, Name, node, org};
use helix_server::{Engine, Origin, Writers};

fn origin() -> Origin {
    Origin {
        actor: Actor::System("test".to_owned()),
        request_id: "req_test".to_owned(),
        source: None,
        idempotency: None,
        precondition: None,
    }
}

fn connect(cpus: u32) -> Command {
    let facts = node::Facts {
        version: "0".to_owned(),
        cpus,
        memory_bytes: 1 << 30,
        isolation: "process".to_owned(),
        isolation_reason: "pretended".to_owned(),
        isolation_advice: None,
        volumes: None,
    };
    Command::ConnectNode(node::Connect { name: "here".parse().unwrap(), facts, replica: None })
}

async fn wait_snapshot(log: &MemoryLog) -> Snapshot {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(snapshot) = log.load_snapshot(SNAPSHOT_FORMAT).await.unwrap() {
            return snapshot;
        }
        assert!(tokio::time::Instant::now() < deadline, "no snapshot was kept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_start_from_a_snapshot_gives_the_same_state_as_one_from_the_log() {
    let log = Arc::new(MemoryLog::new());
    let engine = Engine::start(log.clone(), Writers::Many).await.unwrap();
    let submitted = (0..10_100).map(|turn| engine.submit(connect(turn), origin()));
    for receipt in futures::future::join_all(submitted).await {
        receipt.unwrap();
    }
    let snapshot = wait_snapshot(&log).await;
    assert!(snapshot.position.0 >= 10_000);

    let again = Engine::start(log.clone(), Writers::Many).await.unwrap();
    assert_eq!(again.state(), engine.state());
    assert_eq!(again.verify_state().await.unwrap(), (true, engine.state().position));

    // One of another version's form is none at all.
    let other = Snapshot { format: SNAPSHOT_FORMAT + 1, ..snapshot.clone() };
    log.save_snapshot(other).await.unwrap();
    let anew = Engine::start(log.clone(), Writers::One).await.unwrap();
    assert_eq!(anew.state(), engine.state());

    let damaged = Snapshot { bytes: b"{".to_vec(), ..snapshot };
    log.save_snapshot(damaged).await.unwrap();
    let anew = Engine::start(log, Writers::Many).await.unwrap();
    assert_eq!(anew.state(), engine.state());
}

#[tokio::test]
async fn two_writers_of_one_log_lose_and_double_nothing() {
    let log = Arc::new(MemoryLog::new());
    let one = Engine::start(log.clone(), Writers::Many).await.unwrap();
    let other = Engine::start(log.clone(), Writers::Many).await.unwrap();
    let create = |engine: &Engine, number: u32| {
        let name: Name = format!("org-{number}").parse().unwrap();
        let engine = engine.clone();
        async move { engine.submit(Command::CreateOrg(org::Create { name }), origin()).await }
    };
    let mut accepted = 0;
    for number in 0..200 {
        let (a, b) = tokio::join!(create(&one, number), create(&other, number));
        assert!(a.is_ok() != b.is_ok(), "one name, one owner");
        accepted += 1;
    }
    let fresh = Engine::start(log, Writers::Many).await.unwrap();
    assert_eq!(fresh.state().orgs.len(), accepted);
}

#[tokio::test]
async fn of_writers_on_several_replicas_who_saw_one_version_exactly_one_wins() {
    let log = Arc::new(MemoryLog::new());
    let first = Engine::start(log.clone(), Writers::Many).await.unwrap();
    first.submit(connect(1), origin()).await.unwrap();
    let replicas = [first, Engine::start(log.clone(), Writers::Many).await.unwrap()];
    for round in 0..6 {
        let newest = &replicas[round as usize % 2];
        newest.submit(connect(1000 + round), origin()).await.unwrap();
        let (id, seen) = newest.state().nodes.iter().next().map(|it| (it.id, it.version)).unwrap();
        let writers = (0..16).map(|writer: u32| {
            let expecting = Origin { precondition: Some((id.any(), seen)), ..origin() };
            let engine = &replicas[writer as usize % 2];
            engine.submit(connect(writer), expecting)
        });
        let answers = futures::future::join_all(writers).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "round {round}");
        let lost = answers.into_iter().filter_map(Result::err);
        lost.for_each(|problem| assert_eq!(problem.code, helix_model::Code::VersionConflict));
    }
}

#[tokio::test]
async fn an_engine_sees_what_another_appends_without_doing_anything() {
    let log = Arc::new(MemoryLog::new());
    let writes = Engine::start(log.clone(), Writers::Many).await.unwrap();
    let reads = Engine::start(log.clone(), Writers::Many).await.unwrap();
    for turn in 0..50 {
        let receipt = writes.submit(connect(turn), origin()).await.unwrap();
        assert!(reads.reached(receipt.position, Duration::from_secs(20)).await);
    }
    assert_eq!(reads.state(), writes.state());
}
