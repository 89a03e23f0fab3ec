//! Reading and verifying entries that a database holds, the same way for every
//! database.
//!
//! Start at [`Stored`]. The oldest entries may have gone to the archive and may
//! go there while somebody reads: what is missing below [`Stored::start`] is not
//! damage.

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::chain::{Chain, Link, Verification};
use crate::entry::{Entry, Hash, Head, Position};
use crate::error::LogError;
use crate::event_log::{READ_MAX_ENTRIES, Snapshot};
use crate::place::Place;

/// An entry as a database gives it, its hash not yet known to be one.
#[derive(Debug)]
pub(crate) struct EventRow {
    pub(crate) position: Position,
    pub(crate) at_ms: i64,
    pub(crate) payload: Vec<u8>,
    pub(crate) hash: Vec<u8>,
}

impl EventRow {
    fn link(&self) -> Link<'_> {
        Link {
            position: self.position,
            at_ms: self.at_ms,
            payload: &self.payload,
            hash: &self.hash,
        }
    }

    fn into_entry(self, place: &Place) -> Result<Entry, LogError> {
        let hash = proper_hash(&self.hash, self.position, place)?;
        let (position, at_ms) = (self.position, self.at_ms);
        Ok(Entry { position, at_ms, payload: Bytes::from(self.payload), hash })
    }
}

/// What a database has to offer for [`read`] and [`verify`].
#[async_trait]
pub(crate) trait Stored: Send + Sync {
    fn place(&self) -> &Place;

    /// See [`crate::EventLog::start`].
    async fn start(&self) -> Result<Head, LogError>;

    /// A page of rows beyond `after`, in order, within the limits of a read.
    async fn rows_after(&self, after: Position, limit: usize) -> Result<Vec<EventRow>, LogError>;
}

/// See [`crate::EventLog::read`].
pub(crate) async fn read(
    stored: &dyn Stored,
    after: Position,
    limit: usize,
) -> Result<Vec<Entry>, LogError> {
    let rows = stored.rows_after(after, limit).await?;
    let follows = rows.first().is_some_and(|it| Some(it.position.0) == after.0.checked_add(1));
    if !follows {
        let start = stored.start().await?.position;
        if after < start {
            return Err(LogError::Archived { after, start });
        }
    }
    let mut page = Vec::with_capacity(rows.len());
    for (row, expected) in rows.into_iter().zip(after.0.saturating_add(1)..) {
        if row.position.0 != expected {
            let detail = format!("entry {expected} is missing");
            return Err(corrupt(stored.place(), detail));
        }
        page.push(row.into_entry(stored.place())?);
    }
    Ok(page)
}

/// See [`crate::EventLog::verify`].
pub(crate) async fn verify(stored: &dyn Stored) -> Result<Verification, LogError> {
    let mut chain = Chain::after(stored.start().await?);
    loop {
        let rows = stored.rows_after(chain.head().position, READ_MAX_ENTRIES).await?;
        let accepted = rows.iter().try_for_each(|row| chain.accept(row.link()));
        if accepted.is_ok() && !rows.is_empty() {
            continue;
        }
        // Entries that were pruned since are the archive's to verify.
        let start = stored.start().await?;
        if start.position > chain.head().position {
            chain = Chain::after(start);
            continue;
        }
        return Ok(match accepted {
            Ok(()) => Verification::Intact(chain.head()),
            Err(broken) => Verification::Broken(broken),
        });
    }
}

pub(crate) fn proper_hash(
    bytes: &[u8],
    position: Position,
    place: &Place,
) -> Result<Hash, LogError> {
    bytes.try_into().map_err(|_| corrupt(place, format!("entry {position} has no proper hash")))
}

pub(crate) fn snapshot_digest(snapshot: &Snapshot) -> Hash {
    Sha256::digest(&snapshot.bytes).into()
}

/// A damaged snapshot is reported and passed over: the log itself is whole.
pub(crate) fn undamaged(
    snapshot: Snapshot,
    digest: &[u8],
    head: Position,
    place: &Place,
) -> Option<Snapshot> {
    if snapshot_digest(&snapshot)[..] == *digest && snapshot.position <= head {
        return Some(snapshot);
    }
    tracing::warn!(%place, position = snapshot.position.0, "damaged snapshot ignored");
    None
}

/// The database can be read, but what it says cannot be.
pub(crate) fn corrupt(place: &Place, detail: String) -> LogError {
    LogError::Corrupt { place: place.clone(), detail, source: None }
}

pub(crate) fn to_integer(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// A negative position, which the schemas forbid, becomes one that cannot
/// follow any other.
pub(crate) fn to_position(integer: i64) -> Position {
    Position(u64::try_from(integer).unwrap_or(u64::MAX))
}
