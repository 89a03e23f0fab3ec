//! What every backend of the log promises, run against each of them.
//!
//! Add a backend to [`for_each_backend`] and it has to pass all of this.

use std::future::Future;
use std::sync::Arc;

use expect_test::{Expect, expect};
use helix_log::{
    BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, Batch, Entry, EventLog, GENESIS_HASH, Head, LogError,
    MemoryLog, NewEntry, PAYLOAD_MAX_BYTES, Position, PostgresLog, READ_MAX_BYTES,
    READ_MAX_ENTRIES, Snapshot, SqliteLog, Verification, entry_hash,
};

use crate::world::{self, events, receipt};

async fn for_each_backend<F>(body: impl Fn(Arc<dyn EventLog>) -> F)
where
    F: Future<Output = ()>,
{
    body(Arc::new(MemoryLog::new())).await;
    let directory = tempfile::tempdir().unwrap();
    body(Arc::new(SqliteLog::open(directory.path()).await.unwrap())).await;
    if let Some(database) = world::database().await {
        body(Arc::new(PostgresLog::connect(&database.url).await.unwrap())).await;
    }
}

async fn append(log: &dyn EventLog, expected: u64, payloads: &[&str]) -> Vec<Entry> {
    let batch = Batch::of_entries(Position(expected), events(payloads));
    log.append(batch).await.unwrap()
}

fn check(entries: &[Entry], expect: &Expect) {
    let mut text = String::new();
    for it in entries {
        let payload = String::from_utf8_lossy(&it.payload);
        let hash: String = it.hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{} at {} {payload} {hash}\n", it.position, it.at_ms);
    }
    expect.assert_eq(&text);
}

fn check_refused<T: std::fmt::Debug>(result: Result<T, LogError>, expect: &Expect) {
    expect.assert_eq(&result.unwrap_err().to_string());
}

#[tokio::test]
async fn an_empty_log_has_position_zero_and_the_genesis_hash() {
    for_each_backend(|log| async move {
        assert_eq!(log.head().await.unwrap(), Head::EMPTY);
        assert_eq!(Head::EMPTY, Head { position: Position(0), hash: GENESIS_HASH });
        assert!(log.read(Position::ZERO, 10).await.unwrap().is_empty());
        assert_eq!(log.verify().await.unwrap(), Verification::Intact(Head::EMPTY));
        assert_eq!(log.load_snapshot(1).await.unwrap(), None);
        assert_eq!(log.receipt("none").await.unwrap(), None);
    })
    .await;
}

