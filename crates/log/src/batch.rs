//! What one append writes: entries and the receipts of the commands that
//! caused them, all or nothing.
//!
//! Start at [`Batch`]. Limits are checked here, once for every backend.

use crate::entry::{Hash, NewEntry, PAYLOAD_MAX_BYTES, Position};
use crate::error::LogError;

/// Most entries, and most receipts, in one batch: one batch is one transaction
/// and one fsync, and readers of the write-ahead log walk over it.
pub const BATCH_MAX_ENTRIES: usize = 10_000;

/// Most payload and receipt bytes in one batch, which is held in memory whole.
pub const BATCH_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Entries and receipts to be made durable together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The head the entries were decided against; another head makes the
    /// append fail with [`LogError::Stale`].
    pub expected: Position,
    /// In order. May be empty: a command without effect still has a receipt.
    pub entries: Vec<NewEntry>,
    pub receipts: Vec<NewReceipt>,
}

impl Batch {
    /// A batch that appends `entries` after `expected`, without receipts.
    #[must_use]
    pub fn of_entries(expected: Position, entries: Vec<NewEntry>) -> Batch {
        Batch { expected, entries, receipts: Vec::new() }
    }

    pub(crate) fn check_limits(&self) -> Result<(), LogError> {
        let items = self.entries.len().max(self.receipts.len());
        if items > BATCH_MAX_ENTRIES {
            return Err(LogError::BatchTooLong { items, limit: BATCH_MAX_ENTRIES });
        }
        let largest = self.entries.iter().map(|it| it.payload.len()).max().unwrap_or(0);
        if largest > PAYLOAD_MAX_BYTES {
            return Err(LogError::PayloadTooLarge { bytes: largest, limit: PAYLOAD_MAX_BYTES });
        }
        let bytes = self.entries.iter().map(|it| it.payload.len()).sum::<usize>()
            + self.receipts.iter().map(|it| it.key.len() + it.body.len()).sum::<usize>();
        if bytes > BATCH_MAX_BYTES {
            return Err(LogError::BatchTooLarge { bytes, limit: BATCH_MAX_BYTES });
        }
        Ok(())
    }
}

/// The remembered answer to a command, so that a repeat gets the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReceipt {
    /// Idempotency key, already scoped by the caller so that two principals
    /// cannot see each other's.
    pub key: String,
    /// Digest of the request, to tell a repeat from another use of the key.
    pub request_hash: Hash,
    /// Opaque to the log.
    pub body: Vec<u8>,
    /// Milliseconds since the Unix epoch; pruning goes by it.
    pub at_ms: i64,
}

/// A receipt as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReceipt {
    pub key: String,
    pub request_hash: Hash,
    pub body: Vec<u8>,
    pub at_ms: i64,
    /// The head once the receipt's batch was appended.
    pub position: Position,
}

impl StoredReceipt {
    pub(crate) fn from_new(receipt: NewReceipt, position: Position) -> StoredReceipt {
        let NewReceipt { key, request_hash, body, at_ms } = receipt;
        StoredReceipt { key, request_hash, body, at_ms, position }
    }
}
