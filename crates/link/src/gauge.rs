//! What may still come in on a stream. The reader of the transport takes from
//! it, the stream's reader puts back what it granted anew.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{FRAGMENT_COST, WINDOW_BYTES};

/// What a fragment of this payload takes of a window.
pub(crate) fn cost(payload: usize) -> usize {
    payload + FRAGMENT_COST
}

#[derive(Debug)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    pub(crate) fn full() -> Gauge {
        Gauge(AtomicUsize::new(WINDOW_BYTES))
    }

    /// `false` when that much was never granted.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    pub(crate) fn grant(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }
}
