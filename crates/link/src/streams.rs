//! The streams of one link that are open, as the reader of the transport sees
//! them: where what comes in goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use crate::error::StreamError;
use crate::gauge::Gauge;
use crate::limits::{STREAMS_MAX, WINDOW_BYTES};

/// What a stream's reader is told.
#[derive(Debug)]
pub(crate) enum Inbound {
    Fragment { payload: Bytes, last: bool },
    Datagram(Bytes),
    End,
    Reset(String),
}

/// An open stream.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Unbounded, because the gauge bounds it.
    pub(crate) inbound: mpsc::UnboundedSender<Inbound>,
    pub(crate) gauge: Arc<Gauge>,
    /// What may still be sent.
    pub(crate) credit: Arc<Semaphore>,
    pub(crate) closed_here: bool,
    pub(crate) closed_there: bool,
}

/// What the halves of a stream are made of.
pub(crate) struct Parts {
    pub(crate) inbound: mpsc::UnboundedReceiver<Inbound>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) credit: Arc<Semaphore>,
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Mutex<HashMap<u32, Entry>>,
}

impl Streams {
    pub(crate) fn insert(&self, id: u32) -> Result<Parts, StreamError> {
        let mut open = self.lock();
        if open.len() >= STREAMS_MAX {
            return Err(StreamError::TooMany { limit: STREAMS_MAX });
        }
        let (sender, inbound) = mpsc::unbounded_channel();
        let gauge = Arc::new(Gauge::full());
        let credit = Arc::new(Semaphore::new(WINDOW_BYTES));
        let parts = Parts { inbound, gauge: Arc::clone(&gauge), credit: Arc::clone(&credit) };
        let (closed_here, closed_there) = (false, false);
        open.insert(id, Entry { inbound: sender, gauge, credit, closed_here, closed_there });
        Ok(parts)
    }

    /// Does something with a stream if it is open, and forgets it once both
    /// sides have closed.
    pub(crate) fn with<T>(&self, id: u32, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut open = self.lock();
        let entry = open.get_mut(&id)?;
        let result = act(entry);
        if entry.closed_here && entry.closed_there {
            open.remove(&id);
        }
        Some(result)
    }

    /// Ends a stream for both sides; whether it was open.
    pub(crate) fn reset(&self, id: u32, reason: Option<String>) -> bool {
        let Some(entry) = self.lock().remove(&id) else {
            return false;
        };
        entry.credit.close();
        if let Some(reason) = reason {
            // Its reader may be gone already.
            let _ = entry.inbound.send(Inbound::Reset(reason));
        }
        true
    }

    /// Ends all of them.
    pub(crate) fn clear(&self) {
        for (_, entry) in self.lock().drain() {
            entry.credit.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
