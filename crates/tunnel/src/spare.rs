//! The next grant, asked for before it is needed: an agent whose edge is gone attaches
//! elsewhere even if the control plane is gone, too.
//!
//! One that no edge has seen is kept for another attempt or two: where an edge is started
//! again, a thousand agents that each ask for another are more work than the thousand that
//! come back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::grant::{Grant, GrantError, Grants};

/// A grant with less left than this is not worth trying an edge with.
const LEFT_MIN_S: u64 = 15;

/// A grant is exchanged for another when it has less left than this.
const LEFT_WANTED_S: u64 = 90;

/// How often the one that is kept is looked at, and asked for anew after one was taken or
/// none was given.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How often one is tried that no edge has seen. Where it says to attach may be gone for
/// good, which another grant would know.
const TRIES_MAX: u32 = 3;

/// The grant that is kept, and who gives others.
pub(crate) struct Spare {
    kept: Arc<Kept>,
    grants: Arc<dyn Grants>,
    /// How often the last one was tried.
    tries: u32,
}

struct Kept {
    grant: Mutex<Option<Grant>>,
    taken: Notify,
}

impl Kept {
    /// What is there if it will still be good in so many seconds.
    fn is_good(&self, left_s: u64) -> bool {
        let grant = self.grant.lock().unwrap_or_else(PoisonError::into_inner);
        grant.as_ref().is_some_and(|grant| is_good(grant, left_s))
    }

    fn put(&self, grant: Option<Grant>) -> Option<Grant> {
        let mut kept = self.grant.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut kept, grant)
    }
}

fn is_good(grant: &Grant, left_s: u64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    grant.expires_at_s > now.as_secs() + left_s
}

/// Whether an edge can be tried with it.
pub(crate) fn is_worth_trying(grant: &Grant) -> bool {
    is_good(grant, LEFT_MIN_S)
}

impl Spare {
    /// Keeps one until stopped.
    pub(crate) fn start(
        grants: Arc<dyn Grants>,
        first: Option<Grant>,
        stop: CancellationToken,
    ) -> Spare {
        let kept = Arc::new(Kept { grant: Mutex::new(first), taken: Notify::new() });
        let keeping = keep(Arc::clone(&kept), Arc::clone(&grants));
        tokio::spawn(async move { stop.run_until_cancelled(keeping).await });
        Spare { kept, grants, tries: 0 }
    }

    /// A grant for one attempt: each is good once at an edge.
    pub(crate) async fn take(&mut self) -> Result<Grant, GrantError> {
        let kept = self.kept.put(None).filter(is_worth_trying);
        self.kept.taken.notify_one();
        self.tries += 1;
        match kept {
            Some(grant) => Ok(grant),
            None => {
                self.tries = 1;
                self.grants.grant().await
            }
        }
    }

    /// Keeps one that no edge has seen, unless it was tried often enough.
    pub(crate) fn give_back(&mut self, grant: Grant) {
        if self.tries < TRIES_MAX && !self.kept.is_good(LEFT_MIN_S) {
            self.kept.put(Some(grant));
        }
    }

    /// What was taken has served.
    pub(crate) fn used(&mut self) {
        self.tries = 0;
    }

    /// Lets go of what is kept: it is from before the tunnel's tokens were taken back.
    pub(crate) fn discard(&self) {
        self.kept.put(None);
    }
}

/// The next is never in a hurry: it is asked for when the agent has had the time to attach.
async fn keep(kept: Arc<Kept>, grants: Arc<dyn Grants>) {
    kept.taken.notified().await;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if kept.is_good(LEFT_WANTED_S) {
            continue;
        }
        match grants.grant().await {
            Ok(grant) => drop(kept.put(Some(grant))),
            Err(error) => tracing::debug!(%error, "no spare grant"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;

    /// Gives grants that are told apart by their numbers.
    #[derive(Default)]
    struct Numbered(AtomicU32);

    #[async_trait]
    impl Grants for Numbered {
        async fn grant(&self) -> Result<Grant, GrantError> {
            let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(Grant {
                tunnel: String::new(),
                public_url: String::new(),
                candidates: Vec::new(),
                token: number.to_string(),
                expires_at_s: u64::MAX,
                edge_roots: String::new(),
            })
        }
    }

    #[tokio::test]
    async fn a_grant_that_no_edge_has_seen_is_tried_again_and_not_for_ever() {
        let grants = Arc::new(Numbered::default());
        let stop = CancellationToken::new();
        let mut spare = Spare::start(Arc::clone(&grants) as _, None, stop.clone());
        let mut tried = Vec::new();
        for _ in 0..TRIES_MAX + 1 {
            let grant = spare.take().await.unwrap();
            tried.push(grant.token.clone());
            spare.give_back(grant);
        }
        assert_eq!(tried, ["1", "1", "1", "2"]);
        spare.used();
        assert_eq!(spare.take().await.unwrap().token, "2", "it is there still");
        assert_eq!(spare.take().await.unwrap().token, "3", "and was taken");
        stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_is_asked_for_some_time_after_one_was_taken() {
        let grants = Arc::new(Numbered::default());
        let first = grants.grant().await.unwrap();
        let stop = CancellationToken::new();
        let mut spare = Spare::start(Arc::clone(&grants) as _, Some(first), stop.clone());
        assert_eq!(spare.take().await.unwrap().token, "1");
        tokio::time::sleep(LOOK_EVERY / 2).await;
        assert_eq!(grants.0.load(Ordering::Relaxed), 1, "it was in a hurry");
        tokio::time::sleep(LOOK_EVERY).await;
        assert_eq!(spare.take().await.unwrap().token, "2");
        stop.cancel();
    }
}
