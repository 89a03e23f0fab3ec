//! Token buckets, in memory: how often something may happen per key.
//!
//! Each replica counts for itself. What the keys stand for is for the caller to
//! know.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keys kept at once. Those that are full again are forgotten first; when all
/// are in use, unknown keys share one bucket, so that a flood of keys neither
/// fills memory nor gets around the limit.
const KEYS_MAX: usize = 10_000;

/// How much, and how fast it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// At once.
    pub burst: u32,
    /// In the long run.
    pub per_minute: u32,
}

/// How a bucket stands after something was taken from it, or could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub allowed: bool,
    pub limit: u32,
    pub remaining: u32,
    /// Until one more is allowed when it was refused, else until it is full.
    pub wait: Duration,
}

/// Buckets of one rate.
pub(crate) struct Buckets<K> {
    rate: Rate,
    state: Mutex<State<K>>,
}

struct State<K> {
    by_key: HashMap<K, Bucket>,
    overflow: Bucket,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Hash + Eq> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Buckets<K> {
        let overflow = Bucket { left: f64::from(rate.burst), at: Instant::now() };
        Buckets { rate, state: Mutex::new(State { by_key: HashMap::new(), overflow }) }
    }

    /// Takes one.
    pub(crate) fn take(&self, key: K) -> Level {
        self.take_at(key, Instant::now(), 1.0)
    }

    /// Looks without taking.
    pub(crate) fn look(&self, key: K) -> Level {
        self.take_at(key, Instant::now(), 0.0)
    }

    fn take_at(&self, key: K, now: Instant, cost: f64) -> Level {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = self.rate;
        if state.by_key.len() >= KEYS_MAX && !state.by_key.contains_key(&key) {
            state.by_key.retain(|_, bucket| bucket.refilled(rate, now) < f64::from(rate.burst));
        }
        let full = Bucket { left: f64::from(rate.burst), at: now };
        let State { by_key, overflow } = &mut *state;
        let bucket = if by_key.len() >= KEYS_MAX && !by_key.contains_key(&key) {
            overflow
        } else {
            by_key.entry(key).or_insert(full)
        };
        bucket.take(rate, now, cost)
    }
}

impl Bucket {
    fn refilled(&self, rate: Rate, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * f64::from(rate.per_minute) / 60.0).min(f64::from(rate.burst))
    }

    fn take(&mut self, rate: Rate, now: Instant, cost: f64) -> Level {
        self.left = self.refilled(rate, now);
        self.at = now;
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= cost;
        }
        let missing = if allowed { f64::from(rate.burst) - self.left } else { 1.0 - self.left };
        let wait = Duration::from_secs_f64(missing * 60.0 / f64::from(rate.per_minute.max(1)));
        // At most the burst, so it fits; a fraction of one is none.
        let remaining = self.left.floor() as u32;
        Level { allowed, limit: rate.burst, remaining, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, per_minute: 60 };

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(RATE);
        let start = Instant::now();
        for left in [2, 1, 0] {
            let level = buckets.take_at("a", start, 1.0);
            assert_eq!((level.allowed, level.remaining), (true, left));
        }
        let refused = buckets.take_at("a", start, 1.0);
        assert!(!refused.allowed);
        assert!(refused.wait <= Duration::from_secs(1));
        assert!(buckets.take_at("b", start, 1.0).allowed, "another key has its own");
        assert!(buckets.take_at("a", start + Duration::from_secs(1), 1.0).allowed);
    }

    #[test]
    fn a_flood_of_keys_shares_what_is_left() {
        let buckets = Buckets::new(RATE);
        let start = Instant::now();
        for key in 0..KEYS_MAX {
            assert!(buckets.take_at(key, start, 1.0).allowed);
        }
        let allowed =
            (KEYS_MAX..KEYS_MAX + 100).filter(|key| buckets.take_at(*key, start, 1.0).allowed);
        assert_eq!(allowed.count(), 3);
        assert!(buckets.take_at(KEYS_MAX, start + Duration::from_secs(60), 1.0).allowed);
    }
}
