//! The durable event log: an append-only, gap-free, hash-chained sequence of
//! opaque payloads, with the snapshot and the receipts that belong to it.
//!
//! Start from [`EventLog`], the one trait every backend implements;
//! [`SqliteLog`] is what one machine uses, [`MemoryLog`] is for tests.
//!
//! Invariants, all of them absences:
//! * The log does not know what an event means: a payload is bytes, never parsed.
//! * It reads no clock and draws no random number: times arrive with the entries.
//! * It depends on no other crate of this workspace.
//! * Nothing acknowledged is ever changed or removed; there is no method for it.

mod batch;
mod chain;
mod entry;
mod error;
mod event_log;
mod memory;
mod sqlite;

pub use batch::{BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, Batch, NewReceipt, StoredReceipt};
pub use chain::{Break, BreakReason, Chain, Link, Verification, entry_hash};
pub use entry::{Entry, GENESIS_HASH, Hash, Head, NewEntry, PAYLOAD_MAX_BYTES, Position};
pub use error::LogError;
pub use event_log::{EventLog, READ_MAX_BYTES, READ_MAX_ENTRIES, Snapshot};
pub use memory::MemoryLog;
pub use sqlite::SqliteLog;
