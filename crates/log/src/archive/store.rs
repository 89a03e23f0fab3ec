//! Where archive segments are kept, and how they are named.
//!
//! Start at [`ArchiveStore`]. A name says which entries a segment holds and the
//! digest of its bytes, so a listing is the whole index.

use std::fmt;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::ArchiveError;
use crate::entry::{Hash, Position};

const SUFFIX: &str = ".entries.zst";

/// Digits of a position in a name: all a `u64` can have, so that names sort as
/// positions do.
const POSITION_DIGITS: usize = 20;

/// `FIRST-LAST-SHA256.entries.zst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    pub first: Position,
    pub last: Position,
    /// Of the stored bytes.
    pub digest: Hash,
}

impl SegmentName {
    /// The name of `bytes` that hold the entries `first` to `last`.
    #[must_use]
    pub fn of(first: Position, last: Position, bytes: &[u8]) -> SegmentName {
        SegmentName { first, last, digest: Sha256::digest(bytes).into() }
    }

    /// `None` for whatever else is kept in the same place.
    #[must_use]
    pub fn parse(text: &str) -> Option<SegmentName> {
        let mut parts = text.strip_suffix(SUFFIX)?.split('-');
        let name = SegmentName {
            first: Position(parts.next()?.parse().ok()?),
            last: Position(parts.next()?.parse().ok()?),
            digest: parse_hex(parts.next()?)?,
        };
        // Written back, it must be the same: one spelling for each name.
        Some(name).filter(|it| it.first <= it.last && it.to_string() == text)
    }

    /// Whether the entry at `position` is in it.
    #[must_use]
    pub fn covers(&self, position: Position) -> bool {
        self.first <= position && position <= self.last
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first.0, self.last.0);
        write!(f, "{first:0POSITION_DIGITS$}-{last:0POSITION_DIGITS$}-")?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(SUFFIX)
    }
}

/// Keeps segments: a directory here, an object store elsewhere.
#[async_trait]
pub trait ArchiveStore: fmt::Debug + Send + Sync + 'static {
    /// Returns only when `bytes` are durable under `name`, whole. Writing a name
    /// that is there already is fine: the digest says that the bytes are equal.
    async fn put(&self, name: &SegmentName, bytes: Vec<u8>) -> Result<(), ArchiveError>;

    /// The bytes as stored; whoever asks compares the digest.
    async fn get(&self, name: &SegmentName) -> Result<Vec<u8>, ArchiveError>;

    /// Every segment, in order.
    async fn list(&self) -> Result<Vec<SegmentName>, ArchiveError>;
}

fn parse_hex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}
