//! Reading a dump, which comes from outside: every length is checked before it
//! is believed.
//!
//! Start at [`DumpReader::next`]. What it returns is proved entry by entry
//! against the chain; that the whole stream is what was written is known only
//! once it has returned `None`, which is why an import reads everything once
//! before it writes anything.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use super::{
    BLOCK_MAX_BYTES, DumpError, DumpedLog, END_OF_AUDIT, END_OF_EVENTS, ENTRY_OF_AUDIT,
    ENTRY_OF_EVENTS, FIELD_MAX_BYTES, RECEIPT, SEALED, TAG,
};
use crate::batch::StoredReceipt;
use crate::chain::{Break, BreakReason, Chain};
use crate::entry::{Entry, Hash, Head, NewEntry, PAYLOAD_MAX_BYTES, Position};
use crate::sealed::{SealedRow, WrappedKey};

/// What does not compress grows a little.
const STORED_BLOCK_MAX_BYTES: usize = BLOCK_MAX_BYTES + 64 * 1024;

/// One thing out of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DumpRecord {
    Entry(DumpedLog, Entry),
    /// The log is complete.
    End(DumpedLog, Head),
    Receipt(StoredReceipt),
    Sealed(SealedRow),
}

/// Reads records from a stream.
#[derive(Debug)]
pub struct DumpReader<R> {
    source: R,
    digest: Sha256,
    block: Bytes,
    chain: Chain,
    /// The kind of the last record: kinds only grow.
    last: u8,
    began: bool,
    ended: bool,
}

impl<R: Read> DumpReader<R> {
    /// Nothing is read yet.
    pub fn new(source: R) -> DumpReader<R> {
        DumpReader {
            source,
            digest: Sha256::new(),
            block: Bytes::new(),
            chain: Chain::after(Head::EMPTY),
            last: ENTRY_OF_EVENTS,
            began: false,
            ended: false,
        }
    }

    /// The next record; `None` once the stream has ended and proved whole.
    ///
    /// # Errors
    /// When it is not a dump, not whole, or was changed.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on after an error")]
    pub fn next(&mut self) -> Result<Option<DumpRecord>, DumpError> {
        if !self.began {
            let tag = self.take_raw(TAG.len())?;
            if tag != TAG[..] {
                return Err(DumpError::Foreign);
            }
            self.began = true;
        }
        while self.block.is_empty() {
            if self.ended || !self.next_block()? {
                return Ok(None);
            }
        }
        self.record().map(Some)
    }

    /// `false` at the end.
    fn next_block(&mut self) -> Result<bool, DumpError> {
        let length = self.take_raw(4)?;
        let length: [u8; 4] = length[..].try_into().map_err(|_| DumpError::Truncated)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 {
            self.end()?;
            return Ok(false);
        }
        if length > STORED_BLOCK_MAX_BYTES {
            return Err(DumpError::Damaged("a block is larger than any can be"));
        }
        let stored = self.take_raw(length)?;
        let block = zstd::bulk::decompress(&stored, BLOCK_MAX_BYTES);
        self.block = block.map_err(|_| DumpError::Damaged("a block does not decompress"))?.into();
        Ok(true)
    }

    fn end(&mut self) -> Result<(), DumpError> {
        let digest = std::mem::take(&mut self.digest).finalize();
        if self.last < END_OF_AUDIT {
            return Err(DumpError::Damaged("a log has no end"));
        }
        if self.take_raw(digest.len())? != digest[..] {
            return Err(DumpError::Damaged("its checksum is another"));
        }
        let mut byte = [0];
        if self.source.read(&mut byte)? != 0 {
            return Err(DumpError::Damaged("something follows its end"));
        }
        self.ended = true;
        Ok(())
    }

