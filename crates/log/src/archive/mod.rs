//! Retention: moving the oldest entries out of the database into an archive.
//!
//! Start at [`archive()`]; [`ArchivedLog`] reads across the boundary. The order
//! is what makes it safe: a segment is durable in the store, and read back,
//! before the log is asked to prune, and pruning names the hash of the last
//! entry archived. A crash in between leaves a segment whose entries are also in
//! the log; the next run finds it and prunes. Nothing is ever in neither place,
//! and a reader takes each entry from one of them.

mod archived_log;
mod credentials;
mod directory;
mod objects;
mod segment;
mod store;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::entry::{Entry, Head, Position};
use crate::error::LogError;
use crate::event_log::{EventLog, READ_MAX_ENTRIES};

pub use archived_log::ArchivedLog;
pub use directory::DirectoryArchive;
pub use objects::ObjectArchive;
pub(crate) use objects::s3_store;
pub use store::{ArchiveStore, SegmentName};

/// How many entries fill a segment unless the caller knows better: some MiB of
/// events before compression.
pub const SEGMENT_ENTRIES: usize = 10_000;

/// Which entries are old enough to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Those before this position.
    Before(Position),
    /// Those that happened before this time, milliseconds since the Unix epoch,
    /// up to the first that did not.
    OlderThan { at_ms: i64 },
}

impl Cut {
    fn includes(self, entry: &Entry) -> bool {
        match self {
            Cut::Before(position) => entry.position < position,
            Cut::OlderThan { at_ms } => entry.at_ms < at_ms,
        }
    }
}

/// What one run moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    pub segments: u64,
    pub entries: u64,
}

/// Moves entries from `log` to `store`, oldest first, in segments of
/// `segment_entries`; what does not fill a segment stays. `log` is the live one,
/// not an [`ArchivedLog`]. Meant to be run by one replica at a time, under a
/// lease; two at once waste work but harm nothing.
///
/// # Errors
/// When either side fails. What was moved so far stays moved.
pub async fn archive(
    log: &dyn EventLog,
    cut: Cut,
    store: &dyn ArchiveStore,
    segment_entries: usize,
) -> Result<Archived, ArchiveError> {
    let segment_entries = segment_entries.clamp(1, segment::SEGMENT_MAX_ENTRIES);
    let mut done = Archived::default();
    loop {
        let start = log.start().await?;
        let entries = full_segment(log, start, cut, segment_entries).await?;
        let Some(last) = entries.last().map(Entry::head) else { return Ok(done) };
        keep(store, start, &entries).await?;
        done.entries += log.prune(last).await?;
        done.segments += 1;
        tracing::info!(first = start.position.0 + 1, last = last.position.0, "entries archived");
    }
}

/// The next segment's entries; empty while they would not fill it.
async fn full_segment(
    log: &dyn EventLog,
    start: Head,
    cut: Cut,
    segment_entries: usize,
) -> Result<Vec<Entry>, ArchiveError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    loop {
        let after = entries.last().map_or(start.position, |it| it.position);
        let page = log.read(after, READ_MAX_ENTRIES).await?;
        if page.is_empty() {
            return Ok(Vec::new());
        }
        for entry in page {
            if !cut.includes(&entry) {
                return Ok(Vec::new());
            }
            bytes += entry.payload.len();
            entries.push(entry);
            if entries.len() == segment_entries || bytes >= segment::SEGMENT_MAX_BYTES {
                return Ok(entries);
            }
        }
    }
}

/// Writes a segment, unless an interrupted run has, and reads it back: what is
/// about to be removed from the database must open.
async fn keep(
    store: &dyn ArchiveStore,
    after: Head,
    entries: &[Entry],
) -> Result<(), ArchiveError> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
    let encoded = entries.to_vec();
    let encoding = tokio::task::spawn_blocking(move || segment::encode(after, &encoded));
    let encoded = encoding.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    let bytes = encoded.map_err(ArchiveError::Compress)?;
    let name = SegmentName::of(first.position, last.position, &bytes);
    store.put(&name, bytes).await?;
    let (kept_after, kept) = load(store, &name).await?;
    if kept_after != after || kept != entries {
        return Err(ArchiveError::Damaged { name });
    }
    Ok(())
}

/// Reads a segment and proves that it is what its name says.
async fn load(
    store: &dyn ArchiveStore,
    name: &SegmentName,
) -> Result<(Head, Vec<Entry>), ArchiveError> {
    let bytes = store.get(name).await?;
    let expected = *name;
    let opening = tokio::task::spawn_blocking(move || open(&expected, &bytes));
    let opened = opening.await.unwrap_or(None);
    opened.ok_or(ArchiveError::Damaged { name: *name })
}

fn open(name: &SegmentName, bytes: &[u8]) -> Option<(Head, Vec<Entry>)> {
    if SegmentName::of(name.first, name.last, bytes) != *name {
        return None;
    }
    let (after, entries) = segment::decode(bytes)?;
    let ends = (entries.first()?.position, entries.last()?.position);
    (ends == (name.first, name.last)).then_some((after, entries))
}

/// The archive could not be written or read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    #[error("could not {action} {}", .path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("could not {action} {place}")]
    Objects {
        action: &'static str,
        place: String,
        #[source]
        source: Box<object_store::Error>,
    },

    #[error("{place} does not have entry {position}, which is no longer in the database")]
    Elsewhere { place: String, position: Position },

    #[error("could not compress an archive segment")]
    Compress(#[source] io::Error),

    #[error("the archive segment {name} is damaged")]
    Damaged { name: SegmentName },

    #[error(transparent)]
    Log(#[from] LogError),
}