/// The hashes are part of the format: a change here breaks every existing log.
#[tokio::test]
async fn appended_entries_are_read_back_in_order() {
    for_each_backend(|log| async move {
        let first = append(&*log, 0, &["created", "renamed"]).await;
        let second = append(&*log, 2, &["removed"]).await;
        let all = log.read(Position::ZERO, 10).await.unwrap();
        check(
            &all,
            &expect![[r#"
                1 at 1000 created 111a6d8e
                2 at 1001 renamed 6cccc1f3
                3 at 1000 removed a290c7be
            "#]],
        );
        assert_eq!(all, [first, second].concat());
        assert_eq!(log.read(Position(2), 10).await.unwrap(), all[2..]);
        assert_eq!(log.read(Position(0), 2).await.unwrap(), all[..2]);
        assert!(log.read(Position(3), 10).await.unwrap().is_empty());
        assert!(log.read(Position(u64::MAX), 10).await.unwrap().is_empty());
        assert_eq!(log.head().await.unwrap(), all[2].head());
        assert_eq!(log.verify().await.unwrap(), Verification::Intact(all[2].head()));
    })
    .await;
}

#[tokio::test]
async fn each_hash_covers_its_predecessor() {
    for_each_backend(|log| async move {
        let entries = append(&*log, 0, &["a", "b"]).await;
        let first = entry_hash(&GENESIS_HASH, Position(1), 1_000, b"a");
        assert_eq!(entries[0].hash, first);
        assert_eq!(entries[1].hash, entry_hash(&first, Position(2), 1_001, b"b"));
    })
    .await;
}

#[tokio::test]
async fn an_append_against_another_head_is_refused() {
    for_each_backend(|log| async move {
        append(&*log, 0, &["a"]).await;
        for expected in [0, 2] {
            let batch = Batch::of_entries(Position(expected), events(&["b"]));
            let refused = log.append(batch).await.unwrap_err();
            let LogError::Stale { expected: told, actual } = refused else { panic!("{refused}") };
            assert_eq!((told, actual), (Position(expected), Position(1)));
        }
        assert_eq!(log.head().await.unwrap().position, Position(1));
    })
    .await;
}

#[tokio::test]
async fn of_racing_writers_exactly_one_wins() {
    for_each_backend(|log| async move {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let log = Arc::clone(&log);
            let payload = writer.to_string();
            writers.spawn(async move {
                let batch = Batch::of_entries(Position::ZERO, events(&[payload.as_str()]));
                log.append(batch).await
            });
        }
        let won = writers.join_all().await.iter().filter(|it| it.is_ok()).count();
        assert_eq!(won, 1);
        assert_eq!(log.head().await.unwrap().position, Position(1));
    })
    .await;
}

#[tokio::test]
async fn limits_refuse_before_anything_is_written() {
    for_each_backend(|log| async move {
        let of_size = |bytes| NewEntry { at_ms: 0, payload: vec![b' '; bytes] };
        let batch = |entries| Batch::of_entries(Position::ZERO, entries);

        check_refused(
            log.append(batch(vec![of_size(0), of_size(PAYLOAD_MAX_BYTES + 1)])).await,
            &expect!["append refused: a payload of 1048577 bytes exceeds the limit of 1048576"],
        );
        check_refused(
            log.append(batch(vec![of_size(0); BATCH_MAX_ENTRIES + 1])).await,
            &expect!["append refused: a batch of 10001 items exceeds the limit of 10000"],
        );
        let too_many = BATCH_MAX_BYTES / PAYLOAD_MAX_BYTES + 1;
        check_refused(
            log.append(batch(vec![of_size(PAYLOAD_MAX_BYTES); too_many])).await,
            &expect!["append refused: a batch of 68157440 bytes exceeds the limit of 67108864"],
        );
        assert_eq!(log.head().await.unwrap(), Head::EMPTY);

        log.append(batch(vec![of_size(PAYLOAD_MAX_BYTES), of_size(0)])).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn pages_are_limited_in_entries_and_in_bytes() {
    for_each_backend(|log| async move {
        let many = vec![NewEntry { at_ms: 0, payload: Vec::new() }; READ_MAX_ENTRIES + 1];
        log.append(Batch::of_entries(Position::ZERO, many)).await.unwrap();
        let page = log.read(Position::ZERO, usize::MAX).await.unwrap();
        assert_eq!(page.len(), READ_MAX_ENTRIES);

        let head = log.head().await.unwrap().position;
        let large = vec![NewEntry { at_ms: 0, payload: vec![0; PAYLOAD_MAX_BYTES] }; 10];
        log.append(Batch::of_entries(head, large)).await.unwrap();
        let page = log.read(head, usize::MAX).await.unwrap();
        assert_eq!(page.len(), READ_MAX_BYTES / PAYLOAD_MAX_BYTES);
        assert!(matches!(log.verify().await.unwrap(), Verification::Intact(_)));
    })
    .await;
}

#[tokio::test]
async fn a_receipt_is_written_with_its_batch_and_found_by_key() {
    for_each_backend(|log| async move {
        let batch = Batch {
            expected: Position::ZERO,
            entries: events(&["a", "b"]),
            receipts: vec![receipt("alice/1", 50)],
        };
        log.append(batch).await.unwrap();
        let stored = log.receipt("alice/1").await.unwrap().unwrap();
        assert_eq!(
            (stored.position, stored.request_hash, stored.body.as_slice(), stored.at_ms),
            (Position(2), [7; 32], b"answer".as_slice(), 50)
        );
        assert_eq!(log.receipt("bob/1").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn receipts_under_many_keys_are_found_in_one_go() {
    for_each_backend(|log| async move {
        let written: Vec<String> = (0..100).map(|number| format!("written/{number}")).collect();
        let receipts = written.iter().map(|key| receipt(key, 50)).collect();
        let batch = Batch { expected: Position::ZERO, entries: events(&["a"]), receipts };
        log.append(batch).await.unwrap();
        let unknown = (0..100).map(|number| format!("unknown/{number}"));
        let asked: Vec<String> = written.iter().cloned().chain(unknown).collect();
        let mut found = log.receipts_under(&asked).await.unwrap();
        found.sort_by(|one, other| one.key.cmp(&other.key));
        let mut expected = written.clone();
        expected.sort();
        assert_eq!(found.iter().map(|it| &it.key).collect::<Vec<_>>(), Vec::from_iter(&expected));
        assert_eq!(Some(&found[0]), log.receipt(&expected[0]).await.unwrap().as_ref());
        assert_eq!(log.receipts_under(&[]).await.unwrap(), Vec::new());
    })
    .await;
}

#[tokio::test]
async fn a_taken_key_refuses_the_batch_whole() {
    for_each_backend(|log| async move {
        let batch = |expected, keys: &[&str]| Batch {
            expected: Position(expected),
            entries: events(&["a"]),
            receipts: keys.iter().map(|it| receipt(it, 0)).collect(),
        };
        log.append(batch(0, &["one"])).await.unwrap();
        for keys in [["two", "one"], ["two", "two"]] {
            let refused = log.append(batch(1, &keys)).await.unwrap_err();
            assert!(matches!(&refused, LogError::DuplicateReceipt { key } if key == keys[1]));
        }
        assert_eq!(log.head().await.unwrap().position, Position(1));
        assert_eq!(log.receipt("two").await.unwrap(), None);
        log.append(batch(1, &["two"])).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_command_without_effect_still_gets_a_receipt() {
    for_each_backend(|log| async move {
        append(&*log, 0, &["a"]).await;
        let receipts = vec![receipt("quiet", 0)];
        let batch = Batch { expected: Position(1), entries: Vec::new(), receipts };
        assert!(log.append(batch).await.unwrap().is_empty());
        let stored = log.receipt("quiet").await.unwrap().unwrap();
        assert_eq!(stored.position, Position(1));
        let stale = Batch::of_entries(Position::ZERO, Vec::new());
        assert!(matches!(log.append(stale).await, Err(LogError::Stale { .. })));
    })
    .await;
}

#[tokio::test]
async fn old_receipts_are_pruned_and_their_keys_free_again() {
    for_each_backend(|log| async move {
        let receipts = vec![receipt("old", 10), receipt("new", 20)];
        let batch = Batch { expected: Position::ZERO, entries: Vec::new(), receipts };
        log.append(batch).await.unwrap();
        assert_eq!(log.prune_receipts(20).await.unwrap(), 1);
        assert_eq!(log.prune_receipts(20).await.unwrap(), 0);
        assert_eq!(log.receipt("old").await.unwrap(), None);
        assert!(log.receipt("new").await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn only_the_newest_snapshot_is_kept() {
    for_each_backend(|log| async move {
        let snapshot = |position, format, text: &str| Snapshot {
            position: Position(position),
            format,
            bytes: text.as_bytes().to_vec(),
        };
        append(&*log, 0, &["a", "b"]).await;
        check_refused(
            log.save_snapshot(snapshot(3, 1, "future")).await,
            &expect!["snapshot of position 3 refused: the log is at position 2"],
        );
        log.save_snapshot(snapshot(2, 1, "second")).await.unwrap();
        log.save_snapshot(snapshot(1, 1, "first, late")).await.unwrap();
        assert_eq!(log.load_snapshot(1).await.unwrap(), Some(snapshot(2, 1, "second")));

        log.save_snapshot(snapshot(2, 2, "other encoding")).await.unwrap();
        assert_eq!(log.load_snapshot(1).await.unwrap(), None);
        assert_eq!(log.load_snapshot(2).await.unwrap(), Some(snapshot(2, 2, "other encoding")));
    })
    .await;
}

/// A future that is polled for a while and then dropped stands for a request
/// whose client went away.
#[tokio::test]
async fn a_cancelled_append_happens_whole_or_not_at_all() {
    for_each_backend(|log| async move {
        for polls in 0..40 {
            let before = log.head().await.unwrap().position;
            let batch = Batch::of_entries(before, events(&["x"; 100]));
            let mut append = log.append(batch);
            for _ in 0..polls {
                if futures::poll!(&mut append).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
                std::thread::yield_now();
            }
            drop(append);
            // Whatever was cancelled, a writer that reads the head can go on.
            loop {
                let head = log.head().await.unwrap().position;
                match log.append(Batch::of_entries(head, events(&["y"]))).await {
                    Ok(_) => break,
                    Err(LogError::Stale { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            let grown = log.head().await.unwrap().position.0 - before.0;
            assert!(grown == 1 || grown == 101, "{grown} entries after a cancelled append of 100");
        }
        assert!(matches!(log.verify().await.unwrap(), Verification::Intact(_)));
    })
    .await;
}

#[tokio::test]
async fn whoever_watches_hears_of_appends() {
    for_each_backend(|log| async move {
        let mut newest = log.watch();
        append(&*log, 0, &["a", "b"]).await;
        newest.wait_for(|it| *it == Position(2)).await.unwrap();
        assert_eq!(*log.watch().borrow(), Position(2));
    })
    .await;
}

#[tokio::test]
async fn pruned_entries_are_gone_and_the_chain_goes_on() {
    for_each_backend(|log| async move {
        let entries = append(&*log, 0, &["a", "b", "c"]).await;
        assert_eq!(log.start().await.unwrap(), Head::EMPTY);
        assert_eq!(log.prune(entries[1].head()).await.unwrap(), 2);
        assert_eq!(log.prune(entries[1].head()).await.unwrap(), 0);
        assert_eq!(log.prune(entries[0].head()).await.unwrap(), 0);
        assert_eq!(log.start().await.unwrap(), entries[1].head());
        check_refused(
            log.read(Position(1), 10).await,
            &expect!["could not read after position 1: entries up to 2 are in the archive"],
        );
        assert_eq!(log.read(Position(2), 10).await.unwrap(), entries[2..]);
        append(&*log, 3, &["d"]).await;
        let head = log.head().await.unwrap();
        assert_eq!(log.verify().await.unwrap(), Verification::Intact(head));

        assert_eq!(log.prune(head).await.unwrap(), 2);
        assert_eq!(log.head().await.unwrap(), head);
        assert_eq!(log.verify().await.unwrap(), Verification::Intact(head));
        assert!(log.read(Position(4), 10).await.unwrap().is_empty());
        let next = append(&*log, 4, &["e"]).await;
        assert_eq!(next[0].hash, entry_hash(&head.hash, Position(5), 1_000, b"e"));
    })
    .await;
}

#[tokio::test]
async fn only_who_knows_the_chain_can_prune() {
    for_each_backend(|log| async move {
        append(&*log, 0, &["a", "b"]).await;
        for position in [Position(1), Position(3)] {
            let through = Head { position, hash: [9; 32] };
            let refused = log.prune(through).await.unwrap_err();
            assert!(
                matches!(refused, LogError::PruneMismatch { position: told } if told == position)
            );
        }
        assert_eq!(log.read(Position::ZERO, 10).await.unwrap().len(), 2);
    })
    .await;
}

/// What makes it possible to grow from one backend to another.
#[tokio::test]
async fn the_same_entries_come_to_the_same_head_everywhere() {
    let heads = std::sync::Mutex::new(Vec::new());
    for_each_backend(|log| {
        let heads = &heads;
        async move {
            append(&*log, 0, &["a", "b"]).await;
            append(&*log, 2, &["", "\u{0}binary\u{ff}"]).await;
            let head = log.head().await.unwrap();
            heads.lock().unwrap().push(head);
        }
    })
    .await;
    let mut heads = heads.into_inner().unwrap();
    heads.dedup();
    assert_eq!(heads.len(), 1, "{heads:?}");
}

#[tokio::test]
async fn receipts_are_listed_by_their_keys_in_pages() {
    for_each_backend(|log| async move {
        let keys = ["Zoe:1", "admin:a-1", "admin:a_2", "admin:B", "\u{e4}:1"];
        let receipts = keys.iter().map(|key| receipt(key, 5)).collect();
        log.append(Batch { receipts, ..Batch::default() }).await.unwrap();
        let mut sorted = keys;
        sorted.sort_unstable();
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = log.receipts(&after, 2).await.unwrap();
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            found.extend(page);
        }
        assert_eq!(found.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), sorted);
        assert_eq!(found[0], log.receipt(sorted[0]).await.unwrap().unwrap());
    })
    .await;
}
