//! A whole installation as one stream: both logs from their first entries, the
//! receipts and the sealed records, for another database of either kind.
//!
//! Start at [`DumpWriter`] and [`DumpReader`]. The stream, integers big-endian:
//!
//! * the tag `HLXDUMP1`, which is the format's version;
//! * blocks: a length (u32, not zero), then that many bytes of zstd, in which
//!   records stand back to back;
//! * a zero (u32), then the SHA-256 of everything before it, zero included, and
//!   the end of the stream.
//!
//! A record is a kind (u8) and its fields; a text or a run of bytes has its
//! length before it. In this order: entries of the event log (1: time i64,
//! payload) and its end (2: position u64, hash), the same for the audit log
//! (3, 4), receipts (5: key, request hash, body, time i64, position u64), sealed
//! records (6: id, key id, wrapped key, ciphertext), still encrypted. Positions
//! and hashes of entries follow from the chain, and a log that does not come out
//! at its end's hash is refused.

mod reader;
mod writer;

use std::io;

use thiserror::Error;

pub use reader::{DumpReader, DumpRecord};
pub use writer::DumpWriter;

use crate::chain::Break;

/// Changes with the format: a reader takes its own version and no other.
const TAG: &[u8; 8] = b"HLXDUMP1";

/// A block is closed once it has so many bytes: enough to compress well, little
/// enough to hold.
const BLOCK_FULL_BYTES: usize = 1024 * 1024;

/// Largest field: a payload, a sealed value or a receipt, each with room to spare.
const FIELD_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What a block may decompress to: the last record may pass the mark.
const BLOCK_MAX_BYTES: usize = BLOCK_FULL_BYTES + 2 * FIELD_MAX_BYTES;

const ENTRY_OF_EVENTS: u8 = 1;
const END_OF_EVENTS: u8 = 2;
const ENTRY_OF_AUDIT: u8 = 3;
const END_OF_AUDIT: u8 = 4;
const RECEIPT: u8 = 5;
const SEALED: u8 = 6;

/// Of the two logs of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpedLog {
    Events,
    Audit,
}

/// A dump that cannot be written or read.
#[derive(Debug, Error)]
pub enum DumpError {
    #[error("it is not an export of helix, or of a version this program does not know")]
    Foreign,

    #[error("it ends in the middle: the export was interrupted, or the copy is not whole")]
    Truncated,

    #[error("it is damaged: {0}")]
    Damaged(&'static str),

    #[error("it is damaged: the {log} does not hold: {broken}")]
    Broken { log: &'static str, broken: Break },

    #[error("a field of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },

    #[error("it cannot be read or written")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests;
