//! Entries and where they stand: positions, hashes, the head of the log.
//!
//! Start at [`Entry`]. Nothing here touches storage.

use std::fmt;

use bytes::Bytes;

/// Largest payload of one entry. An event is a decision, not a blob: images,
/// build logs and uploads live elsewhere, and replay holds whole pages of
/// entries in memory.
pub const PAYLOAD_MAX_BYTES: usize = 1024 * 1024;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// What the first entry is chained to.
pub const GENESIS_HASH: Hash = [0; 32];

/// The place of an entry in the log. The first entry is 1 and there are no
/// gaps; 0 stands for "before the first entry", the head of an empty log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Before the first entry.
    pub const ZERO: Position = Position(0);

    /// The position that follows this one.
    #[must_use]
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An entry to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// When the event happened, milliseconds since the Unix epoch, as decided
    /// by the writer; the log does not require it to increase.
    pub at_ms: i64,
    /// At most [`PAYLOAD_MAX_BYTES`].
    pub payload: Vec<u8>,
}

/// An entry as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub position: Position,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub payload: Bytes,
    /// Covers this entry and, through the previous hash, all before it; see
    /// [`crate::entry_hash`].
    pub hash: Hash,
}

impl Entry {
    /// The head a log has when this is its last entry.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { position: self.position, hash: self.hash }
    }
}

/// The last position and its hash. Two logs with equal heads hold the same
/// entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub position: Position,
    pub hash: Hash,
}

impl Head {
    /// The head of a log without entries.
    pub const EMPTY: Head = Head { position: Position::ZERO, hash: GENESIS_HASH };
}
