//! The access log: one line for each request, `METHOD PATH STATUS BYTES
//! DURATION_MS`, written by a thread of its own.
//!
//! Start at [`AccessWriter`]. Requests add to a buffer and never wait for the
//! reader of the log: when that one stops reading, lines are dropped and
//! counted. A channel of lines was rejected: it wakes the writer for each line,
//! the buffer only when it was empty.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Method;

/// Some ten thousand lines: seconds of a busy server whose log is not read.
const BUFFER_MAX_BYTES: usize = 512 * 1024;

/// How long the end of the server waits for its last lines to be written; for
/// ever would let a reader that hangs keep the process from ending.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Where access lines go.
pub enum AccessLog {
    Off,
    Stdout,
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessLog::Off => "Off",
            AccessLog::Stdout => "Stdout",
            AccessLog::Writer(_) => "Writer",
        })
    }
}

/// The running writer; dropping it writes what is left and ends the thread.
pub(crate) struct AccessWriter {
    shared: Option<Arc<Shared>>,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    dropped: u64,
    closed: bool,
    finished: bool,
}

impl AccessWriter {
    pub(crate) fn start(log: AccessLog) -> io::Result<AccessWriter> {
        let mut sink: Box<dyn Write + Send> = match log {
            AccessLog::Off => {
                return Ok(AccessWriter { shared: None });
            }
            AccessLog::Stdout => Box::new(io::stdout()),
            AccessLog::Writer(sink) => sink,
        };
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            of_thread.write_until_closed(&mut *sink);
            of_thread.pending().finished = true;
            of_thread.changed.notify_all();
        })?;
        Ok(AccessWriter { shared: Some(shared) })
    }

    /// The line of a request that begins now.
    pub(crate) fn begin(&self, method: &Method, path: &str) -> AccessLine {
        let to = self.shared.clone().map(|shared| {
            let request = format!("{method} {path}");
            Started { shared, request, at: Instant::now() }
        });
        AccessLine { to, status: 0, bytes: 0 }
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let mut pending = shared.pending();
        pending.closed = true;
        shared.changed.notify_all();
        let waited =
            shared.changed.wait_timeout_while(pending, LAST_LINES_TIMEOUT, |it| !it.finished);
        drop(waited);
    }
}

impl Shared {
    /// Every change is a whole one, so a panic elsewhere leaves nothing broken.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: fmt::Arguments<'_>) {
        let mut pending = self.pending();
        if pending.lines.len() >= BUFFER_MAX_BYTES {
            pending.dropped += 1;
            return;
        }
        let was_empty = pending.lines.is_empty();
        // Writing to a vector cannot fail.
        let _ = pending.lines.write_fmt(line);
        drop(pending);
        if was_empty {
            self.changed.notify_all();
        }
    }

    fn write_until_closed(&self, sink: &mut dyn Write) {
        let mut lines = Vec::new();
        loop {
            let mut pending = self.pending();
            while pending.lines.is_empty() && !pending.closed {
                pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            if pending.lines.is_empty() {
                return;
            }
            std::mem::swap(&mut pending.lines, &mut lines);
            let dropped = std::mem::take(&mut pending.dropped);
            drop(pending);
            if dropped > 0 {
                tracing::warn!(dropped, "access lines dropped, their reader is too slow");
            }
            if let Err(error) = sink.write_all(&lines).and_then(|()| sink.flush()) {
                tracing::warn!(%error, "access lines lost, could not write them");
            }
            lines.clear();
        }
    }
}

/// Travels with the response and writes its line when the last byte has been
/// handed over, or when the client went away before.
pub(crate) struct AccessLine {
    to: Option<Started>,
    pub(crate) status: u16,
    /// Of the body, so far.
    pub(crate) bytes: u64,
}

struct Started {
    shared: Arc<Shared>,
    request: String,
    at: Instant,
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let Some(Started { shared, request, at }) = self.to.take() else {
            return;
        };
        let duration_ms = at.elapsed().as_secs_f64() * 1000.0;
        let AccessLine { status, bytes, .. } = self;
        shared.add(format_args!("{request} {status} {bytes} {duration_ms:.3}\n"));
    }
}
