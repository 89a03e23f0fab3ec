//! PostgreSQL killed with -9 and restarted while replicas append: no
//! acknowledged write is lost, none is there twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use helix_log::{
    Batch, Entry, EventLog, LogError, NewEntry, NewReceipt, Position, PostgresLog, Verification,
};

use crate::world::Cluster;

const WRITERS: u64 = 4;
const KILLS: u32 = 3;

/// Appends, by all writers together, between two kills.
const APPENDS_PER_ROUND: u64 = 60;

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Progress {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    is_over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_9_of_the_server_under_load_loses_and_doubles_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    let url = cluster.create_database();
    let progress = Arc::new(Progress::default());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let log = PostgresLog::connect(&url).await.unwrap();
        let progress = Arc::clone(&progress);
        writers.spawn(async move { write(writer, &log, &progress).await });
    }
    for round in 1..=KILLS {
        wait_for(&progress, u64::from(round) * APPENDS_PER_ROUND).await;
        cluster.kill();
        tokio::task::block_in_place(|| cluster.restart());
    }
    wait_for(&progress, u64::from(KILLS + 1) * APPENDS_PER_ROUND).await;
    progress.is_over.store(true, Ordering::Relaxed);
    let acknowledged: HashMap<String, Position> =
        writers.join_all().await.into_iter().flatten().collect();

    let log = PostgresLog::connect(&url).await.unwrap();
    let head = log.head().await.unwrap();
    assert_eq!(log.verify().await.unwrap(), Verification::Intact(head));
    check(&read_all(&log).await, &acknowledged);
    println!("{} appends, {:?} of unknown outcome", acknowledged.len(), progress.unknown);
}

async fn wait_for(progress: &Progress, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while progress.acknowledged.load(Ordering::Relaxed) < count {
        assert!(Instant::now() < deadline, "the writers do not get on");
        tokio::task::yield_now().await;
    }
}

/// Appends one batch after another; returns where each was acknowledged to be.
async fn write(writer: u64, log: &PostgresLog, progress: &Progress) -> Vec<(String, Position)> {
    let mut acknowledged = Vec::new();
    for number in 0_u64.. {
        if progress.is_over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{writer}/{number}");
        let position = append(&key, 1 + number % 5, log, progress).await;
        progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        acknowledged.push((key, position));
    }
    acknowledged
}

/// As a server would: reads the head again when it lost, tries again with the
/// same key when it does not know.
async fn append(key: &str, size: u64, log: &PostgresLog, progress: &Progress) -> Position {
    loop {
        let Ok(head) = log.head().await else { continue };
        let entry =
            |index| NewEntry { at_ms: 0, payload: format!("{key} {index}/{size}").into_bytes() };
        let receipt =
            NewReceipt { key: key.to_owned(), request_hash: [0; 32], body: Vec::new(), at_ms: 0 };
        let batch = Batch {
            expected: head.position,
            entries: (1..=size).map(entry).collect(),
            receipts: vec![receipt],
        };
        match log.append(batch).await {
            Ok(entries) => return entries.last().unwrap().position,
            Err(LogError::Stale { .. } | LogError::Unreachable { .. }) => {}
            Err(LogError::OutcomeUnknown { .. }) => {
                progress.unknown.fetch_add(1, Ordering::Relaxed);
            }
            Err(LogError::DuplicateReceipt { .. }) => {
                if let Ok(Some(receipt)) = log.receipt(key).await {
                    return receipt.position;
                }
            }
            Err(other) => panic!("{other}: {other:?}"),
        }
    }
}

async fn read_all(log: &PostgresLog) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map_or(Position::ZERO, |it| it.position);
        let page = log.read(after, usize::MAX).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Each batch is there whole, in one piece, once, where its writer was told; and
/// nothing else is.
fn check(entries: &[Entry], acknowledged: &HashMap<String, Position>) {
    let mut found = HashMap::new();
    for (entry, expected) in entries.iter().zip(1..) {
        assert_eq!(entry.position, Position(expected));
        let text = String::from_utf8(entry.payload.to_vec()).unwrap();
        let (key, part) = text.split_once(' ').unwrap();
        let (index, size): (u64, u64) =
            part.split_once('/').map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap();
        let told = acknowledged.get(key).unwrap_or_else(|| panic!("{key} was not acknowledged"));
        assert_eq!(told.0, entry.position.0 + size - index, "{key} {part}");
        *found.entry(key.to_owned()).or_insert(0) += 1;
        assert!(index <= size && found[key] == index, "{key} {part} out of place");
    }
    assert_eq!(found.len(), acknowledged.len());
}
