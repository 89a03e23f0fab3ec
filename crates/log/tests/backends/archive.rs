//! Retention: entries move to the archive whole, once, and stay readable.

use std::fs;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use helix_log::{
    ArchiveError, ArchiveStore, Archived, ArchivedLog, BreakReason, Cut, DirectoryArchive, Entry,
    EventLog, Head, LogError, MemoryLog, Position, PostgresLog, SegmentName, SqliteLog,
    Verification, archive,
};
use tempfile::TempDir;

use crate::world::{self, batch_of};

/// A live log of 25 events and an empty archive.
struct World {
    live: Arc<dyn EventLog>,
    all: Vec<Entry>,
    directory: TempDir,
    store: Arc<DirectoryArchive>,
}

impl World {
    async fn on(live: Arc<dyn EventLog>) -> World {
        live.append(batch_of(0, 25)).await.unwrap();
        let all = live.read(Position::ZERO, 100).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(DirectoryArchive::open(directory.path().join("archive")).unwrap());
        World { live, all, directory, store }
    }

    async fn archive(&self, cut: Cut) -> Archived {
        archive(&*self.live, cut, &*self.store, 4).await.unwrap()
    }

    fn whole(&self) -> ArchivedLog {
        ArchivedLog::new(Arc::clone(&self.live), Arc::clone(&self.store) as _)
    }

    /// Everything is there once, page by page of any size, and proved.
    async fn check(&self) {
        let whole = self.whole();
        for limit in [1, 3, 7, 1000] {
            assert_eq!(read_all(&whole, limit).await, self.all, "in pages of {limit}");
        }
        let head = self.all.last().unwrap().head();
        assert_eq!(whole.verify().await.unwrap(), Verification::Intact(head));
        assert_eq!(whole.start().await.unwrap(), Head::EMPTY);
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let listed = fs::read_dir(self.directory.path().join("archive")).unwrap();
        let mut files: Vec<_> = listed.map(|it| it.unwrap().path()).collect();
        files.sort();
        files
    }
}

async fn read_all(log: &dyn EventLog, limit: usize) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map_or(Position::ZERO, |it| it.position);
        let page = log.read(after, limit).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn for_each_backend<F: Future<Output = ()>>(body: impl Fn(World) -> F) {
    body(World::on(Arc::new(MemoryLog::new())).await).await;
    let directory = tempfile::tempdir().unwrap();
    body(World::on(Arc::new(SqliteLog::open(directory.path()).await.unwrap())).await).await;
    if let Some(database) = world::database().await {
        let log = PostgresLog::connect(&database.url).await.unwrap();
        body(World::on(Arc::new(log)).await).await;
    }
}

#[tokio::test]
async fn old_entries_move_to_the_archive_and_read_as_before() {
    for_each_backend(|world| async move {
        let archived = world.archive(Cut::Before(Position(15))).await;
        // 14 entries are old enough, 12 of them fill segments.
        assert_eq!(archived, Archived { segments: 3, entries: 12 });
        assert_eq!(world.live.start().await.unwrap(), world.all[11].head());
        world.check().await;
        assert_eq!(world.archive(Cut::Before(Position(15))).await, Archived::default());

        assert_eq!(world.archive(Cut::Before(Position(1000))).await.entries, 12);
        world.check().await;
        let names = world.store.list().await.unwrap();
        assert!(names.windows(2).all(|it| it[0].last.next() == it[1].first));
    })
    .await;
}

#[tokio::test]
async fn a_policy_in_time_stops_at_the_first_entry_young_enough() {
    for_each_backend(|world| async move {
        // Entry n happened at n milliseconds.
        assert_eq!(world.archive(Cut::OlderThan { at_ms: 9 }).await.entries, 8);
        assert_eq!(world.live.start().await.unwrap().position, Position(8));
        world.check().await;
    })
    .await;
}

#[tokio::test]
async fn the_log_goes_on_after_everything_was_archived() {
    for_each_backend(|mut world| async move {
        let archived = archive(&*world.live, Cut::Before(Position(99)), &*world.store, 25).await;
        assert_eq!(archived.unwrap().entries, 25);
        let added = world.whole().append(batch_of(25, 3)).await.unwrap();
        world.all.extend(added);
        world.check().await;
    })
    .await;
}

/// A store whose owner dies before or after a segment was written.
#[derive(Debug)]
struct Dying {
    store: Arc<DirectoryArchive>,
    writes_first: bool,
    is_dead: AtomicBool,
}

