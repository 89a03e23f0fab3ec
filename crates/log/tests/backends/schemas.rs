//! Databases that earlier versions wrote, brought up to date with all that is in
//! them. A schema that was released keeps its fixture for ever; a new one gets its
//! own in the commit that makes it.

use std::time::Duration;

use helix_log::{
    Batch, EventLog, Leases, LogError, Position, PostgresLog, SealedRows, SqliteLog, Verification,
};
use sqlx::Connection;

use crate::world::{self, batch_of, meddle};

const SQLITE_2: &str = include_str!("../fixtures/sqlite-schema-2.sql");
const POSTGRES_1: &str = include_str!("../fixtures/postgres-schema-1.sql");

/// What every fixture from retention on holds, and that it can be gone on with.
async fn check(log: &dyn EventLog, leases: &dyn Leases, rows: &dyn SealedRows) {
    assert_eq!(log.start().await.unwrap().position, Position(3));
    let refused = log.read(Position(2), 1).await.unwrap_err();
    assert!(matches!(refused, LogError::Archived { .. }), "{refused}");
    let entries = log.read(Position(3), 100).await.unwrap();
    let text = |it: &helix_log::Entry| String::from_utf8(it.payload.to_vec()).unwrap();
    let expected: Vec<_> = (4..=12).map(|at| format!("{{\"event\":{at}}}")).collect();
    assert_eq!(entries.iter().map(text).collect::<Vec<_>>(), expected);
    assert_eq!(entries[0].at_ms, 1004);
    let head = log.head().await.unwrap();
    assert_eq!(head, entries[8].head());
    assert_eq!(log.verify().await.unwrap(), Verification::Intact(head));

    let receipt = log.receipt("alice/3").await.unwrap().unwrap();
    assert_eq!((receipt.body.as_slice(), receipt.position), (&b"answer 3"[..], Position(9)));
    assert_eq!((receipt.request_hash, receipt.at_ms), ([3; 32], 2003));
    assert_eq!(log.load_snapshot(1).await.unwrap().unwrap().bytes, b"state at 9");
    let row = rows.get("secret").await.unwrap().unwrap();
    assert_eq!((row.key.wrapped, row.ciphertext), (b"wrapped key".into(), b"ciphertext".into()));
    assert_eq!(row.key.key_id, "0123456789abcdef");

    // Epochs go on growing, or an old holder would not be fenced off.
    let ttl = Duration::from_secs(60);
    let lease = leases.acquire("retention", "replica-2", ttl).await.unwrap().unwrap();
    assert_eq!(lease.epoch, 3);
    let lease = leases.acquire("reconciler", "replica-1", ttl).await.unwrap().unwrap();
    assert_eq!(lease.epoch, 8);

    log.append(batch_of(12, 2)).await.unwrap();
    assert_eq!(log.prune(entries[4].head()).await.unwrap(), 5);
    let refused =
        log.append(Batch { receipts: vec![world::receipt("alice/3", 0)], ..batch_of(14, 1) });
    assert!(matches!(refused.await, Err(LogError::DuplicateReceipt { .. })));
    let Verification::Intact(head) = log.verify().await.unwrap() else { panic!("broken") };
    assert_eq!(head.position, Position(14));
}

#[tokio::test]
async fn a_sqlite_database_of_schema_2_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut written = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::Executor::execute(&mut written, SQLITE_2).await.unwrap();
    written.close().await.unwrap();
    let log = SqliteLog::open(directory.path()).await.unwrap();
    check(&log, &log.leases(std::sync::Arc::new(|| 1)), &log.sealed_rows()).await;
}

#[tokio::test]
async fn a_postgresql_database_of_schema_1_is_brought_up_to_date() {
    let Some(database) = world::database().await else { return };
    meddle(&database.url, POSTGRES_1).await.unwrap();
    let log = PostgresLog::connect(&database.url).await.unwrap();
    check(&log, &log.leases(), &log.sealed_rows()).await;
}
