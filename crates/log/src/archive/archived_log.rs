//! A log that begins in the archive and goes on in the database.
//!
//! Start at [`ArchivedLog`]. Everything but reading the past is the live log's.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::store::{ArchiveStore, SegmentName};
use super::{ArchiveError, Archived, Cut, load};
use crate::batch::{Batch, StoredReceipt};
use crate::chain::{Break, BreakReason, Chain, Verification};
use crate::entry::{Entry, Head, Position};
use crate::error::LogError;
use crate::event_log::{EventLog, READ_MAX_BYTES, READ_MAX_ENTRIES, Snapshot};
use crate::place::Place;

/// An [`EventLog`] whose oldest entries are in an archive.
pub struct ArchivedLog {
    live: Arc<dyn EventLog>,
    archive: Arc<dyn ArchiveStore>,
    /// The segment read last: a replay asks for page after page of it.
    opened: Mutex<Option<Opened>>,
}

#[derive(Clone)]
struct Opened {
    name: SegmentName,
    entries: Arc<Vec<Entry>>,
}

impl ArchivedLog {
    /// `live` with what was moved from it to `archive` put before it.
    #[must_use]
    pub fn new(live: Arc<dyn EventLog>, archive: Arc<dyn ArchiveStore>) -> ArchivedLog {
        ArchivedLog { live, archive, opened: Mutex::new(None) }
    }

    /// Moves what is old enough from the live log to the archive, as
    /// [`super::archive`] does.
    ///
    /// # Errors
    /// The same.
    pub async fn archive(
        &self,
        cut: Cut,
        segment_entries: usize,
    ) -> Result<Archived, ArchiveError> {
        super::archive(&*self.live, cut, &*self.archive, segment_entries).await
    }

    /// The same log with another archive, which must have what is no longer in
    /// the live log. `place` is what people know it by.
    ///
    /// # Errors
    /// When it has not, or cannot be listed.
    pub async fn moved_to(
        &self,
        archive: Arc<dyn ArchiveStore>,
        place: &str,
    ) -> Result<ArchivedLog, ArchiveError> {
        let end = self.live.start().await?.position;
        let mut next = Position::ZERO.next();
        for name in archive.list().await? {
            if name.covers(next) {
                next = name.last.next();
            }
        }
        if next <= end {
            let place = place.to_owned();
            return Err(ArchiveError::Elsewhere { place, position: next });
        }
        Ok(ArchivedLog::new(Arc::clone(&self.live), archive))
    }

    /// Where the live log starts: what is before is in the archive.
    ///
    /// # Errors
    /// When the live log cannot be read.
    pub async fn boundary(&self) -> Result<Head, LogError> {
        self.live.start().await
    }

    async fn read_archive(&self, after: Position, limit: usize) -> Result<Vec<Entry>, LogError> {
        let Some(opened) = self.segment_with(after.next()).await? else {
            let detail = format!("no segment holds entry {}", after.next());
            return Err(damaged(detail, None));
        };
        let skipped = usize::try_from(after.next().0 - opened.name.first.0).unwrap_or(usize::MAX);
        let mut page = Vec::new();
        let mut bytes = 0;
        for entry in opened.entries.iter().skip(skipped).take(limit.min(READ_MAX_ENTRIES)) {
            bytes += entry.payload.len();
            page.push(entry.clone());
            if bytes >= READ_MAX_BYTES {
                break;
            }
        }
        Ok(page)
    }

