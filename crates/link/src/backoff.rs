//! When to try again: later each time, and never all at once.

use std::time::Duration;

/// The first pause is up to this.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// And no pause is longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Pauses between attempts to connect, doubling from 1 s to 30 s. Each is drawn
/// from its upper half, so that a thousand nodes whose server died do not come
/// back in the same instant.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after another failure; `random` decides where in its range.
    pub fn next(&mut self, random: u64) -> Duration {
        let range = PAUSE_MIN.saturating_mul(1 << self.failures.min(5)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        let half = range / 2;
        let share = (random % 1024) as u32;
        half + half * share / 1024
    }

    /// It worked: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> =
            (0..8).map(|_| backoff.next(0).as_millis().try_into().unwrap()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
        backoff.reset();
        let random = backoff.next(u64::MAX);
        assert!(random > Duration::from_millis(900) && random < PAUSE_MIN, "{random:?}");
    }
}
