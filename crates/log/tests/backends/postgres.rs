//! What only a log on a server can show: replicas share it, guard it, and hear
//! of each other.

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use helix_log::{
    Batch, BreakReason, EventLog, Head, LogError, Position, PostgresLog, PostgresSchema,
    Verification,
};
use sqlx::{Connection, Executor};
use tokio::time::timeout;

use crate::world::{self, Cluster, Database, batch_of, events, meddle, receipt};

/// For what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

const DROP_GUARDS: &str = "ALTER TABLE helix.events DISABLE TRIGGER USER;
    ALTER TABLE helix.log DISABLE TRIGGER USER;";

async fn database_with_events(count: u64) -> Option<(Database, PostgresLog)> {
    let database = world::database().await?;
    let log = PostgresLog::connect(&database.url).await.unwrap();
    log.append(batch_of(0, count)).await.unwrap();
    Some((database, log))
}

async fn check_refused(database: &Database, expect: &Expect) {
    let error = PostgresLog::connect(&database.url).await.unwrap_err();
    let text = format!("{error}\nhint: {}", error.hint().unwrap_or("none"));
    let (before, after) = text.split_once("PostgreSQL database test").unwrap();
    let (_, after) = after.split_once(":5432").unwrap();
    expect.assert_eq(&format!("{before}DATABASE{after}"));
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_schema() {
    let Some(database) = world::database().await else { return };
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let url = database.url.clone();
        starting.spawn(async move { PostgresLog::connect(&url).await });
    }
    let logs: Vec<_> = starting.join_all().await.into_iter().map(Result::unwrap).collect();
    logs[0].append(batch_of(0, 1)).await.unwrap();
    for log in &logs {
        assert_eq!(log.head().await.unwrap().position, Position(1));
    }
}

#[tokio::test]
async fn everything_is_there_for_the_next_to_connect() {
    let Some((database, log)) = database_with_events(300).await else { return };
    let head = log.head().await.unwrap();
    log.close().await;
    let log = PostgresLog::connect(&database.url).await.unwrap();
    assert_eq!(log.head().await.unwrap(), head);
    assert_eq!(log.verify().await.unwrap(), Verification::Intact(head));
    log.append(batch_of(300, 1)).await.unwrap();
}

