//! How much of an endpoint's traffic is let in: so many at a time, and so many a second.
//!
//! Both are atomics that last as long as the endpoint, whatever tables come and go.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use helix_model::manifest::Handling;
use tokio::time::Instant;

use crate::meter::Why;

/// Times are kept as nanoseconds since this moment.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

const SECOND_NS: u64 = 1_000_000_000;

/// What is open on one endpoint, and when the next may begin.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    open: AtomicU32,
    /// When all that has begun will have been made up for, at the rate that is allowed
    /// (the theoretical arrival time of the generic cell rate algorithm).
    due_ns: AtomicU64,
}

/// A connection, request or session that was let in; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted(Option<Arc<Admission>>);

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Admission {
    /// Lets one more in, or says why not. What is unlimited is not counted.
    pub(crate) fn admit(self: &Arc<Admission>, handling: &Handling) -> Result<Admitted, Why> {
        let mut admitted = Admitted(None);
        if let Some(max) = handling.max_connections {
            let before = self.open.fetch_add(1, Ordering::Relaxed);
            admitted = Admitted(Some(Arc::clone(self)));
            if before >= max {
                return Err(Why::MaxConnections);
            }
        }
        match handling.max_per_second {
            Some(rate) if !self.is_in_time(rate.into()) => Err(Why::RateLimit),
            _ => Ok(admitted),
        }
    }

    /// Takes one of as many as there are for a second. Those of one second may come at
    /// once: clients come in bursts, and who is within the rate should not notice it.
    fn is_in_time(&self, rate: u64) -> bool {
        let now = u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let each = SECOND_NS / rate.max(1);
        let taken = self.due_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let next = due.max(now) + each;
            (next - now <= SECOND_NS).then_some(next)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_are_let_in_than_may_be() {
        let (admission, handling) = (
            Arc::new(Admission::default()),
            Handling { max_connections: Some(2), ..Handling::default() },
        );
        let (first, second) = (admission.admit(&handling), admission.admit(&handling));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(admission.admit(&handling).err(), Some(Why::MaxConnections));
        drop(first);
        assert!(admission.admit(&handling).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_has_so_many_and_they_come_back_one_by_one() {
        let (admission, handling) = (
            Arc::new(Admission::default()),
            Handling { max_per_second: Some(10), ..Handling::default() },
        );
        let admitted = || (0..100).filter(|_| admission.admit(&handling).is_ok()).count();
        assert_eq!(admitted(), 10);
        assert_eq!(admission.admit(&handling).err(), Some(Why::RateLimit));
        for (wait_ms, expected) in [(99, 0), (1, 1), (500, 5), (60_000, 10)] {
            tokio::time::advance(Duration::from_millis(wait_ms)).await;
            assert_eq!(admitted(), expected, "after {wait_ms} ms more");
        }
    }
}
