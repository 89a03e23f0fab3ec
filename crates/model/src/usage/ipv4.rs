//! How long envs had IPv4 addresses of their own.
//!
//! Counted from when an env is given one until it gives it up or is gone, whether
//! anything listens there or not: nobody else can have it.

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Amount, Buckets, Mark, Window};
use crate::{Env, Event, Id, Timestamp};

/// Everything metered of IPv4 addresses so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ipv4Meter {
    since: OrdMap<Id<Env>, Mark>,
    ended: OrdMap<Id<Env>, Buckets>,
}

impl Ipv4Meter {
    /// Folds in one entry of the log.
    pub(super) fn apply(&mut self, mark: Mark, event: &Event) {
        match event {
            Event::EnvIpv4Changed(it) if it.enabled => drop(self.since.insert(it.id, mark)),
            Event::EnvIpv4Changed(it) => self.end(it.id, mark.at),
            Event::EnvDestroyed(it) => {
                if let Some(id) = it.of.id.typed() {
                    self.end(id, mark.at);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, id: Id<Env>, now: Timestamp) {
        let Some(since) = self.since.remove(&id) else { return };
        let amount = |ms: u64| Amount { ipv4_ms: ms, ..Amount::default() };
        self.ended.entry(id).or_default().spread((since.at, now), since.position, now, amount);
    }

    /// Milliseconds of each env in a window, as of now, and the first log position that
    /// any of it comes from; envs without are left out.
    pub fn amounts(&self, window: &Window, now: Timestamp) -> BTreeMap<Id<Env>, (u64, u64)> {
        let mut amounts: BTreeMap<Id<Env>, (u64, u64)> = BTreeMap::new();
        let mut add = |env: Id<Env>, ms: u64, position: u64| {
            let (sum, first) = amounts.entry(env).or_insert((0, position));
            (*sum, *first) = (sum.saturating_add(ms), (*first).min(position));
        };
        for (env, buckets) in &self.ended {
            buckets.within(window).for_each(|it| add(*env, it.amount.ipv4_ms, it.position));
        }
        for (env, mark) in &self.since {
            add(*env, window.overlap_ms(mark.at, now), mark.position);
        }
        amounts.retain(|_, (ms, _)| *ms > 0);
        amounts
    }
}

#[cfg(test)]
mod tests {
    use super::super::HOUR_MS;
    use super::*;
    use crate::{address, destroy};

    const HOUR: u64 = HOUR_MS.unsigned_abs();

    #[test]
    fn an_address_counts_from_when_it_is_given_until_it_is_given_up_or_its_env_is_gone() {
        let env: Id<Env> = Id::new(Timestamp(1), 1);
        let mut meter = Ipv4Meter::default();
        let mut at = |hours: i64, event: Event| {
            let mark = Mark { position: hours.unsigned_abs(), at: Timestamp(hours * HOUR_MS) };
            meter.apply(mark, &event);
            let now = Timestamp(20 * HOUR_MS);
            let window = Window::new(Timestamp(0), Timestamp(1000 * HOUR_MS), now);
            meter.amounts(&window, now).get(&env).copied()
        };
        let changed = |enabled: bool| {
            let address = [203, 0, 113, 1].into();
            Event::EnvIpv4Changed(address::Ipv4Changed { id: env, address, enabled })
        };
        assert_eq!(at(1, changed(true)), Some((19 * HOUR, 1)));
        assert_eq!(at(4, changed(false)), Some((3 * HOUR, 1)));
        assert_eq!(at(10, changed(true)), Some((13 * HOUR, 1)));
        let of = destroy::Of { id: env.any(), name: "production".parse().unwrap(), parent: None };
        assert_eq!(at(12, Event::EnvDestroyed(destroy::Finished { of })), Some((5 * HOUR, 1)));
    }
}
