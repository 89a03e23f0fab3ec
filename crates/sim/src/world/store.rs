//! The fake durable log, as every replica sees it: one gap-free sequence,
//! receipts with the batches that caused them, a snapshot, and the lease under
//! which reconcilers run.
//!
//! It keeps the contract of `EventLog`: all of a batch or nothing, and nothing
//! when the head is not the expected one or a receipt's key exists.

use std::collections::BTreeMap;

use helix_control::round::Stored;
use helix_model::{Recorded, State};

use crate::agenda::Moment;

/// How long a lease is good for.
pub(crate) const LEASE_MS: u64 = 3000;

/// What one append writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub expected: u64,
    pub entries: Vec<Recorded>,
    pub receipts: Vec<(String, Stored)>,
}

#[derive(Default)]
pub(crate) struct Store {
    pub entries: Vec<Recorded>,
    pub receipts: BTreeMap<String, Stored>,
    /// The written form of a state, as of some position.
    pub snapshot: Option<Vec<u8>>,
    lease: Option<(usize, Moment)>,
}

impl Store {
    pub(crate) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Appends all or nothing; whether it did.
    pub(crate) fn append(&mut self, batch: &Batch) -> bool {
        let repeated = batch.receipts.iter().any(|(key, _)| self.receipts.contains_key(key));
        if batch.expected != self.head() || repeated {
            return false;
        }
        self.entries.extend(batch.entries.iter().cloned());
        self.receipts.extend(batch.receipts.iter().cloned());
        true
    }

    /// Brings a state up to the head.
    pub(crate) fn replay(&self, state: &mut State) {
        let from = usize::try_from(state.position).unwrap_or(usize::MAX);
        for recorded in self.entries.iter().skip(from) {
            state.apply(state.position + 1, recorded.at, &recorded.event);
        }
    }

    /// The state a starting replica begins from.
    pub(crate) fn load(&self) -> State {
        let read = self.snapshot.as_ref().and_then(|bytes| serde_json::from_slice(bytes).ok());
        let mut state = read.unwrap_or_default();
        self.replay(&mut state);
        state
    }

    /// Takes or renews the lease; whether `replica` has it now.
    pub(crate) fn lease(&mut self, replica: usize, now: Moment) -> bool {
        let free = self.lease.is_none_or(|(holder, until)| holder == replica || until <= now);
        if free {
            self.lease = Some((replica, now + LEASE_MS));
        }
        free
    }
}
