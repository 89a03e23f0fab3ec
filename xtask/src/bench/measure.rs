//! Repeating a step and summing up how long it took.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long each repetition of a step took.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    sorted: Vec<Duration>,
}

impl Samples {
    /// Runs `step` `times` times; after each, unmeasured, `reset`.
    ///
    /// # Errors
    /// The first failure of either.
    pub fn take<T>(
        times: usize,
        context: &mut T,
        step: impl Fn(&mut T) -> Result<()>,
        reset: impl Fn(&mut T) -> Result<()>,
    ) -> Result<Self> {
        let mut durations = Vec::with_capacity(times);
        for _ in 0..times {
            let started = Instant::now();
            step(context)?;
            durations.push(started.elapsed());
            reset(context)?;
        }
        Ok(Self::of(durations))
    }

    /// Durations that were measured elsewhere.
    pub fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort();
        Self { sorted: durations }
    }

    /// The sample that `percent` of all do not exceed (nearest rank).
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// How many samples there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }
}

/// What so many threads that do the same come to together.
///
/// # Errors
/// The first failure of any.
pub fn sum_of(threads: usize, work: impl Fn() -> Result<u64> + Sync) -> Result<u64> {
    thread::scope(|scope| {
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<u64>>| {
            thread.join().ok().context("a thread panicked")?
        };
        working.into_iter().map(join).sum()
    })
}

/// The one in the middle, of an even number the greater of the two; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_occurred() {
        let samples = Samples::of((1..=10).rev().map(Duration::from_millis).collect());
        assert_eq!(samples.percentile(50), Duration::from_millis(5));
        assert_eq!(samples.percentile(99), Duration::from_millis(10));
        assert_eq!(samples.percentile(1), Duration::from_millis(1));
    }

    #[test]
    fn the_reset_runs_after_each_step_and_is_not_measured() {
        let mut log = String::new();
        let push = |letter| {
            move |log: &mut String| {
                log.push(letter);
                Ok(())
            }
        };
        let samples = Samples::take(3, &mut log, push('s'), push('r')).unwrap();
        assert_eq!((log.as_str(), samples.count()), ("srsrsr", 3));
    }
}
