//! Restart policy: whether an ended program is started again, and after which
//! pause. Pure counting; start at [`Crashes::record`].

use std::time::Duration;

use helix_model::manifest::{Restart, RestartPolicy};

/// Longest pause before another start. Longer ones only make people restart by
/// hand; shorter ones let a broken program eat the machine.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Shortest pause after a program that never served, so that `backoff_seconds
/// = 0` is no busy loop.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Shortest pause after a start that the machine is to blame for, which costs it
/// work of its own.
const MACHINE_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Serving this long proves the program sound: the count begins anew.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// A program that served this long is started again at once the first time:
/// whatever ended it is unlikely to be waiting at its start.
const IMMEDIATE_AFTER: Duration = Duration::from_secs(10);

/// From this many crashes in a row on it is a crash loop.
pub(crate) const LOOP_AT: u32 = 3;

/// Crashes in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crashes {
    pub(crate) in_a_row: u32,
    /// Starts in a row that came to nothing for a reason of the machine's.
    not_started: u32,
}

impl Crashes {
    /// Counts one more end of the program. `clean` is an exit with status 0,
    /// `served` how long it was ready. Returns the pause before the next start,
    /// `None` when there is to be none.
    pub(crate) fn record(
        &mut self,
        restart: &Restart,
        clean: bool,
        served: Option<Duration>,
    ) -> Option<Duration> {
        self.not_started = 0;
        if served.is_some_and(|served| served >= SOUND_AFTER) {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let again = match restart.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !clean && self.in_a_row <= restart.max_retries,
            RestartPolicy::Never => false,
        };
        again.then(|| self.pause(restart, served))
    }

    /// Counts one more start that the machine is to blame for. There is always
    /// another: nothing is known of the program, and the machine may recover.
    pub(crate) fn record_machine(&mut self, restart: &Restart) -> Duration {
        self.not_started = self.not_started.saturating_add(1);
        let first = Duration::from_secs(restart.backoff_seconds).max(MACHINE_PAUSE_MIN);
        doubled(first, self.not_started - 1)
    }

    /// Whether the program keeps ending.
    pub(crate) fn is_loop(self) -> bool {
        self.in_a_row >= LOOP_AT
    }

    fn pause(self, restart: &Restart, served: Option<Duration>) -> Duration {
        if self.in_a_row == 1 && served.is_some_and(|served| served >= IMMEDIATE_AFTER) {
            return Duration::ZERO;
        }
        let first = Duration::from_secs(restart.backoff_seconds).max(PAUSE_MIN);
        doubled(first, self.in_a_row - 1)
    }
}

/// `first` doubled `times` times, at most [`PAUSE_MAX`].
pub(crate) fn doubled(first: Duration, times: u32) -> Duration {
    let factor = 1_u32.checked_shl(times.min(31)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restart(policy: RestartPolicy) -> Restart {
        Restart { policy, max_retries: 2, backoff_seconds: 2 }
    }

    fn pauses(policy: RestartPolicy, clean: bool, count: usize) -> Vec<Option<u64>> {
        let mut crashes = Crashes::default();
        (0..count)
            .map(|_| crashes.record(&restart(policy), clean, None).map(|pause| pause.as_secs()))
            .collect()
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seen = pauses(RestartPolicy::Always, true, 8);
        assert_eq!(seen, [2, 4, 8, 16, 32, 60, 60, 60].map(Some));
    }

    #[test]
    fn policies_are_respected() {
        assert_eq!(pauses(RestartPolicy::Never, false, 1), [None]);
        assert_eq!(pauses(RestartPolicy::OnFailure, true, 1), [None]);
        assert_eq!(pauses(RestartPolicy::OnFailure, false, 3), [Some(2), Some(4), None]);
    }

    #[test]
    fn a_program_that_served_starts_again_at_once_but_only_once() {
        let mut crashes = Crashes::default();
        let always = restart(RestartPolicy::Always);
        let served = Some(Duration::from_secs(20));
        assert_eq!(crashes.record(&always, false, served), Some(Duration::ZERO));
        assert_eq!(crashes.record(&always, false, served), Some(Duration::from_secs(4)));
        assert!(!crashes.is_loop());
    }

    #[test]
    fn what_the_machine_is_to_blame_for_uses_up_no_retries() {
        let mut crashes = Crashes::default();
        let policy = restart(RestartPolicy::OnFailure);
        let pauses: Vec<_> = (0..7).map(|_| crashes.record_machine(&policy).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(crashes.record(&policy, false, None), Some(Duration::from_secs(2)));
        assert_eq!(crashes.record_machine(&policy).as_secs(), 2, "one that started begins anew");
    }

    #[test]
    fn a_minute_of_service_is_forgiveness() {
        let mut crashes = Crashes { in_a_row: 9, ..Crashes::default() };
        let pause =
            crashes.record(&restart(RestartPolicy::Always), false, Some(Duration::from_secs(60)));
        assert_eq!((pause, crashes.in_a_row), (Some(Duration::ZERO), 1));
    }
}
