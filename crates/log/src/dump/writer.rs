//! Writing a dump, block by block.
//!
//! Start at [`DumpWriter`]. It does no I/O: what it returns is the next piece of
//! the stream. The order of records is the caller's to keep.

use sha2::{Digest, Sha256};

use super::{
    BLOCK_FULL_BYTES, DumpError, DumpedLog, END_OF_AUDIT, END_OF_EVENTS, ENTRY_OF_AUDIT,
    ENTRY_OF_EVENTS, FIELD_MAX_BYTES, RECEIPT, SEALED, TAG,
};
use crate::batch::StoredReceipt;
use crate::entry::{Entry, Head};
use crate::sealed::SealedRow;

/// zstd's default: the entries are text much alike.
const COMPRESSION_LEVEL: i32 = 3;

/// Turns records into the bytes of a dump.
#[derive(Debug)]
pub struct DumpWriter {
    block: Vec<u8>,
    /// What is written and not yet handed out.
    ready: Vec<u8>,
    digest: Sha256,
}

impl Default for DumpWriter {
    fn default() -> DumpWriter {
        DumpWriter { block: Vec::new(), ready: TAG.to_vec(), digest: Sha256::new() }
    }
}

impl DumpWriter {
    /// The next entry of `log`.
    ///
    /// # Errors
    /// When it is larger than any log takes, or does not compress.
    pub fn entry(&mut self, log: DumpedLog, entry: &Entry) -> Result<(), DumpError> {
        self.block.push(match log {
            DumpedLog::Events => ENTRY_OF_EVENTS,
            DumpedLog::Audit => ENTRY_OF_AUDIT,
        });
        self.block.extend_from_slice(&entry.at_ms.to_be_bytes());
        self.bytes(&entry.payload)?;
        self.close_if_full()
    }

    /// The end of `log`, after its last entry.
    ///
    /// # Errors
    /// When the block does not compress.
    pub fn end(&mut self, log: DumpedLog, head: Head) -> Result<(), DumpError> {
        self.block.push(match log {
            DumpedLog::Events => END_OF_EVENTS,
            DumpedLog::Audit => END_OF_AUDIT,
        });
        self.block.extend_from_slice(&head.position.0.to_be_bytes());
        self.block.extend_from_slice(&head.hash);
        self.close_if_full()
    }

    /// A receipt, after both logs.
    ///
    /// # Errors
    /// As [`DumpWriter::entry`].
    pub fn receipt(&mut self, receipt: &StoredReceipt) -> Result<(), DumpError> {
        self.block.push(RECEIPT);
        self.bytes(receipt.key.as_bytes())?;
        self.block.extend_from_slice(&receipt.request_hash);
        self.bytes(&receipt.body)?;
        self.block.extend_from_slice(&receipt.at_ms.to_be_bytes());
        self.block.extend_from_slice(&receipt.position.0.to_be_bytes());
        self.close_if_full()
    }

    /// A sealed record, after all receipts.
    ///
    /// # Errors
    /// As [`DumpWriter::entry`].
    pub fn sealed(&mut self, row: &SealedRow) -> Result<(), DumpError> {
        self.block.push(SEALED);
        self.bytes(row.key.id.as_bytes())?;
        self.bytes(row.key.key_id.as_bytes())?;
        self.bytes(&row.key.wrapped)?;
        self.bytes(&row.ciphertext)?;
        self.close_if_full()
    }

    /// What is ready to be sent on; may be empty.
    pub fn take(&mut self) -> Vec<u8> {
        let ready = std::mem::take(&mut self.ready);
        self.digest.update(&ready);
        ready
    }

    /// The rest of the stream.
    ///
    /// # Errors
    /// When the last block does not compress.
    pub fn finish(mut self) -> Result<Vec<u8>, DumpError> {
        self.close()?;
        self.ready.extend_from_slice(&0_u32.to_be_bytes());
        let mut rest = self.take();
        rest.extend_from_slice(&self.digest.finalize());
        Ok(rest)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), DumpError> {
        if bytes.len() > FIELD_MAX_BYTES {
            return Err(DumpError::TooLarge { bytes: bytes.len(), limit: FIELD_MAX_BYTES });
        }
        self.block.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.block.extend_from_slice(bytes);
        Ok(())
    }

    fn close_if_full(&mut self) -> Result<(), DumpError> {
        if self.block.len() < BLOCK_FULL_BYTES { Ok(()) } else { self.close() }
    }

    fn close(&mut self) -> Result<(), DumpError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let compressed = zstd::bulk::compress(&self.block, COMPRESSION_LEVEL)?;
        self.block.clear();
        self.ready.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        self.ready.extend_from_slice(&compressed);
        Ok(())
    }
}
