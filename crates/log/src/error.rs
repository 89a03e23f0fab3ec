//! What can go wrong with the log, and what a person can do about it.
//!
//! Start at [`LogError`]. Refusals (`Stale`, the limits) leave the log as it
//! was; after any other error of an append, whether the batch was written is
//! unknown until the log has been read again.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::entry::Position;

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

    #[error("could not open {}: its schema is version {found}, this program knows up to {known}", .path.display())]
    NewerSchema { path: PathBuf, found: i64, known: i64 },

    #[error("could not open {}: it is a database of another program", .path.display())]
    Foreign { path: PathBuf },

    #[error("{} is damaged: {detail}", .path.display())]
    Corrupt {
        path: PathBuf,
        detail: String,
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },

    #[error("could not {action}: no space left for {}", .path.display())]
    Full {
        action: &'static str,
        path: PathBuf,
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

    #[error("could not {action} in {}", .path.display())]
    Storage {
        action: &'static str,
        path: PathBuf,
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
            LogError::NewerSchema { .. } => {
                Some("run the helix version that last used this data directory, or a newer one")
            }
            LogError::Foreign { .. } => Some("choose another directory with --data-dir"),
            LogError::Corrupt { .. } => {
                Some("keep a copy of the file, then restore the data directory from a backup")
            }
            LogError::Full { .. } => Some("free space on the disk; nothing acknowledged is lost"),
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
