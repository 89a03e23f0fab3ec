//! What can go wrong with the log, and what a person can do about it.
//!
//! Start at [`LogError`]. Refusals (`Stale`, the limits) and `Unreachable` leave
//! the log as it was; after any other error of an append, `OutcomeUnknown` above
//! all, whether the batch was written is unknown until the log has been read
//! again.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::entry::Position;
use crate::place::Place;

/// An operation of the log that was refused or failed.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("append after position {expected} refused: the log is at position {actual}")]
    Stale { expected: Position, actual: Position },

    #[error("append refused: a payload of {bytes} bytes exceeds the limit of {limit}")]
    PayloadTooLarge { bytes: usize, limit: usize },

    #[error("append refused: a batch of {items} items exceeds the limit of {limit}")]
    BatchTooLong { items: usize, limit: usize },

    #[error("append refused: a batch of {bytes} bytes exceeds the limit of {limit}")]
    BatchTooLarge { bytes: usize, limit: usize },

    #[error("append refused: a receipt with key `{key}` exists")]
    DuplicateReceipt { key: String },

    #[error("snapshot of position {position} refused: the log is at position {head}")]
    SnapshotAhead { position: Position, head: Position },

    #[error("could not lock {}: another process{} uses this data directory", .path.display(), holder_text(*.holder))]
    InUse { path: PathBuf, holder: Option<u32> },

    #[error("could not read after position {after}: entries up to {start} are in the archive")]
    Archived { after: Position, start: Position },

    #[error("pruning through position {position} refused: the log has another entry there")]
    PruneMismatch { position: Position },

    #[error("could not connect to {place}")]
    Unreachable {
        place: Place,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// The batch may be in the log, may come to be in it shortly, or neither.
    #[error("the connection to {place} was lost during an append, which may have happened")]
    OutcomeUnknown {
        place: Place,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    #[error(
        "could not open {place}: its schema is version {found}, this program knows up to {known}"
    )]
    NewerSchema { place: Place, found: i64, known: i64 },

    #[error("could not open {place}: it is a database of another program")]
    Foreign { place: Place },

    #[error("{place} is damaged: {detail}")]
    Corrupt {
        place: Place,
        detail: String,
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },

    #[error("could not {action}: no space left for {place}")]
    Full {
        action: &'static str,
        place: Place,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    #[error("could not {action} {}", .path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("could not {action} in {place}")]
    Storage {
        action: &'static str,
        place: Place,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl LogError {
    /// One thing a person can do about it, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            LogError::InUse { .. } => {
                Some("stop the other process, or choose another directory with --data-dir")
            }
            LogError::NewerSchema { place: Place::File(_), .. } => {
                Some("run the helix version that last used this data directory, or a newer one")
            }
            LogError::NewerSchema { .. } => {
                Some("run the helix version that last used this database, or a newer one")
            }
            LogError::Foreign { place: Place::File(_) } => {
                Some("choose another directory with --data-dir")
            }
            LogError::Foreign { .. } => {
                Some("create an empty database for helix and name it with --database-url")
            }
            LogError::Corrupt { place: Place::File(_), .. } => {
                Some("keep a copy of the file, then restore the data directory from a backup")
            }
            LogError::Corrupt { place: Place::Database(_), .. } => {
                Some("keep a copy of the database, then restore it from a backup")
            }
            LogError::Corrupt { place: Place::Archive, .. } => {
                Some("restore the segment from a backup of the archive")
            }
            LogError::Full { .. } => Some("free space on the disk; nothing acknowledged is lost"),
            LogError::Unreachable { .. } => {
                Some("check that PostgreSQL runs there and that --database-url is right")
            }
            LogError::OutcomeUnknown { .. } => {
                Some("repeat the request with the same idempotency key: it happens at most once")
            }
            LogError::Archived { .. } => Some("name the archive's directory to read that far back"),
            LogError::PruneMismatch { .. } => Some("this archive belongs to another log"),
            LogError::Stale { .. }
            | LogError::PayloadTooLarge { .. }
            | LogError::BatchTooLong { .. }
            | LogError::BatchTooLarge { .. }
            | LogError::DuplicateReceipt { .. }
            | LogError::SnapshotAhead { .. }
            | LogError::File { .. }
            | LogError::Storage { .. } => None,
        }
    }
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}