#[async_trait]
impl ArchiveStore for Dying {
    async fn put(&self, name: &SegmentName, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        if self.writes_first {
            self.store.put(name, bytes).await?;
        }
        self.is_dead.store(true, Ordering::Relaxed);
        Err(ArchiveError::Compress(std::io::ErrorKind::Interrupted.into()))
    }

    async fn get(&self, name: &SegmentName) -> Result<Vec<u8>, ArchiveError> {
        self.store.get(name).await
    }

    async fn list(&self) -> Result<Vec<SegmentName>, ArchiveError> {
        self.store.list().await
    }
}

#[tokio::test]
async fn a_crash_between_the_steps_loses_nothing_and_doubles_nothing() {
    for_each_backend(|world| async move {
        for writes_first in [false, true] {
            let store = Arc::clone(&world.store);
            let dying = Dying { store, writes_first, is_dead: AtomicBool::new(false) };
            archive(&*world.live, Cut::Before(Position(15)), &dying, 4).await.unwrap_err();
            assert!(dying.is_dead.into_inner());
            assert_eq!(world.live.start().await.unwrap(), Head::EMPTY);
            world.check().await;
        }
        // The segment is there and its entries are in the log too.
        assert_eq!(world.files().len(), 1);
        assert_eq!(world.archive(Cut::Before(Position(15))).await.entries, 12);
        assert_eq!(world.files().len(), 3);
        world.check().await;
    })
    .await;
}

#[tokio::test]
async fn a_damaged_segment_is_found_and_named() {
    let world = World::on(Arc::new(MemoryLog::new())).await;
    world.archive(Cut::Before(Position(20))).await;
    let second = &world.files()[1];
    let whole = fs::read(second).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(second, damaged).unwrap();
        let Verification::Broken(broken) = world.whole().verify().await.unwrap() else {
            panic!("byte {at}: not found")
        };
        assert_eq!((broken.position, broken.reason), (Position(5), BreakReason::HashMismatch));
        let error = world.whole().read(Position(5), 1).await.unwrap_err();
        assert!(matches!(error, LogError::Corrupt { .. }), "byte {at}: {error}");
    }
    fs::write(second, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(world.whole().verify().await.unwrap(), Verification::Broken(_)));
    fs::remove_file(second).unwrap();
    let Verification::Broken(broken) = world.whole().verify().await.unwrap() else {
        panic!("not found")
    };
    let reason = BreakReason::Missing { found: Position(9) };
    assert_eq!((broken.position, broken.reason), (Position(5), reason));
}

/// Segments of another log have good digests and the wrong history.
#[tokio::test]
async fn the_archive_of_another_log_is_no_match() {
    let world = World::on(Arc::new(MemoryLog::new())).await;
    world.archive(Cut::Before(Position(20))).await;
    let other = MemoryLog::new();
    let mut batch = batch_of(0, 25);
    batch.entries[2].payload.push(b'!');
    other.append(batch).await.unwrap();
    let foreign = DirectoryArchive::open(world.directory.path().join("other")).unwrap();
    archive(&other, Cut::Before(Position(20)), &foreign, 4).await.unwrap();
    let mixed = ArchivedLog::new(Arc::clone(&world.live), Arc::new(foreign));
    assert!(matches!(mixed.verify().await.unwrap(), Verification::Broken(_)));
}

#[tokio::test]
async fn what_else_lies_in_the_directory_is_left_alone() {
    let world = World::on(Arc::new(MemoryLog::new())).await;
    world.archive(Cut::Before(Position(9))).await;
    let directory = world.directory.path().join("archive");
    for name in ["notes.txt", "1-2-3.entries.zst", "half.entries.zst.1.new"] {
        fs::write(directory.join(name), "x").unwrap();
    }
    assert_eq!(world.store.list().await.unwrap().len(), 2);
    world.check().await;
}

/// Whoever can write to the archive must not be able to fill our memory.
#[tokio::test]
async fn a_segment_that_unpacks_without_end_is_refused() {
    let world = World::on(Arc::new(MemoryLog::new())).await;
    world.archive(Cut::Before(Position(5))).await;
    fs::remove_file(&world.files()[0]).unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 200 * 1024 * 1024], 1).unwrap();
    let name = SegmentName::of(Position(1), Position(4), &bomb);
    world.store.put(&name, bomb).await.unwrap();
    assert!(world.whole().read(Position::ZERO, 1).await.is_err());
}
