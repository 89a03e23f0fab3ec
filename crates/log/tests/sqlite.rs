//! What only a log on disk can show: it outlives its process, guards its file,
//! and says which file is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use helix_log::{
    Batch, BreakReason, EventLog, LogError, NewEntry, Place, Position, Snapshot, SqliteLog,
    Verification,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

/// A data directory with a closed log of `count` events.
async fn directory_with_events(count: usize) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(directory.path()).await.unwrap();
    let entry = |at| NewEntry { at_ms: 5, payload: format!("event {at} {:500}", "").into_bytes() };
    let batch = Batch::of_entries(Position::ZERO, (0..count).map(entry).collect());
    log.append(batch).await.unwrap();
    log.close().await.unwrap();
    directory
}

fn database(directory: &TempDir) -> PathBuf {
    directory.path().join("log.db")
}

/// Somebody at a SQLite prompt.
async fn meddle(database: &Path, statements: &str) -> Result<(), sqlx::Error> {
    let mut prompt = SqliteConnectOptions::new().filename(database).connect().await?;
    let done = sqlx::raw_sql(statements).execute(&mut prompt).await.map(drop);
    prompt.close().await?;
    done
}

const DROP_GUARDS: &str = "DROP TRIGGER events_are_never_changed;
    DROP TRIGGER events_are_never_removed; DROP TRIGGER events_have_no_gaps;";

