//! Open work per instance: connections (TCP) and requests in flight (HTTP).
//!
//! One [`Work`] exists per instance however many routing tables come and go, so
//! "drained" can be said with certainty. The draining mark and the count share
//! one atomic: work opened against an old table either counts before the mark
//! is read or is refused because of it, never neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::admission::Admitted;

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
pub(crate) struct OpenWork {
    work: Arc<Work>,
    /// What let it in; counted for as long.
    admitted: Option<Admitted>,
}

impl OpenWork {
    /// The same, let in by this.
    pub(crate) fn admitted(mut self, admitted: Admitted) -> OpenWork {
        self.admitted = Some(admitted);
        self
    }
}

impl Work {
    pub(crate) fn new(drained: Arc<Notify>) -> Work {
        Work { state: AtomicU64::new(0), drained }
    }

    /// Opens a piece of work, unless the instance is draining.
    pub(crate) fn open(self: &Arc<Work>) -> Option<OpenWork> {
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        let opened = OpenWork { work: Arc::clone(self), admitted: None };
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
        self.count() == 0
    }

    /// How many pieces are open.
    pub(crate) fn count(&self) -> u64 {
        self.state.load(Ordering::Acquire) & !DRAINING
    }
}

impl Drop for OpenWork {
    fn drop(&mut self) {
        if self.work.state.fetch_sub(1, Ordering::AcqRel) == DRAINING | 1 {
            self.work.drained.notify_one();
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
