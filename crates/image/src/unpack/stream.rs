//! The bytes of a layer, once decompressed: hashed and counted on the way.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use super::ahead::Ahead;
use crate::digest::{Digest, Hasher};
use crate::limits::ENTRY_HEADER_BYTES_MAX;

/// Counters shared by the stream, which sits inside the tar reader, and those
/// who write entries. One thread only.
pub(super) struct Meter {
    stream_left: Cell<u64>,
    written_left: Cell<u64>,
    header_left: Cell<Option<u64>>,
    exceeded: Cell<Option<&'static str>>,
}

impl Meter {
    /// From here to [`expect_content`](Self::expect_content) the tar reader
    /// keeps what it reads in memory.
    pub(super) fn expect_header(&self) {
        self.header_left.set(Some(ENTRY_HEADER_BYTES_MAX));
    }

    pub(super) fn expect_content(&self) {
        self.header_left.set(None);
    }

    /// The limit that was reached, if any.
    pub(super) fn exceeded(&self) -> Option<&'static str> {
        self.exceeded.get()
    }

    pub(super) fn bytes_left(&self) -> u64 {
        self.stream_left.get().min(self.written_left.get())
    }

    /// Counts bytes about to be written to disk.
    pub(super) fn count_written(&self, bytes: usize) -> std::io::Result<()> {
        self.take(&self.written_left, bytes, "unpacks to too much data")
    }

    fn count_read(&self, bytes: usize) -> std::io::Result<()> {
        self.take(&self.stream_left, bytes, "decompresses to too much data")?;
        if let Some(left) = self.header_left.get() {
            let left = Cell::new(left);
            self.take(&left, bytes, "has an entry with too large a header")?;
            self.header_left.set(Some(left.get()));
        }
        Ok(())
    }

    fn take(&self, left: &Cell<u64>, bytes: usize, what: &'static str) -> std::io::Result<()> {
        match left.get().checked_sub(bytes as u64) {
            Some(rest) => {
                left.set(rest);
                Ok(())
            }
            None => {
                self.exceeded.set(Some(what));
                Err(std::io::Error::other(what))
            }
        }
    }
}

/// A layer being read.
pub(super) struct LayerStream {
    inner: Ahead,
    hasher: Hasher,
    meter: Rc<Meter>,
}

impl LayerStream {
    pub(super) fn new(inner: Ahead, bytes_max: u64) -> Self {
        let meter = Rc::new(Meter {
            stream_left: Cell::new(bytes_max),
            written_left: Cell::new(bytes_max),
            header_left: Cell::new(None),
            exceeded: Cell::new(None),
        });
        Self { inner, hasher: Hasher::default(), meter }
    }

    pub(super) fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.meter)
    }

    /// Reads what follows the archive's end mark, which the diff id covers too.
    pub(super) fn finish(mut self) -> std::io::Result<Digest> {
        std::io::copy(&mut self, &mut std::io::sink())?;
        Ok(self.hasher.finish())
    }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.count_read(count)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