fn check_refused(directory: &TempDir, result: Result<SqliteLog, LogError>, expect: &Expect) {
    let error = result.unwrap_err();
    let root = directory.path().display().to_string();
    let text = format!("{error}\nhint: {}", error.hint().unwrap_or("none"));
    expect.assert_eq(&text.replace(&root, "DIR").replace(&std::process::id().to_string(), "PID"));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let directory = directory_with_events(300).await;
    let log = SqliteLog::open(directory.path()).await.unwrap();
    let head = log.head().await.unwrap();
    assert_eq!(head.position, Position(300));
    assert_eq!(log.verify().await.unwrap(), Verification::Intact(head));
    let snapshot = Snapshot { position: Position(300), format: 1, bytes: vec![1, 2, 3] };
    log.save_snapshot(snapshot.clone()).await.unwrap();
    log.close().await.unwrap();

    let log = SqliteLog::open(directory.path()).await.unwrap();
    assert_eq!(log.load_snapshot(1).await.unwrap(), Some(snapshot));
    let more = NewEntry { at_ms: 6, payload: b"more".to_vec() };
    log.append(Batch::of_entries(Position(300), vec![more])).await.unwrap();
    assert!(matches!(log.verify().await.unwrap(), Verification::Intact(_)));
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_it_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let first = SqliteLog::open(directory.path()).await.unwrap();
    check_refused(
        &directory,
        SqliteLog::open(directory.path()).await,
        &expect![[r#"
            could not lock DIR/log.lock: another process (pid PID) uses this data directory
            hint: stop the other process, or choose another directory with --data-dir"#]],
    );
    drop(first);
    SqliteLog::open(directory.path()).await.unwrap();
}

#[tokio::test]
async fn the_files_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state/log");
    let log = SqliteLog::open(&directory).await.unwrap();
    let entry = NewEntry { at_ms: 0, payload: b"x".to_vec() };
    log.append(Batch::of_entries(Position::ZERO, vec![entry])).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for name in ["log.db", "log.db-wal", "log.lock"] {
        assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let directory = directory_with_events(1).await;
    meddle(&database(&directory), "PRAGMA user_version = 99").await.unwrap();
    check_refused(
        &directory,
        SqliteLog::open(directory.path()).await,
        &expect![[r#"
            could not open DIR/log.db: its schema is version 99, this program knows up to 2
            hint: run the helix version that last used this data directory, or a newer one"#]],
    );
}

#[tokio::test]
async fn the_database_of_another_program_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::File::create(database(&directory)).unwrap();
    meddle(&database(&directory), "CREATE TABLE notes (text)").await.unwrap();
    check_refused(
        &directory,
        SqliteLog::open(directory.path()).await,
        &expect![[r#"
            could not open DIR/log.db: it is a database of another program
            hint: choose another directory with --data-dir"#]],
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let directory = directory_with_events(1).await;
    fs::write(database(&directory), "not a database, ".repeat(1024)).unwrap();
    check_refused(
        &directory,
        SqliteLog::open(directory.path()).await,
        &expect![[r#"
            DIR/log.db is damaged: could not open the database
            hint: keep a copy of the file, then restore the data directory from a backup"#]],
    );
}

#[tokio::test]
async fn a_missing_database_beside_its_write_ahead_log_is_not_started_afresh() {
    let directory = directory_with_events(1).await;
    fs::rename(database(&directory), directory.path().join("log.db-wal")).unwrap();
    check_refused(
        &directory,
        SqliteLog::open(directory.path()).await,
        &expect![[r#"
            DIR/log.db is damaged: it is missing, but its write-ahead log is there
            hint: keep a copy of the file, then restore the data directory from a backup"#]],
    );
}

/// Wherever the file is cut, nobody may take what is left for the whole log.
#[tokio::test]
async fn a_truncated_file_is_reported_and_never_taken_for_a_new_log() {
    let directory = directory_with_events(300).await;
    let whole = fs::read(database(&directory)).unwrap();
    let cuts = [0, 1, 50, 99, 100, 512, 4095, 4096, 4097, 8192, 50_000];
    for length in cuts.into_iter().chain([whole.len() - 4096, whole.len() - 1]) {
        fs::write(database(&directory), &whole[..length]).unwrap();
        let error = SqliteLog::open(directory.path()).await.err();
        let told = matches!(&error, Some(LogError::Corrupt { place: Place::File(path), .. }) if *path == database(&directory));
        assert!(told, "cut at {length}: {error:?}");
    }
    fs::write(database(&directory), &whole).unwrap();
    SqliteLog::open(directory.path()).await.unwrap();
}

/// Overwrites each page in turn, as a failing disk would.
#[tokio::test]
async fn a_damaged_page_never_passes_verification() {
    const PAGE_BYTES: usize = 4096;
    let directory = directory_with_events(40).await;
    let whole = fs::read(database(&directory)).unwrap();
    let mut found = 0;
    for page in 0..whole.len() / PAGE_BYTES {
        let mut damaged = whole.clone();
        damaged[page * PAGE_BYTES..][..PAGE_BYTES].fill(0x5a);
        fs::write(database(&directory), &damaged).unwrap();
        let outcome = match SqliteLog::open(directory.path()).await {
            Ok(log) => (log.verify().await, log.read(Position::ZERO, 1000).await),
            Err(LogError::Corrupt { .. }) => {
                found += 1;
                continue;
            }
            Err(other) => panic!("page {page}: {other:?}"),
        };
        match outcome {
            // Pages of empty tables (receipts, snapshot) hold no events.
            (Ok(Verification::Intact(head)), Ok(entries)) => {
                assert_eq!((head.position, entries.len()), (Position(40), 40), "page {page}");
            }
            (Ok(Verification::Broken(_)) | Err(LogError::Corrupt { .. }), _) => found += 1,
            other => panic!("page {page}: {other:?}"),
        }
    }
    assert!(found >= 6, "only {found} damaged pages found");
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_events() {
    let directory = directory_with_events(3).await;
    let refusals = [
        ("UPDATE events SET payload = x'00' WHERE position = 2", "events are never changed"),
        ("DELETE FROM events WHERE position = 3", "events are never removed"),
        ("INSERT INTO events VALUES (9, 0, x'', zeroblob(32))", "without gaps"),
        ("INSERT OR REPLACE INTO events VALUES (2, 0, x'', zeroblob(32))", "without gaps"),
    ];
    for (statement, reason) in refusals {
        let error = meddle(&database(&directory), statement).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{statement}: {error}");
    }
    let log = SqliteLog::open(directory.path()).await.unwrap();
    assert!(matches!(log.verify().await.unwrap(), Verification::Intact(_)));
}

#[tokio::test]
async fn verification_names_the_first_entry_that_was_tampered_with() {
    let cases = [
        ("UPDATE events SET payload = x'00' WHERE position = 2", 2, BreakReason::HashMismatch),
        ("UPDATE events SET at_ms = 0 WHERE position >= 3", 3, BreakReason::HashMismatch),
        ("UPDATE events SET hash = zeroblob(32) WHERE position = 5", 5, BreakReason::HashMismatch),
        (
            "DELETE FROM events WHERE position IN (3, 4)",
            3,
            BreakReason::Missing { found: Position(5) },
        ),
    ];
    for (statement, position, reason) in cases {
        let directory = directory_with_events(5).await;
        meddle(&database(&directory), &format!("{DROP_GUARDS} {statement}")).await.unwrap();
        let log = SqliteLog::open(directory.path()).await.unwrap();
        let Verification::Broken(broken) = log.verify().await.unwrap() else {
            panic!("not found: {statement}")
        };
        assert_eq!((broken.position, broken.reason), (Position(position), reason), "{statement}");
    }
}

#[tokio::test]
async fn a_gap_is_an_error_to_readers() {
    let directory = directory_with_events(5).await;
    let statement = format!("{DROP_GUARDS} DELETE FROM events WHERE position = 2");
    meddle(&database(&directory), &statement).await.unwrap();
    let log = SqliteLog::open(directory.path()).await.unwrap();
    let error = log.read(Position::ZERO, 10).await.unwrap_err();
    assert!(error.to_string().ends_with("log.db is damaged: entry 2 is missing"), "{error}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_passed_over() {
    let directory = directory_with_events(1).await;
    let log = SqliteLog::open(directory.path()).await.unwrap();
    let snapshot = Snapshot { position: Position(1), format: 1, bytes: vec![1, 2, 3] };
    log.save_snapshot(snapshot).await.unwrap();
    log.close().await.unwrap();
    meddle(&database(&directory), "UPDATE snapshot SET bytes = x'010204'").await.unwrap();
    let log = SqliteLog::open(directory.path()).await.unwrap();
    assert_eq!(log.load_snapshot(1).await.unwrap(), None);
}

/// A start that was killed before the new database had its name.
#[tokio::test]
async fn a_half_created_database_is_started_over() {
    let directory = tempfile::tempdir().unwrap();
    for leftover in ["log.db.new", "log.db.new-wal", "log.db.new-shm"] {
        fs::write(directory.path().join(leftover), "half").unwrap();
    }
    let log = SqliteLog::open(directory.path()).await.unwrap();
    assert_eq!(log.head().await.unwrap().position, Position::ZERO);
    assert!(!directory.path().join("log.db.new").exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let error = SqliteLog::open(file.join("log")).await.unwrap_err();
    assert!(matches!(error, LogError::File { action: "create", .. }), "{error:?}");
}

/// The journal mode is kept in the file, so a prompt can see it.
#[tokio::test]
async fn the_file_uses_a_write_ahead_log() {
    let directory = directory_with_events(1).await;
    let options = SqliteConnectOptions::new().filename(database(&directory));
    let mut prompt = SqliteConnection::connect_with(&options).await.unwrap();
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut prompt).await.unwrap();
    assert_eq!(mode, "wal");
}

/// A database written by the program that knew schema 1: twelve events in four
/// batches with a receipt each, and a snapshot.
const SCHEMA_1: &[u8] = include_bytes!("fixtures/sqlite-schema-1.db");

#[tokio::test]
async fn a_database_of_schema_1_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(database(&directory), SCHEMA_1).unwrap();
    let log = SqliteLog::open(directory.path()).await.unwrap();

    let entries = log.read(Position::ZERO, 100).await.unwrap();
    let text = |it: &helix_log::Entry| String::from_utf8(it.payload.to_vec()).unwrap();
    let expected: Vec<_> = (1..=12).map(|at| format!("{{\"event\":{at}}}")).collect();
    assert_eq!(entries.iter().map(text).collect::<Vec<_>>(), expected);
    let head = log.head().await.unwrap();
    assert_eq!((head.position, &head.hash[..4]), (Position(12), &[95, 189, 61, 64][..]));
    assert_eq!(log.verify().await.unwrap(), Verification::Intact(head));
    assert_eq!(log.receipt("alice/3").await.unwrap().unwrap().body, b"answer 3");
    assert_eq!(log.load_snapshot(1).await.unwrap().unwrap().bytes, b"state at 9");

    // What schema 2 brings works on it.
    assert_eq!(log.prune(entries[4].head()).await.unwrap(), 5);
    let next = NewEntry { at_ms: 0, payload: b"new".to_vec() };
    log.append(Batch::of_entries(Position(12), vec![next])).await.unwrap();
    log.close().await.unwrap();
    let log = SqliteLog::open(directory.path()).await.unwrap();
    assert_eq!(log.start().await.unwrap(), entries[4].head());
    assert!(
        matches!(log.verify().await.unwrap(), Verification::Intact(it) if it.position == Position(13))
    );
}

#[tokio::test]
async fn the_start_moves_only_for_who_knows_the_chain() {
    let directory = directory_with_events(3).await;
    let refusals = [
        ("UPDATE start SET position = 2, hash = zeroblob(32)", "moves only forward"),
        ("UPDATE start SET position = 0", "moves only forward"),
        ("INSERT OR REPLACE INTO start VALUES (1, 3, zeroblob(32))", "is one row"),
        ("DELETE FROM start", "never removed"),
    ];
    for (statement, reason) in refusals {
        let error = meddle(&database(&directory), statement).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{statement}: {error}");
    }
}