    fn take_raw(&mut self, length: usize) -> Result<Vec<u8>, DumpError> {
        let mut bytes = Vec::new();
        self.source.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            let foreign = !self.began && !TAG.starts_with(&bytes);
            return Err(if foreign { DumpError::Foreign } else { DumpError::Truncated });
        }
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn record(&mut self) -> Result<DumpRecord, DumpError> {
        let kind = self.block.get_u8();
        // A log's end follows its entries, once; the second log begins anew.
        let in_order = match self.last {
            END_OF_EVENTS | END_OF_AUDIT => kind > self.last,
            last => kind >= last,
        };
        let skips_an_end = self.last < END_OF_EVENTS && kind > END_OF_EVENTS
            || self.last < END_OF_AUDIT && kind > END_OF_AUDIT;
        if !in_order || skips_an_end || kind > SEALED {
            return Err(DumpError::Damaged("its records are out of order"));
        }
        self.last = kind;
        match kind {
            ENTRY_OF_EVENTS => self.entry(DumpedLog::Events),
            END_OF_EVENTS => self.log_end(DumpedLog::Events),
            ENTRY_OF_AUDIT => self.entry(DumpedLog::Audit),
            END_OF_AUDIT => self.log_end(DumpedLog::Audit),
            RECEIPT => self.receipt(),
            _ => self.sealed(),
        }
    }

    fn entry(&mut self, log: DumpedLog) -> Result<DumpRecord, DumpError> {
        let at_ms = self.block.try_get_i64().map_err(|_| cut())?;
        let payload = self.bytes()?;
        if payload.len() > PAYLOAD_MAX_BYTES {
            let (bytes, limit) = (payload.len(), PAYLOAD_MAX_BYTES);
            return Err(DumpError::TooLarge { bytes, limit });
        }
        let entry = self.chain.extend(NewEntry { at_ms, payload: payload.to_vec() });
        Ok(DumpRecord::Entry(log, entry))
    }

    fn log_end(&mut self, log: DumpedLog) -> Result<DumpRecord, DumpError> {
        let position = Position(self.block.try_get_u64().map_err(|_| cut())?);
        let head = Head { position, hash: self.hash()? };
        let reached = std::mem::replace(&mut self.chain, Chain::after(Head::EMPTY)).head();
        if reached != head {
            let which = match log {
                DumpedLog::Events => "event log",
                DumpedLog::Audit => "audit log",
            };
            let reason = if reached.position == position {
                BreakReason::HashMismatch
            } else {
                BreakReason::Missing { found: position }
            };
            let broken = Break { position: reached.position, reason };
            return Err(DumpError::Broken { log: which, broken });
        }
        Ok(DumpRecord::End(log, head))
    }

    fn receipt(&mut self) -> Result<DumpRecord, DumpError> {
        let key = self.text()?;
        let request_hash = self.hash()?;
        let body = self.bytes()?.to_vec();
        let at_ms = self.block.try_get_i64().map_err(|_| cut())?;
        let position = Position(self.block.try_get_u64().map_err(|_| cut())?);
        Ok(DumpRecord::Receipt(StoredReceipt { key, request_hash, body, at_ms, position }))
    }

    fn sealed(&mut self) -> Result<DumpRecord, DumpError> {
        let (id, key_id) = (self.text()?, self.text()?);
        let wrapped = self.bytes()?.to_vec();
        let ciphertext = self.bytes()?.to_vec();
        let key = WrappedKey { id, key_id, wrapped };
        Ok(DumpRecord::Sealed(SealedRow { key, ciphertext }))
    }

    fn bytes(&mut self) -> Result<Bytes, DumpError> {
        let length = self.block.try_get_u32().map_err(|_| cut())? as usize;
        if length > FIELD_MAX_BYTES {
            return Err(DumpError::TooLarge { bytes: length, limit: FIELD_MAX_BYTES });
        }
        if length > self.block.len() {
            return Err(cut());
        }
        Ok(self.block.split_to(length))
    }

    fn text(&mut self) -> Result<String, DumpError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&bytes);
        text.map(str::to_owned).map_err(|_| DumpError::Damaged("a name is not text"))
    }

    fn hash(&mut self) -> Result<Hash, DumpError> {
        if self.block.len() < 32 {
            return Err(cut());
        }
        self.block.split_to(32)[..].try_into().map_err(|_| cut())
    }
}

fn cut() -> DumpError {
    DumpError::Damaged("a record is cut off")
}

impl From<DumpError> for io::Error {
    fn from(error: DumpError) -> io::Error {
        match error {
            DumpError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}
