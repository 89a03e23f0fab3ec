//! What is known of every instance of this machine, for whoever tells the
//! control plane. Only changes are sent; the whole can be read at any time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use helix_model::instance::{Observed, Phase};
use helix_model::{Id, Instance};
use tokio::sync::broadcast;

/// Changes buffered towards a slow listener. One that falls behind reads the
/// whole again.
const CHANGES_BUFFERED: usize = 1024;

/// Stopped instances still listed. The control plane may not have been there
/// to hear of it; older ones it concludes from their absence.
const STOPPED_KEPT: usize = 256;

/// One change.
pub type Observation = (Id<Instance>, Observed);

#[derive(Default)]
struct Known {
    all: BTreeMap<Id<Instance>, Observed>,
    /// In the order in which they stopped.
    stopped: VecDeque<Id<Instance>>,
}

/// The board.
pub(crate) struct Board {
    known: Mutex<Known>,
    changes: broadcast::Sender<Observation>,
}

impl Board {
    pub(crate) fn new() -> Board {
        let known = Mutex::new(Known::default());
        Board { known, changes: broadcast::Sender::new(CHANGES_BUFFERED) }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Observation> {
        self.changes.subscribe()
    }

    pub(crate) fn current(&self) -> Vec<Observation> {
        self.lock().all.iter().map(|(id, observed)| (*id, observed.clone())).collect()
    }

    /// Notes and sends what is seen of an instance, unless it is nothing new.
    pub(crate) fn report(&self, id: Id<Instance>, observed: Observed) {
        let mut known = self.lock();
        if known.all.get(&id) == Some(&observed) {
            return;
        }
        known.stopped.retain(|stopped| *stopped != id);
        if observed.phase == Phase::Stopped {
            known.stopped.push_back(id);
        }
        known.all.insert(id, observed.clone());
        if known.stopped.len() > STOPPED_KEPT
            && let Some(oldest) = known.stopped.pop_front()
        {
            known.all.remove(&oldest);
        }
        // Sent under the lock, so that changes arrive in the order they are
        // noted. Nobody listening is fine.
        let _ = self.changes.send((id, observed));
    }

    /// The plan asks of an instance that is not here: it has stopped, as far as
    /// anyone can tell.
    pub(crate) fn report_gone(&self, id: Id<Instance>) {
        let is_told = self.lock().all.get(&id).is_some_and(|it| it.phase == Phase::Stopped);
        if !is_told {
            self.report(id, Observed { phase: Phase::Stopped, ..Observed::default() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use helix_model::Timestamp;

    use super::*;

    fn seen(phase: Phase) -> Observed {
        Observed { phase, ..Observed::default() }
    }

    #[test]
    fn only_changes_are_sent_and_the_stopped_are_forgotten_in_time() {
        let board = Board::new();
        let mut changes = board.subscribe();
        let id = |number: u128| Id::new(Timestamp(1), number);
        board.report(id(0), seen(Phase::Ready));
        board.report(id(0), seen(Phase::Ready));
        assert_eq!(changes.try_recv().unwrap().1.phase, Phase::Ready);
        assert!(changes.try_recv().is_err());
        for number in 1..=STOPPED_KEPT as u128 + 1 {
            board.report(id(number), seen(Phase::Stopped));
        }
        let current = board.current();
        assert_eq!(current.len(), STOPPED_KEPT + 1);
        assert!(current.iter().all(|(known, _)| *known != id(1)));
    }
}
