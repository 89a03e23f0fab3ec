//! The hash chain: how an entry's hash is made, and how a run of entries is
//! proved to be the one that was written.
//!
//! Start at [`Chain`]. It is pure: every backend appends and verifies through
//! it, so no two of them can disagree about what a valid log is. A chain shows
//! changed, reordered and missing entries; it cannot show that the newest ones
//! were cut off, for that compare the verified [`Head`] with one kept elsewhere.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::entry::{Entry, Hash, Head, NewEntry, Position};

/// Keeps these hashes apart from every other SHA-256 the product computes. A
/// change of the hashed layout needs a new tag.
const DOMAIN_TAG: &[u8] = b"helix/log/entry/1\0";

/// `sha256(tag ‖ previous ‖ position ‖ at_ms ‖ payload)`, integers big-endian.
/// Every field before the payload has a fixed length, so two different entries
/// cannot be written as the same bytes.
#[must_use]
pub fn entry_hash(previous: &Hash, position: Position, at_ms: i64, payload: &[u8]) -> Hash {
    Sha256::new()
        .chain_update(DOMAIN_TAG)
        .chain_update(previous)
        .chain_update(position.0.to_be_bytes())
        .chain_update(at_ms.to_be_bytes())
        .chain_update(payload)
        .finalize()
        .into()
}

/// One entry as found in storage, not yet trusted.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    pub position: Position,
    pub at_ms: i64,
    pub payload: &'a [u8],
    /// A slice, because storage that was tampered with may hold any length.
    pub hash: &'a [u8],
}

impl<'a> From<&'a Entry> for Link<'a> {
    fn from(entry: &'a Entry) -> Self {
        Link {
            position: entry.position,
            at_ms: entry.at_ms,
            payload: &entry.payload,
            hash: &entry.hash,
        }
    }
}

/// Walks a log from a trusted head, extending or checking it entry by entry.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    head: Head,
}

impl Chain {
    /// Starts after `head`, which is trusted; [`Head::EMPTY`] for a whole log.
    #[must_use]
    pub fn after(head: Head) -> Chain {
        Chain { head }
    }

    /// Where the chain has come to.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Gives a new entry its position and hash.
    pub fn extend(&mut self, entry: NewEntry) -> Entry {
        let position = self.head.position.next();
        let hash = entry_hash(&self.head.hash, position, entry.at_ms, &entry.payload);
        self.head = Head { position, hash };
        Entry { position, at_ms: entry.at_ms, payload: Bytes::from(entry.payload), hash }
    }

    /// Checks that `link` is the entry that follows, and moves on to it.
    pub fn accept(&mut self, link: Link<'_>) -> Result<(), Break> {
        let expected = self.head.position.next();
        if link.position != expected {
            let reason = BreakReason::Missing { found: link.position };
            return Err(Break { position: expected, reason });
        }
        let hash = entry_hash(&self.head.hash, expected, link.at_ms, link.payload);
        if link.hash != hash {
            return Err(Break { position: expected, reason: BreakReason::HashMismatch });
        }
        self.head = Head { position: expected, hash };
        Ok(())
    }
}

/// What [`crate::EventLog::verify`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Every entry up to and including the head is the one that was appended.
    Intact(Head),
    /// Everything before this position is intact; nothing from it on is.
    Broken(Break),
}

/// The first position at which the chain does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    pub position: Position,
    pub reason: BreakReason,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            BreakReason::Missing { found } => {
                write!(f, "entry {} is missing, {found} stands in its place", self.position)
            }
            BreakReason::HashMismatch => {
                write!(f, "entry {} or one before it was changed: wrong hash", self.position)
            }
        }
    }
}

/// Why the chain does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakReason {
    /// Another position stands where this one should.
    Missing { found: Position },
    /// The stored hash is not the one its content and its predecessor give.
    HashMismatch,
}
