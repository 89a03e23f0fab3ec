//! The durable event log: an append-only, gap-free, hash-chained sequence of
//! opaque payloads, with the snapshot and the receipts that belong to it, and
//! beside it what replicas share: leases and the sealed table.
//!
//! Start from [`EventLog`], the one trait every backend implements;
//! [`SqliteLog`] is what one machine uses, [`PostgresLog`] what any number of
//! replicas share, [`MemoryLog`] is for tests. [`archive()`] moves the oldest
//! entries out, [`Leases`] and [`Sealed`] are the tables beside the log.
//!
//! Invariants, all of them absences:
//! * The log does not know what an event means: a payload is bytes, never parsed.
//! * It reads no wall clock: times arrive with the entries, or are the database
//!   server's. It draws no random number but for the keys of the sealed table.
//! * It depends on no other crate of this workspace.
//! * Nothing acknowledged is ever changed, and nothing removed that is not in an
//!   archive by then; there is no method for it.

mod archive;
mod backup;
mod batch;
mod chain;
mod dump;
mod entry;
mod error;
mod event_log;
mod leases;
mod memory;
mod newest;
mod place;
mod postgres;
mod sealed;
mod sqlite;
mod stored;

pub use archive::{
    ArchiveError, ArchiveStore, Archived, ArchivedLog, Cut, DirectoryArchive, ObjectArchive,
    SEGMENT_ENTRIES, SegmentName, archive,
};
pub use backup::{
    BACKUP_CHUNK_MAX_BYTES, BackupError, BackupIndex, BackupStore, StoreTrouble, VolumeBackups,
};
pub use batch::{BATCH_MAX_BYTES, BATCH_MAX_ENTRIES, Batch, NewReceipt, StoredReceipt};
pub use chain::{Break, BreakReason, Chain, Link, Verification, entry_hash};
pub use dump::{DumpError, DumpReader, DumpRecord, DumpWriter, DumpedLog};
pub use entry::{Entry, GENESIS_HASH, Hash, Head, NewEntry, PAYLOAD_MAX_BYTES, Position};
pub use error::LogError;
pub use event_log::{EventLog, READ_MAX_BYTES, READ_MAX_ENTRIES, Snapshot};
pub use leases::{Clock, HELD_MAX, Lease, Leases, MemoryLeases};
pub use memory::MemoryLog;
pub use place::Place;
pub use postgres::{PostgresLeases, PostgresLog, PostgresSchema, PostgresSealedRows};
pub use sealed::{
    KeyFile, MasterKey, MemorySealedRows, Plaintext, SEALED_ID_MAX_BYTES, SEALED_KEY_CHECK_ID,
    SEALED_MAX_BYTES, Sealed, SealedError, SealedRow, SealedRows, WrappedKey,
};
pub use sqlite::{SqliteLeases, SqliteLog, SqliteSealedRows};
