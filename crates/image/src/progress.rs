//! How far a transfer has come, told to whoever wants to draw it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Receives the state of a transfer. Called often, from several tasks: an
/// implementation stores the numbers and draws them at its own pace.
pub trait Progress: Send + Sync {
    /// `done` of `total` bytes are here or were here already.
    fn bytes(&self, done: u64, total: u64);
}

/// Nobody is watching.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn bytes(&self, _done: u64, _total: u64) {}
}

/// Adds up what parallel transfers report.
pub(crate) struct Meter<'a> {
    sink: &'a dyn Progress,
    done: AtomicU64,
    total: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(sink: &'a dyn Progress, total: u64) -> Self {
        sink.bytes(0, total);
        Self { sink, done: AtomicU64::new(0), total }
    }

    pub(crate) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.sink.bytes(done.min(self.total), self.total);
    }

    /// Takes back what a failed attempt had reported.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }
}
