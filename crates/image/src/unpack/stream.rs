//! The bytes of a layer: decompressed, hashed and counted on the way.
//!
//! What the compression is, the first bytes tell; media types are often wrong
//! and the diff id proves the result anyway.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::rc::Rc;

use crate::digest::{Digest, Hasher};
use crate::limits::{ENTRY_HEADER_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};

const BUFFER_BYTES: usize = 128 * 1024;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

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
pub(super) struct LayerStream<R: Read> {
    inner: Decoder<BufReader<R>>,
    hasher: Hasher,
    meter: Rc<Meter>,
}

enum Decoder<R: BufRead> {
    Plain(R),
    Gzip(flate2::bufread::MultiGzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: Read> LayerStream<R> {
    pub(super) fn new(input: R, bytes_max: u64) -> std::io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        let start = input.fill_buf()?;
        let inner = if start.starts_with(GZIP_MAGIC) {
            Decoder::Gzip(flate2::bufread::MultiGzDecoder::new(input))
        } else if start.starts_with(ZSTD_MAGIC) {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Decoder::Zstd(decoder)
        } else {
            Decoder::Plain(input)
        };
        let meter = Rc::new(Meter {
            stream_left: Cell::new(bytes_max),
            written_left: Cell::new(bytes_max),
            header_left: Cell::new(None),
            exceeded: Cell::new(None),
        });
        Ok(Self { inner, hasher: Hasher::default(), meter })
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

impl<R: Read> Read for LayerStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = match &mut self.inner {
            Decoder::Plain(reader) => reader.read(buffer)?,
            Decoder::Gzip(reader) => reader.read(buffer)?,
            Decoder::Zstd(reader) => reader.read(buffer)?,
        };
        self.meter.count_read(count)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
