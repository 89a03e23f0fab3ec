//! Traffic: what went through an endpoint at an edge, as counters that only grow.
//!
//! Told while somebody watches, and never part of the state or the log.

use serde::{Deserialize, Serialize};

use crate::AnyId;

/// Upper bounds of the durations that are told apart, in microseconds. The same for
/// requests, of which most take milliseconds, and for connections, which may last hours.
pub const DURATION_BOUNDS_US: [u64; 14] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    60_000_000,
    600_000_000,
];

/// One more for what took longer.
pub const DURATION_BUCKETS: usize = DURATION_BOUNDS_US.len() + 1;

/// What went through since the edge first had the endpoint, and what is open now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Traffic {
    /// Requests of `http`, connections of `tcp` and `tls`, sessions of `udp`.
    pub begun: u64,
    /// Answered with 5xx, refused or broken off.
    pub errors: u64,
    /// From clients.
    pub received_bytes: u64,
    /// To clients.
    pub sent_bytes: u64,
    /// Under way now.
    pub open: u64,
    /// How many ended within each of [`DURATION_BOUNDS_US`] and above the one before, and
    /// how many took longer than all.
    pub durations: Vec<u64>,
}

/// What went through one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Told {
    pub endpoint: AnyId,
    #[serde(flatten)]
    pub traffic: Traffic,
}

impl Traffic {
    /// The same with what went through elsewhere, too.
    pub fn add(&mut self, other: &Traffic) {
        self.begun += other.begun;
        self.errors += other.errors;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.open += other.open;
        self.durations.resize(self.durations.len().max(other.durations.len()), 0);
        for (own, other) in self.durations.iter_mut().zip(&other.durations) {
            *own += other;
        }
    }

    /// What came since `before`; all of it when an edge began to count anew in between.
    #[must_use]
    pub fn since(&self, before: &Traffic) -> Traffic {
        let is_anew = self.begun < before.begun || self.sent_bytes < before.sent_bytes;
        if is_anew {
            return self.clone();
        }
        let earlier = before.durations.iter().copied().chain(std::iter::repeat(0));
        let durations = self.durations.iter().zip(earlier);
        Traffic {
            begun: self.begun - before.begun,
            errors: self.errors.saturating_sub(before.errors),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            sent_bytes: self.sent_bytes - before.sent_bytes,
            open: self.open,
            durations: durations.map(|(now, before)| now.saturating_sub(before)).collect(),
        }
    }

    /// The duration that a share of all stayed within, as far as buckets tell: on a line
    /// from one bound to the next. `None` when nothing ended; the last bound for more.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.durations.iter().sum();
        if all == 0 {
            return None;
        }
        let rank = share * precise(all);
        let (mut below, mut lower) = (0.0, 0.0);
        for (count, bound) in self.durations.iter().zip(DURATION_BOUNDS_US) {
            let (count, bound) = (precise(*count), precise(bound) / 1_000.0);
            if count > 0.0 && below + count >= rank {
                return Some(lower + (bound - lower) * (rank - below) / count);
            }
            (below, lower) = (below + count, bound);
        }
        Some(lower)
    }
}

/// As precise as people look at it.
fn precise(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(durations: &[(usize, u64)]) -> Traffic {
        let mut traffic = Traffic { durations: vec![0; DURATION_BUCKETS], ..Traffic::default() };
        for (bucket, count) in durations {
            traffic.durations[*bucket] = *count;
            traffic.begun += count;
        }
        traffic
    }

    #[test]
    fn a_quantile_lies_between_the_bounds_of_its_bucket() {
        assert_eq!(lasting(&[]).quantile_ms(0.5), None);
        assert_eq!(lasting(&[(0, 10)]).quantile_ms(0.5), Some(0.5));
        let traffic = lasting(&[(3, 50), (6, 50)]);
        assert_eq!(traffic.quantile_ms(0.5), Some(10.0));
        assert_eq!(traffic.quantile_ms(0.75), Some(75.0));
        assert_eq!(lasting(&[(14, 1)]).quantile_ms(0.99), Some(600_000.0));
    }

    #[test]
    fn what_came_since_is_told_also_by_who_begins_anew() {
        let (before, now) = (lasting(&[(1, 4)]), lasting(&[(1, 6), (2, 1)]));
        let since = now.since(&before);
        assert_eq!((since.begun, since.durations[1], since.durations[2]), (3, 2, 1));
        let anew = lasting(&[(2, 1)]);
        assert_eq!(anew.since(&now), anew);
        let mut sum = Traffic::default();
        sum.add(&before);
        sum.add(&now);
        assert_eq!((sum.begun, sum.durations[1]), (11, 10));
    }
}
