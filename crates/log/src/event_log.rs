//! The contract every backend keeps: [`EventLog`].
//!
//! `tests/backends/conformance.rs` is this contract as a program; a new backend is done
//! when it passes there.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::batch::{Batch, StoredReceipt};
use crate::chain::Verification;
use crate::entry::{Entry, Head, Position};
use crate::error::LogError;

/// Most entries one read returns, whatever was asked for.
pub const READ_MAX_ENTRIES: usize = 4096;

/// A read stops after the entry that reaches this many payload bytes, so that a
/// page of large events cannot fill the memory of the control plane.
pub const READ_MAX_BYTES: usize = 8 * 1024 * 1024;

/// A durable, append-only, gap-free, hash-chained log.
///
/// There may be any number of readers. Appends are serialised by the backend,
/// and `Batch::expected` makes a writer that lost a race notice.
///
/// Every method may be cancelled by dropping its future: an append then happened
/// whole or not at all, which the next `head` tells.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// The last position and its hash; [`Head::EMPTY`] when nothing was appended.
    async fn head(&self) -> Result<Head, LogError>;

    /// Appends all of `batch` or nothing, and returns only when it is on disk.
    async fn append(&self, batch: Batch) -> Result<Vec<Entry>, LogError>;

    /// Entries that follow `after`, oldest first: at most `limit`,
    /// [`READ_MAX_ENTRIES`] and about [`READ_MAX_BYTES`], at least one if there
    /// is any. An empty page means that `after` is the head or beyond it. Refused
    /// with [`LogError::Archived`] when `after` is before [`EventLog::start`].
    async fn read(&self, after: Position, limit: usize) -> Result<Vec<Entry>, LogError>;

    /// The newest position this process knows of, to be woken by; it may lag
    /// behind the log by a moment and says nothing about what to read.
    fn watch(&self) -> watch::Receiver<Position>;

    /// What the oldest entry still held is chained to: [`Head::EMPTY`] until
    /// something was pruned.
    async fn start(&self) -> Result<Head, LogError>;

    /// Removes the entries up to `through`, which must be in an archive by then:
    /// [`crate::archive()`] is the caller. Refused when the log's entry at that
    /// position has another hash, so that one log's archive cannot prune
    /// another's entries. Returns how many were removed, 0 on a repeat.
    async fn prune(&self, through: Head) -> Result<u64, LogError>;

    /// Walks the chain from [`EventLog::start`]. Takes time in proportion to the log, and neither
    /// blocks nor is blocked by appends.
    async fn verify(&self) -> Result<Verification, LogError>;

    /// Keeps `snapshot` in place of the one kept so far, unless that one is of a
    /// later position. A position beyond the head is refused.
    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), LogError>;

    /// The kept snapshot if it has this format and is undamaged. `None` costs a
    /// replay from the start, never correctness.
    async fn load_snapshot(&self, format: u32) -> Result<Option<Snapshot>, LogError>;

    /// The receipt appended under `key`, unless it was pruned.
    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError>;

    /// The receipts there are under any of these keys, in one go and in no order.
    async fn receipts_under(&self, keys: &[String]) -> Result<Vec<StoredReceipt>, LogError>;

    /// Receipts in the order of their keys: at most `limit` and
    /// [`READ_MAX_ENTRIES`] of those whose key is beyond `after`.
    async fn receipts(&self, after: &str, limit: usize) -> Result<Vec<StoredReceipt>, LogError>;

    /// Forgets receipts older than `before_ms`; returns how many.
    async fn prune_receipts(&self, before_ms: i64) -> Result<u64, LogError>;
}

/// The state folded from all entries up to a position, as opaque bytes: a cache
/// that saves replay at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub position: Position,
    /// Version of the encoding; a reader asks for the one it understands.
    pub format: u32,
    pub bytes: Vec<u8>,
}
