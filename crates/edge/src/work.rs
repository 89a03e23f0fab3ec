//! Open work per instance: connections (TCP) and requests in flight (HTTP).
//!
//! One [`Work`] exists per instance however many routing tables come and go, so
//! "drained" can be said with certainty. The draining mark and the count share
//! one atomic: work opened against an old table either counts before the mark
//! is read or is refused because of it, never neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

const DRAINING: u64 = 1 << 63;

/// The open work of one instance.
#[derive(Debug)]
pub(crate) struct Work {
    state: AtomicU64,
    /// Told when a draining instance's last work ends.
    drained: Arc<Notify>,
}

/// One piece of open work; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OpenWork(Arc<Work>);

impl Work {
    pub(crate) fn new(drained: Arc<Notify>) -> Work {
        Work { state: AtomicU64::new(0), drained }
    }

    /// Opens a piece of work, unless the instance is draining.
    pub(crate) fn open(self: &Arc<Work>) -> Option<OpenWork> {
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        let opened = OpenWork(Arc::clone(self));
        (before & DRAINING == 0).then_some(opened)
    }

    /// Marks the instance as draining, or as serving again.
    pub(crate) fn set_draining(&self, draining: bool) {
        if draining {
            self.state.fetch_or(DRAINING, Ordering::AcqRel);
        } else {
            self.state.fetch_and(!DRAINING, Ordering::AcqRel);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) & !DRAINING == 0
    }
}

impl Drop for OpenWork {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::AcqRel) == DRAINING | 1 {
            self.0.drained.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_draining_instance_takes_no_work_and_tells_when_its_last_ends() {
        let drained = Arc::new(Notify::new());
        let work = Arc::new(Work::new(Arc::clone(&drained)));
        let (first, second) = (work.open().unwrap(), work.open().unwrap());
        drop(first);
        work.set_draining(true);
        assert!(work.open().is_none());
        assert!(!work.is_idle());
        drop(second);
        assert!(work.is_idle());
        drained.notified().await;
        work.set_draining(false);
        assert!(work.open().is_some());
    }
}
