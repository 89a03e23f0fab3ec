//! Retention into an object store.

use std::sync::Arc;

use helix_log::{
    ArchiveError, ArchiveStore, Archived, ArchivedLog, Cut, DirectoryArchive, EventLog, Head,
    MemoryLog, ObjectArchive, Position, SegmentName, Verification, archive,
};

use crate::objects::{Objects, URL};
use crate::world::batch_of;

#[tokio::test]
async fn history_moves_to_a_bucket_and_reads_as_before() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(objects) = Objects::start() else { return };
    let url = format!("{URL}/prod/archive");
    let store = Arc::new(ObjectArchive::s3(&url, objects.variables()).unwrap());
    let live: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    live.append(batch_of(0, 25)).await.unwrap();
    let all = live.read(Position::ZERO, 100).await.unwrap();
    let archived = archive(&*live, Cut::Before(Position(15)), &*store, 4).await.unwrap();
    assert_eq!(archived, Archived { segments: 3, entries: 12 });

    let whole = ArchivedLog::new(Arc::clone(&live), Arc::clone(&store) as _);
    let mut read = Vec::new();
    while read.len() < all.len() {
        let page = whole.read(Position(read.len() as u64), 5).await.unwrap();
        assert!(!page.is_empty());
        read.extend(page);
    }
    assert_eq!(read, all);
    let head = all.last().unwrap().head();
    assert_eq!(whole.verify().await.unwrap(), Verification::Intact(head));
    assert_eq!(whole.start().await.unwrap(), Head::EMPTY);

    // Another archive in the same bucket, also where one name begins the other.
    for other in ["prod/archive2", "prod", ""] {
        let other = ObjectArchive::s3(&format!("{URL}/{other}"), objects.variables()).unwrap();
        assert_eq!(other.list().await.unwrap(), [], "{other:?}");
    }
    let names = store.list().await.unwrap();
    assert_eq!(names.iter().map(|it| it.first.0).collect::<Vec<_>>(), [1, 5, 9]);
    let absent = SegmentName { digest: [7; 32], ..names[0] };
    assert!(matches!(store.get(&absent).await, Err(ArchiveError::Objects { .. })));

    let directory = tempfile::tempdir().unwrap();
    let empty = Arc::new(DirectoryArchive::open(directory.path()).unwrap());
    let Err(ArchiveError::Elsewhere { position, .. }) = whole.moved_to(empty, "there").await else {
        panic!("an archive without the entries was taken");
    };
    assert_eq!(position, Position(1));

    let mut wrong = objects.variables();
    wrong.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    wrong.push(("AWS_SECRET_ACCESS_KEY".to_owned(), "another".to_owned()));
    let stranger = ObjectArchive::s3(&url, wrong).unwrap();
    let refused = stranger.list().await.unwrap_err();
    assert!(matches!(refused, ArchiveError::Objects { .. }), "{refused:?}");
    assert!(!format!("{refused:?} {stranger:?}").contains("another"), "no secret is shown");
}
