//! What may still come in on a stream. The reader of the transport takes from
//! it, the stream's reader puts back what it granted anew.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{DATAGRAM_COST_MIN, FRAGMENT_COST, WINDOW_BYTES};

/// What a fragment of this payload takes of a window.
pub(crate) fn cost(payload: usize) -> usize {
    payload + FRAGMENT_COST
}

/// What a datagram that waits takes of the room for them.
fn datagram_cost(payload: usize) -> usize {
    payload.max(DATAGRAM_COST_MIN)
}

#[derive(Debug)]
pub(crate) struct Gauge {
    window: AtomicUsize,
    /// Room for datagrams, which nobody on the other side counts.
    room: AtomicUsize,
}

impl Gauge {
    pub(crate) fn full() -> Gauge {
        Gauge { window: AtomicUsize::new(WINDOW_BYTES), room: AtomicUsize::new(WINDOW_BYTES) }
    }

    /// `false` when that much was never granted.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        take(&self.window, bytes)
    }

    pub(crate) fn grant(&self, bytes: usize) {
        self.window.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Whether there is room for another datagram to wait.
    pub(crate) fn take_datagram(&self, payload: usize) -> bool {
        take(&self.room, datagram_cost(payload))
    }

    /// One that waited was read.
    pub(crate) fn read_datagram(&self, payload: usize) {
        self.room.fetch_add(datagram_cost(payload), Ordering::AcqRel);
    }
}

fn take(of: &AtomicUsize, bytes: usize) -> bool {
    let take = |left: usize| left.checked_sub(bytes);
    of.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
}
