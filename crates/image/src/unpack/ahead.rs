//! Decompressing on a thread of its own, a little ahead of whoever makes files out of
//! it: both take about as long, and neither waits for the other.
//!
//! What the compression is, the first bytes tell; media types are often wrong
//! and the diff id proves the result anyway.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::limits::{CHUNK_AHEAD_BYTES, CHUNKS_AHEAD, ZSTD_WINDOW_LOG_MAX};

const BUFFER_BYTES: usize = 128 * 1024;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The decompressed bytes, in order.
pub(super) struct Ahead {
    chunks: Receiver<std::io::Result<Vec<u8>>>,
    /// Chunks that were read, to be filled again.
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    read: usize,
}

/// Decompresses `input` while `work` reads what comes out. An error comes where the
/// bytes behind it would have.
pub(super) fn read_ahead<T>(input: impl Read + Send, work: impl FnOnce(Ahead) -> T) -> T {
    thread::scope(|scope| {
        let (filled, chunks) = sync_channel(CHUNKS_AHEAD);
        let (used, empty) = channel();
        scope.spawn(move || fill(input, &filled, &empty));
        // Who stops reading drops the channels, and the thread ends with its chunk.
        work(Ahead { chunks, used, chunk: Vec::new(), read: 0 })
    })
}

fn fill(
    input: impl Read,
    filled: &SyncSender<std::io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) {
    let mut decoder = match Decoder::new(BufReader::with_capacity(BUFFER_BYTES, input)) {
        Ok(decoder) => decoder,
        Err(error) => {
            // Nobody reads any more if it cannot be told.
            let _ = filled.send(Err(error));
            return;
        }
    };
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        chunk.clear();
        chunk.reserve(CHUNK_AHEAD_BYTES);
        let outcome = (&mut decoder).take(CHUNK_AHEAD_BYTES as u64).read_to_end(&mut chunk);
        let ended = chunk.is_empty();
        if !ended && filled.send(Ok(chunk)).is_err() {
            return;
        }
        match outcome {
            Ok(_) if ended => return,
            Ok(_) => {}
            Err(error) => {
                let _ = filled.send(Err(error));
                return;
            }
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.chunk.len() {
            match self.chunks.recv() {
                Ok(Ok(chunk)) => {
                    let used = std::mem::replace(&mut self.chunk, chunk);
                    self.read = 0;
                    // Fails when everything is decompressed.
                    let _ = self.used.send(used);
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(0),
            }
        }
        let count = (&self.chunk[self.read..]).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

enum Decoder<R: BufRead> {
    Plain(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Decoder<R> {
    fn new(mut input: R) -> std::io::Result<Self> {
        let start = input.fill_buf()?;
        if start.starts_with(GZIP_MAGIC) {
            Ok(Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))))
        } else if start.starts_with(ZSTD_MAGIC) {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Decoder::Zstd(decoder))
        } else {
            Ok(Decoder::Plain(input))
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Decoder::Plain(reader) => reader.read(buffer),
            Decoder::Gzip(reader) => reader.read(buffer),
            Decoder::Zstd(reader) => reader.read(buffer),
        }
    }
}