#[tokio::test]
async fn two_logs_in_one_database_do_not_meet() {
    let Some((database, log)) = database_with_events(2).await else { return };
    let audit = PostgresLog::connect_to(&database.url, PostgresSchema::AUDIT).await.unwrap();
    assert_eq!(audit.head().await.unwrap(), Head::EMPTY);
    let (mut events_heard, mut audit_heard) = (log.watch(), audit.watch());
    audit.append(batch_of(0, 3)).await.unwrap();
    log.append(batch_of(2, 5)).await.unwrap();
    timeout(PATIENCE, audit_heard.wait_for(|it| it.0 == 3)).await.unwrap().unwrap();
    timeout(PATIENCE, events_heard.wait_for(|it| it.0 == 7)).await.unwrap().unwrap();
    for (log, position) in [(&log, 7), (&audit, 3)] {
        let Verification::Intact(head) = log.verify().await.unwrap() else { panic!("broken") };
        assert_eq!(head.position, Position(position));
    }
    // Whichever of them came first, and guarded like the other.
    let refused = meddle(&database.url, "DELETE FROM helix_audit.events WHERE position = 2").await;
    assert!(refused.unwrap_err().to_string().contains("never removed"));
    let Some(database) = world::database().await else { return };
    PostgresLog::connect_to(&database.url, PostgresSchema::AUDIT).await.unwrap();
    PostgresLog::connect(&database.url).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let Some((database, _log)) = database_with_events(1).await else { return };
    meddle(&database.url, "UPDATE helix.installation SET schema_version = 99").await.unwrap();
    check_refused(
        &database,
        &expect![[r#"
            could not open DATABASE: its schema is version 99, this program knows up to 1
            hint: run the helix version that last used this database, or a newer one"#]],
    )
    .await;
}

#[tokio::test]
async fn the_database_of_another_program_is_left_alone() {
    for statement in [
        "CREATE TABLE notes (text text)",
        "CREATE SCHEMA helix; CREATE TABLE helix.installation (name text)",
        "CREATE SCHEMA helix; CREATE TABLE helix.installation
             AS SELECT 'notes' AS application, 1::bigint AS schema_version",
    ] {
        let Some(database) = world::database().await else { return };
        meddle(&database.url, statement).await.unwrap();
        check_refused(
            &database,
            &expect![[r#"
                could not open DATABASE: it is a database of another program
                hint: create an empty database for helix and name it with --database-url"#]],
        )
        .await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let url = "postgres://helix:hunter2@127.0.0.1:1/helix";
    let error = PostgresLog::connect(url).await.unwrap_err();
    assert_eq!(error.to_string(), "could not connect to PostgreSQL database helix on 127.0.0.1:1");
    assert!(!format!("{error:?}").contains("hunter2"));
    let error = PostgresLog::connect("postgres://helix:hunter2@[/helix").await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_events() {
    let Some((database, log)) = database_with_events(3).await else { return };
    let hash = "decode(repeat('00', 32), 'hex')";
    let refusals = [
        ("UPDATE helix.events SET payload = '' WHERE position = 2", "never changed"),
        ("DELETE FROM helix.events WHERE position = 3", "never removed"),
        ("DELETE FROM helix.events WHERE position = 1", "never removed"),
        ("TRUNCATE helix.events", "never removed"),
        (&format!("INSERT INTO helix.events VALUES (9, 0, '', {hash})"), "without gaps"),
        (&format!("INSERT INTO helix.events VALUES (4, 0, '', {hash})"), "without gaps"),
        (
            &format!("UPDATE helix.log SET start_position = 2, start_hash = {hash}"),
            "moves only forward, onto an event",
        ),
        ("UPDATE helix.log SET position = 2", "never moves back"),
        ("DELETE FROM helix.log", "one row"),
    ];
    for (statement, reason) in refusals {
        let error = meddle(&database.url, statement).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{statement}: {error}");
    }
    assert!(matches!(log.verify().await.unwrap(), Verification::Intact(_)));
}

#[tokio::test]
async fn verification_names_the_first_entry_that_was_tampered_with() {
    let missing = |found| BreakReason::Missing { found: Position(found) };
    let cases = [
        ("UPDATE helix.events SET payload = '' WHERE position = 2", 2, BreakReason::HashMismatch),
        ("UPDATE helix.events SET at_ms = 0 WHERE position >= 3", 3, BreakReason::HashMismatch),
        ("DELETE FROM helix.events WHERE position IN (3, 4)", 3, missing(5)),
        // The head stands apart from the entries, so a cut-off end shows.
        ("DELETE FROM helix.events WHERE position > 3", 4, missing(5)),
    ];
    for (statement, position, reason) in cases {
        let Some((database, log)) = database_with_events(5).await else { return };
        meddle(&database.url, &format!("{DROP_GUARDS} {statement}")).await.unwrap();
        let Verification::Broken(broken) = log.verify().await.unwrap() else {
            panic!("not found: {statement}")
        };
        assert_eq!((broken.position, broken.reason), (Position(position), reason), "{statement}");
    }
}

#[tokio::test]
async fn a_replica_hears_of_anothers_append() {
    let Some((database, log)) = database_with_events(1).await else { return };
    let replica = PostgresLog::connect(&database.url).await.unwrap();
    let mut newest = replica.watch();
    assert_eq!(*newest.borrow(), Position(1));
    log.append(batch_of(1, 2)).await.unwrap();
    timeout(PATIENCE, newest.wait_for(|it| it.0 == 3)).await.unwrap().unwrap();
    // Its guess of the head is stale now, and it finds out.
    replica.append(batch_of(3, 1)).await.unwrap();
    assert!(matches!(log.append(batch_of(3, 1)).await, Err(LogError::Stale { .. })));
    log.append(batch_of(4, 1)).await.unwrap();
}

/// Polling alone would take twenty seconds for these.
#[tokio::test]
async fn notifications_come_faster_than_polls() {
    let Some((database, log)) = database_with_events(1).await else { return };
    let replica = PostgresLog::connect(&database.url).await.unwrap();
    let mut newest = replica.watch();
    let following = async {
        for position in 1..=40 {
            log.append(batch_of(position, 1)).await.unwrap();
            newest.wait_for(|it| it.0 == position + 1).await.unwrap();
        }
    };
    timeout(Duration::from_secs(15), following).await.expect("heard of by notification");
}

/// Written by hand, so that nothing notifies.
#[tokio::test]
async fn a_replica_hears_of_what_nobody_notified() {
    let Some((database, log)) = database_with_events(1).await else { return };
    let mut newest = log.watch();
    let by_hand =
        "BEGIN; UPDATE helix.log SET position = 2, hash = decode(repeat('11', 32), 'hex');
        INSERT INTO helix.events VALUES (2, 0, '', decode(repeat('11', 32), 'hex')); COMMIT";
    meddle(&database.url, by_hand).await.unwrap();
    timeout(PATIENCE, newest.wait_for(|it| it.0 == 2)).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_append_whose_connection_is_cut_says_that_it_does_not_know() {
    let Some((database, log)) = database_with_events(1).await else { return };
    let mut prompt = world::prompt(&database.url).await;
    let mut holding = prompt.begin().await.unwrap();
    holding.execute("SELECT * FROM helix.log FOR UPDATE").await.unwrap();

    let log = Arc::new(log);
    let appender = Arc::clone(&log);
    let batch = Batch { receipts: vec![receipt("r", 0)], ..batch_of(1, 1) };
    let again = batch.clone();
    let appending = tokio::spawn(async move { appender.append(batch).await });
    // Once the append waits for the lock, its connection is cut.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut other = world::prompt(&database.url).await;
    let cutting = async {
        loop {
            let count: i64 = sqlx::query_scalar(cut).fetch_one(&mut other).await.unwrap();
            if count > 0 {
                break;
            }
        }
    };
    timeout(PATIENCE, cutting).await.unwrap();
    let error = appending.await.unwrap().unwrap_err();
    assert!(matches!(error, LogError::OutcomeUnknown { .. }), "{error:?}");
    holding.rollback().await.unwrap();
    assert_eq!(log.head().await.unwrap().position, Position(1));
    log.append(again).await.unwrap();
}

/// The contract with whoever retries: the same key never writes twice.
#[tokio::test]
async fn a_repeated_append_is_refused_by_its_receipt_on_any_replica() {
    let Some((database, log)) = database_with_events(1).await else { return };
    let replica = PostgresLog::connect(&database.url).await.unwrap();
    let batch = |expected| Batch {
        expected: Position(expected),
        entries: events(&["x"]),
        receipts: vec![receipt("once", 0)],
    };
    log.append(batch(1)).await.unwrap();
    let refused = replica.append(batch(2)).await.unwrap_err();
    assert!(matches!(refused, LogError::DuplicateReceipt { key } if key == "once"));
    assert_eq!(replica.receipt("once").await.unwrap().unwrap().position, Position(2));
}

#[tokio::test]
async fn the_connection_can_be_encrypted_and_the_server_proved() {
    let Some(cluster) = Cluster::start_with_tls() else { return };
    cluster.create_database();
    let url = cluster.tls_url("test0");
    let certificate = cluster.certificate();
    let trusted = format!("{url}?sslmode=verify-full&sslrootcert={}", certificate.display());
    let log = PostgresLog::connect(&trusted).await.unwrap();
    log.append(batch_of(0, 1)).await.unwrap();
    let mut prompt = world::prompt(&trusted).await;
    let unencrypted: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'helix' AND NOT ssl",
    )
    .fetch_one(&mut prompt)
    .await
    .unwrap();
    assert_eq!(unencrypted, 0);

    // Nobody vouches for this certificate, and it is not for this address.
    for untrusted in
        [format!("{url}?sslmode=verify-full"), trusted.replace("localhost", "127.0.0.1")]
    {
        let error = PostgresLog::connect(&untrusted).await.unwrap_err();
        assert!(matches!(error, LogError::Unreachable { .. }), "{untrusted}: {error:?}");
    }
}
