//! Writing lines, on a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Stdout, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::LogTarget;
use super::line::Entry;

/// How often it is looked whether the file was moved away.
const LOOK: Duration = Duration::from_secs(1);

/// How long the writer rests when there is nothing to write; flags wait for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// What is gathered before it is written while lines keep coming.
const BUFFER_BYTES: usize = 64 * 1024;

/// How often a disk that takes nothing is complained of.
const COMPLAINT: Duration = Duration::from_secs(60);

/// What the writer is told besides lines.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// To open the file anew.
    pub(super) reopen: AtomicBool,
    /// To end once nothing is left.
    pub(super) ending: AtomicBool,
}

/// Who writes.
pub(super) struct Writer {
    to: LogTarget,
    out: Out,
    buffer: Vec<u8>,
    lines: u64,
    dropped: Arc<AtomicU64>,
    flags: Arc<Flags>,
    looked: Instant,
    complained: Option<Instant>,
}

enum Out {
    Stdout(Stdout),
    File(File),
}

impl Writer {
    pub(super) fn open(
        to: LogTarget,
        dropped: Arc<AtomicU64>,
        flags: Arc<Flags>,
    ) -> io::Result<Writer> {
        let out = open(&to)?;
        let (buffer, looked) = (Vec::with_capacity(BUFFER_BYTES), Instant::now());
        Ok(Writer { to, out, buffer, lines: 0, dropped, flags, looked, complained: None })
    }

    pub(super) fn run(mut self, entries: &Receiver<Box<Entry>>) {
        loop {
            if let Ok(entry) = entries.try_recv() {
                self.take(&entry);
                self.look();
                continue;
            }
            // Nothing more comes for the moment.
            self.flush();
            self.look();
            if self.flags.ending.load(Ordering::Acquire) {
                return;
            }
            match entries.recv_timeout(PAUSE) {
                Ok(entry) => self.take(&entry),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn take(&mut self, entry: &Entry) {
        if serde_json::to_writer(&mut self.buffer, entry).is_ok() {
            self.buffer.push(b'\n');
            self.lines += 1;
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = match &mut self.out {
            Out::Stdout(out) => out.write_all(&self.buffer).and_then(|()| out.flush()),
            Out::File(file) => file.write_all(&self.buffer),
        };
        if let Err(error) = written {
            self.dropped.fetch_add(self.lines, Ordering::Relaxed);
            self.complain(&error);
        }
        self.buffer.clear();
        self.lines = 0;
    }

    /// Opens the file anew when that was asked for, or it is not where it was.
    fn look(&mut self) {
        let LogTarget::File(path) = &self.to else { return };
        let asked = self.flags.reopen.swap(false, Ordering::AcqRel);
        if !asked && self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if !asked && is_still_there(&self.out, path) {
            return;
        }
        // What came before belongs to the file before.
        self.flush();
        match open(&self.to) {
            Ok(out) => self.out = out,
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            tracing::warn!(to = ?self.to, %error, "lines of the access log are lost");
        }
    }
}

fn open(to: &LogTarget) -> io::Result<Out> {
    Ok(match to {
        LogTarget::Stdout => Out::Stdout(io::stdout()),
        LogTarget::File(path) => {
            let mut options = OpenOptions::new();
            // Who asks for what is nobody else's business.
            Out::File(options.append(true).create(true).mode(0o640).open(path)?)
        }
    })
}

fn is_still_there(out: &Out, path: &Path) -> bool {
    let Out::File(file) = out else { return true };
    match (file.metadata(), path.metadata()) {
        (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
