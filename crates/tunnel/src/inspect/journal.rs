//! The last requests, and who waits for the next.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::exchange::{Answered, Asked, Exchange, Kept};
use super::{KEPT_REQUESTS_MAX, lock};

/// Keeps the last [`KEPT_REQUESTS_MAX`] requests.
pub struct Journal {
    pages: Mutex<Pages>,
    /// The newest revision.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Pages {
    /// Their ids have no gaps.
    exchanges: VecDeque<Exchange>,
    last_id: u64,
    revision: u64,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { pages: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

/// One request's place in a journal; it is over at the latest when this is gone.
pub(super) struct Record {
    journal: Arc<Journal>,
    id: u64,
}

impl Journal {
    /// A page for this request.
    pub(super) fn begin(
        self: &Arc<Journal>,
        asked: Asked,
        client: Option<IpAddr>,
        replay_of: Option<u64>,
    ) -> Arc<Record> {
        let mut pages = lock(&self.pages);
        pages.last_id += 1;
        pages.revision += 1;
        let (id, revision) = (pages.last_id, pages.revision);
        if pages.exchanges.len() == KEPT_REQUESTS_MAX {
            pages.exchanges.pop_front();
        }
        pages.exchanges.push_back(Exchange {
            id,
            revision,
            at: OffsetDateTime::now_utc(),
            began: Instant::now(),
            client,
            replay_of,
            asked,
            sent: Kept::default(),
            answered: None,
            received: Kept::default(),
            took: None,
            failure: None,
        });
        drop(pages);
        self.changed.send_replace(revision);
        Arc::new(Record { journal: Arc::clone(self), id })
    }

    /// What is made of one, if it is kept still.
    pub(super) fn look<T>(&self, id: u64, look: impl FnOnce(&Exchange) -> T) -> Option<T> {
        let pages = lock(&self.pages);
        let first = pages.exchanges.front()?.id;
        let index = usize::try_from(id.checked_sub(first)?).ok()?;
        pages.exchanges.get(index).map(look)
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Exchange)) {
        let mut pages = lock(&self.pages);
        let Some(first) = pages.exchanges.front().map(|it| it.id) else { return };
        let index = id.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        let revision = pages.revision + 1;
        let Some(exchange) = index.and_then(|index| pages.exchanges.get_mut(index)) else {
            return;
        };
        change(exchange);
        exchange.revision = revision;
        pages.revision = revision;
        drop(pages);
        self.changed.send_replace(revision);
    }

    /// What is made of those that changed after a revision, in the order in which they
    /// did, and the newest revision.
    pub(super) fn since<T>(
        &self,
        revision: u64,
        look: impl FnMut(&Exchange) -> T,
    ) -> (Vec<T>, u64) {
        let pages = lock(&self.pages);
        let mut newer: Vec<&Exchange> =
            pages.exchanges.iter().filter(|it| it.revision > revision).collect();
        newer.sort_by_key(|it| it.revision);
        (newer.into_iter().map(look).collect(), pages.revision)
    }

    /// The newest revision, whenever that changes.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Record {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn answered(&self, answered: Answered) {
        self.journal.change(self.id, |exchange| exchange.answered = Some(answered));
    }

    /// Why it comes to nothing.
    pub(super) fn failed(&self, why: &str) {
        self.journal.change(self.id, |exchange| {
            exchange.failure.get_or_insert_with(|| why.to_owned());
        });
    }

    /// A change to what is kept of the request's body, or of the answer's.
    pub(super) fn body(&self, side: Side, change: impl FnOnce(&mut Kept)) {
        self.journal.change(self.id, |exchange| match side {
            Side::Request => change(&mut exchange.sent),
            Side::Response => change(&mut exchange.received),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.journal.change(self.id, |exchange| {
            exchange.took = Some(exchange.began.elapsed());
            if exchange.answered.is_none() && exchange.failure.is_none() {
                exchange.failure = Some("the visitor went before there was an answer".to_owned());
            }
        });
    }
}

/// Which of the two bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode};

    use super::*;

    fn asked(number: usize) -> Asked {
        Asked {
            method: Method::GET,
            target: format!("/{number}"),
            headers: HeaderMap::new(),
            is_upgrade: false,
        }
    }

    #[test]
    fn the_newest_are_kept_and_found_by_id() {
        let journal = Arc::new(Journal::default());
        for number in 1..=KEPT_REQUESTS_MAX + 5 {
            journal.begin(asked(number), None, None);
        }
        let target = |id| journal.look(id, |exchange| exchange.asked.target.clone());
        assert_eq!(target(5), None);
        assert_eq!(target(6).as_deref(), Some("/6"));
        assert_eq!(target(KEPT_REQUESTS_MAX as u64 + 5).as_deref(), Some("/205"));
        assert_eq!(target(KEPT_REQUESTS_MAX as u64 + 6), None);
        assert_eq!(target(0), None);
    }

    #[test]
    fn who_follows_is_told_of_each_change_once() {
        let journal = Arc::new(Journal::default());
        let (first, _second) =
            (journal.begin(asked(1), None, None), journal.begin(asked(2), None, None));
        let (told, revision) = journal.since(0, |exchange| exchange.id);
        assert_eq!(told, [1, 2]);
        assert_eq!(journal.since(revision, |exchange| exchange.id), (Vec::new(), revision));
        first.answered(Answered { status: StatusCode::OK, headers: HeaderMap::new() });
        drop(first);
        let (told, revision) = journal.since(revision, Exchange::summary);
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0]["id"], &told[0]["state"]), (&1.into(), &"done".into()));
        assert_eq!(journal.since(revision, |exchange| exchange.id).0, [0; 0]);
    }
}