    async fn segment_with(&self, position: Position) -> Result<Option<Opened>, LogError> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if opened.as_ref().is_some_and(|it| it.name.covers(position)) {
            return Ok(opened);
        }
        let names = self.archive.list().await.map_err(unreadable)?;
        let Some(name) = names.into_iter().find(|it| it.covers(position)) else {
            return Ok(None);
        };
        let (_, entries) = load(&*self.archive, &name).await.map_err(unreadable)?;
        let opened = Opened { name, entries: Arc::new(entries) };
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened.clone());
        Ok(Some(opened))
    }

    /// Walks `chain` through the archive up to `end`, where the live log starts.
    async fn verify_archive(
        &self,
        chain: &mut Chain,
        end: Head,
    ) -> Result<Result<(), Break>, LogError> {
        let names = self.archive.list().await.map_err(unreadable)?;
        while chain.head().position < end.position {
            let next = chain.head().position.next();
            let Some(name) = names.iter().find(|it| it.covers(next)) else {
                let found = names.iter().map(|it| it.first).find(|it| *it > next);
                let found = found.unwrap_or(end.position.next());
                return Ok(Err(Break { position: next, reason: BreakReason::Missing { found } }));
            };
            let entries = match load(&*self.archive, name).await {
                Ok((_, entries)) => entries,
                Err(ArchiveError::Damaged { .. }) => {
                    return Ok(Err(Break { position: next, reason: BreakReason::HashMismatch }));
                }
                Err(other) => return Err(unreadable(other)),
            };
            // A segment of an interrupted run may reach beyond the boundary.
            let wanted = |it: &&Entry| next <= it.position && it.position <= end.position;
            let accepted = entries.iter().filter(wanted).try_for_each(|it| chain.accept(it.into()));
            if accepted.is_err() {
                return Ok(accepted);
            }
        }
        let is_continued = chain.head() == end;
        let broken = Break { position: end.position, reason: BreakReason::HashMismatch };
        Ok(if is_continued { Ok(()) } else { Err(broken) })
    }
}

impl std::fmt::Debug for ArchivedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchivedLog").field("archive", &self.archive).finish_non_exhaustive()
    }
}

#[async_trait]
impl EventLog for ArchivedLog {
    async fn head(&self) -> Result<Head, LogError> {
        self.live.head().await
    }

    async fn append(&self, batch: Batch) -> Result<Vec<Entry>, LogError> {
        self.live.append(batch).await
    }

    /// The live log is asked first: an entry moved between the two questions is
    /// then found in the archive.
    async fn read(&self, after: Position, limit: usize) -> Result<Vec<Entry>, LogError> {
        match self.live.read(after, limit).await {
            Err(LogError::Archived { .. }) => self.read_archive(after, limit).await,
            other => other,
        }
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.live.watch()
    }

    async fn start(&self) -> Result<Head, LogError> {
        Ok(Head::EMPTY)
    }

    async fn prune(&self, through: Head) -> Result<u64, LogError> {
        self.live.prune(through).await
    }

    /// From the first entry ever. Begins again behind the boundary when that has
    /// moved meanwhile.
    async fn verify(&self) -> Result<Verification, LogError> {
        let mut chain = Chain::after(Head::EMPTY);
        loop {
            let start = self.live.start().await?;
            if let Err(broken) = self.verify_archive(&mut chain, start).await? {
                return Ok(Verification::Broken(broken));
            }
            let verification = self.live.verify().await?;
            if self.live.start().await? == start {
                return Ok(verification);
            }
        }
    }

    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), LogError> {
        self.live.save_snapshot(snapshot).await
    }

    async fn load_snapshot(&self, format: u32) -> Result<Option<Snapshot>, LogError> {
        self.live.load_snapshot(format).await
    }

    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError> {
        self.live.receipt(key).await
    }

    async fn receipts_under(&self, keys: &[String]) -> Result<Vec<StoredReceipt>, LogError> {
        self.live.receipts_under(keys).await
    }

    async fn receipts(&self, after: &str, limit: usize) -> Result<Vec<StoredReceipt>, LogError> {
        self.live.receipts(after, limit).await
    }

    async fn prune_receipts(&self, before_ms: i64) -> Result<u64, LogError> {
        self.live.prune_receipts(before_ms).await
    }
}

fn unreadable(error: ArchiveError) -> LogError {
    match error {
        ArchiveError::Log(error) => error,
        other => damaged("a segment cannot be read".to_owned(), Some(other)),
    }
}

fn damaged(detail: String, source: Option<ArchiveError>) -> LogError {
    LogError::Corrupt { place: Place::Archive, detail, source: source.map(Into::into) }
}
