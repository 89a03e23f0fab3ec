//! Usage: how long instances ran, per env, as a fold over the log.
//!
//! [`Running`] follows instances and hands out an [`Interval`] whenever one
//! ends; [`Meter`] adds intervals up in buckets, an hour each at first, a day
//! each later, so that it stays small. Intervals that are still open are in no
//! bucket: who reads brings the time and they are counted up to then. The same
//! [`Running`] over the same entries lists the intervals that a total is made of.
//!
//! An instance counts from the first report that its program was started until
//! the report that it has stopped, or until it is forgotten, and so also while
//! it is down between two restarts: its memory is set aside all that time.
//! Fetching an image does not count.

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::instance::{OVERHEAD_BYTES, Observed, Of, Phase};
use crate::{Env, Event, Id, Instance, Name, Reason, Timestamp};

/// Milliseconds of the buckets of the recent past: what a bill is read by.
pub const HOUR_MS: i64 = 3_600_000;
/// Milliseconds of older buckets.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// How long buckets of an hour are kept: long enough to look into last week.
pub const HOURS_KEPT_MS: i64 = 7 * DAY_MS;
/// How long buckets are kept at all: a year and the month one compares it with.
pub const DAYS_KEPT_MS: i64 = 400 * DAY_MS;

const MEBI: u64 = 1 << 20;

/// Everything metered so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meter {
    pub running: Running,
    envs: OrdMap<Id<Env>, Buckets>,
    pub volumes: VolumeMeter,
    pub ipv4: Ipv4Meter,
}

/// Which instances there are, and since when they run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    slots: OrdMap<Id<Instance>, Slot>,
}

/// One instance as metering sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Slot {
    env: Id<Env>,
    name: Name,
    /// Its limit and the overhead.
    memory_mib: u64,
    /// Where it was allocated: reading the log from here finds all of it.
    allocated: u64,
    since: Option<Mark>,
}

/// A moment and the log position it is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Mark {
    pub position: u64,
    pub at: Timestamp,
}

/// A stretch of time in which an instance ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    pub env: Id<Env>,
    pub instance: Id<Instance>,
    pub name: Name,
    pub memory_mib: u64,
    pub from: Mark,
    /// Absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Mark>,
    /// Where the instance was allocated.
    #[serde(skip)]
    pub allocated: u64,
}

/// What was used. Whole numbers, so that parts add up exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Instances times milliseconds.
    pub instance_ms: u64,
    /// Mebibytes, overhead included, times milliseconds.
    pub memory_mib_ms: u64,
    /// Mebibytes of volumes times milliseconds.
    #[serde(default)]
    pub volume_mib_ms: u64,
    /// Milliseconds of an IPv4 address of an env's own.
    #[serde(default)]
    pub ipv4_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Buckets {
    /// By hours since the epoch.
    hours: OrdMap<i64, Bucket>,
    /// By days since the epoch.
    days: OrdMap<i64, Bucket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    #[serde(flatten)]
    amount: Amount,
    /// The lowest log position that any of it comes from.
    position: u64,
}

/// A span of time with edges that buckets have, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Amount {
    fn of(duration_ms: u64, memory_mib: u64) -> Amount {
        let memory_mib_ms = duration_ms.saturating_mul(memory_mib);
        Amount { instance_ms: duration_ms, memory_mib_ms, ..Amount::default() }
    }

    fn of_volume(duration_ms: u64, size_mib: u64) -> Amount {
        Amount { volume_mib_ms: duration_ms.saturating_mul(size_mib), ..Amount::default() }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Amount) -> Amount {
        Amount {
            instance_ms: self.instance_ms.saturating_add(other.instance_ms),
            memory_mib_ms: self.memory_mib_ms.saturating_add(other.memory_mib_ms),
            volume_mib_ms: self.volume_mib_ms.saturating_add(other.volume_mib_ms),
            ipv4_ms: self.ipv4_ms.saturating_add(other.ipv4_ms),
        }
    }

    pub fn is_zero(self) -> bool {
        self == Amount::default()
    }
}

impl Window {
    /// The window that can be answered exactly for the one that was asked for:
    /// edges move outwards to whole hours, and to whole UTC days where only
    /// days are kept. It ends now at the latest.
    pub fn new(since: Timestamp, until: Timestamp, now: Timestamp) -> Window {
        let hourly = floor(now.0 - HOURS_KEPT_MS, DAY_MS);
        let edge = |moment: i64| if moment < hourly { DAY_MS } else { HOUR_MS };
        let oldest = floor(now.0 - DAYS_KEPT_MS, DAY_MS);
        let since = floor(since.0, edge(since.0)).max(oldest);
        let until = -floor(-until.0, edge(until.0));
        Window { since: Timestamp(since), until: Timestamp(until.min(now.0).max(since)) }
    }

    /// How much of a stretch of time is inside, milliseconds.
    fn overlap_ms(&self, from: Timestamp, to: Timestamp) -> u64 {
        let (from, to) = (from.0.max(self.since.0), to.0.min(self.until.0));
        u64::try_from(to.saturating_sub(from)).unwrap_or(0)
    }

    fn contains(&self, bucket: i64, size_ms: i64) -> bool {
        let start = bucket * size_ms;
        self.since.0 <= start && start < self.until.0
    }
}

impl Interval {
    /// What of it is inside a window, when it runs until `now` at least.
    pub fn amount(&self, window: &Window, now: Timestamp) -> Amount {
        let to = self.to.map_or(now, |to| to.at);
        Amount::of(window.overlap_ms(self.from.at, to), self.memory_mib)
    }
}

impl Running {
    /// Follows one entry of the log; the interval that ends with it, if one does.
    pub fn apply(&mut self, mark: Mark, event: &Event) -> Option<Interval> {
        match event {
            Event::InstanceAllocated(it) => {
                let memory = it.spec.memory_bytes.saturating_add(OVERHEAD_BYTES);
                let slot = Slot {
                    env: it.spec.env,
                    name: it.name.clone(),
                    memory_mib: memory.div_ceil(MEBI),
                    allocated: mark.position,
                    since: None,
                };
                self.slots.insert(it.id, slot);
                None
            }
            Event::InstanceStatusChanged(it) => match counts(&it.observed) {
                Some(true) => {
                    self.begin(&it.of, mark);
                    None
                }
                Some(false) => self.end(it.of.id, mark),
                None => None,
            },
            Event::InstanceRemoved(it) => {
                let ended = self.end(it.of.id, mark);
                self.slots.remove(&it.of.id);
                ended
            }
            _ => None,
        }
    }

    /// The intervals that are not over.
    pub fn open(&self) -> impl Iterator<Item = Interval> {
        self.slots.iter().filter_map(|(id, slot)| slot.interval(*id, None))
    }

    fn begin(&mut self, of: &Of, mark: Mark) {
        // Most reports are of one that runs; they must not copy anything.
        if self.slots.get(&of.id).is_some_and(|slot| slot.since.is_none())
            && let Some(slot) = self.slots.get_mut(&of.id)
        {
            slot.since = Some(mark);
        }
    }

    fn end(&mut self, id: Id<Instance>, mark: Mark) -> Option<Interval> {
        let ended = self.slots.get(&id)?.interval(id, Some(mark))?;
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.since = None;
        }
        Some(ended)
    }
}

/// Whether an instance counts from here on; `None` when that does not change.
fn counts(observed: &Observed) -> Option<bool> {
    match observed.phase {
        Phase::Starting | Phase::Ready | Phase::Unready => Some(true),
        Phase::Stopped => Some(false),
        // Nobody knows whether it runs, and its successor counts already.
        Phase::Failed
            if matches!(
                observed.reason,
                Some(Reason::NodeLost | Reason::VolumeHomeNodeOffline)
            ) =>
        {
            Some(false)
        }
        Phase::Pending | Phase::Pulling | Phase::Failed => None,
    }
}

impl Slot {
    fn interval(&self, instance: Id<Instance>, to: Option<Mark>) -> Option<Interval> {
        Some(Interval {
            env: self.env,
            instance,
            name: self.name.clone(),
            memory_mib: self.memory_mib,
            from: self.since?,
            to,
            allocated: self.allocated,
        })
    }
}

impl Meter {
    /// Folds in one entry of the log.
    pub(crate) fn apply(&mut self, mark: Mark, event: &Event) {
        self.volumes.apply(mark, event);
        self.ipv4.apply(mark, event);
        if let Some(interval) = self.running.apply(mark, event) {
            self.envs.entry(interval.env).or_default().add(&interval, mark.at);
        }
    }

    /// What each env used in a window, as of now; envs that used nothing are
    /// left out.
    pub fn amounts(&self, window: &Window, now: Timestamp) -> BTreeMap<Id<Env>, Amount> {
        let mut amounts: BTreeMap<Id<Env>, Amount> = BTreeMap::new();
        for (env, buckets) in &self.envs {
            let sum = buckets.within(window).fold(Amount::default(), |sum, it| sum.plus(it.amount));
            amounts.insert(*env, sum);
        }
        for interval in self.running.open() {
            let amount = amounts.entry(interval.env).or_default();
            *amount = amount.plus(interval.amount(window, now));
        }
        amounts.retain(|_, amount| !amount.is_zero());
        amounts
    }

    /// The log position from which on everything can be read that the amounts
    /// of these envs in a window are made of; `None` when there is nothing.
    pub fn first_position(&self, window: &Window, wanted: impl Fn(Id<Env>) -> bool) -> Option<u64> {
        let closed = self.envs.iter().filter(|(env, _)| wanted(**env));
        let closed = closed.flat_map(|(_, buckets)| buckets.within(window).map(|it| it.position));
        let open = self.running.open().filter(|interval| wanted(interval.env));
        closed.chain(open.map(|interval| interval.allocated)).min()
    }
}

impl Buckets {
    fn within<'b>(&'b self, window: &'b Window) -> impl Iterator<Item = &'b Bucket> {
        let hours = self.hours.iter().filter(|(hour, _)| window.contains(**hour, HOUR_MS));
        let days = self.days.iter().filter(|(day, _)| window.contains(**day, DAY_MS));
        hours.chain(days).map(|(_, bucket)| bucket)
    }

    /// Spreads an interval that ended at `now` over the buckets it touches.
    fn add(&mut self, interval: &Interval, now: Timestamp) {
        let span = (interval.from.at, interval.to.map_or(now, |to| to.at));
        let amount = |ms: u64| Amount::of(ms, interval.memory_mib);
        self.spread(span, interval.allocated, now, amount);
    }

    /// Spreads what there was of something in a span of time; `position` is where
    /// reading the log finds all of it.
    fn spread(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        position: u64,
        now: Timestamp,
        amount: impl Fn(u64) -> Amount,
    ) {
        let to = to.0;
        let hourly = floor(now.0 - HOURS_KEPT_MS, DAY_MS);
        let oldest = floor(now.0 - DAYS_KEPT_MS, DAY_MS);
        let mut from = from.0.max(oldest);
        while from < to {
            let size = if from < hourly { DAY_MS } else { HOUR_MS };
            let bucket = from.div_euclid(size);
            let end = to.min((bucket + 1) * size);
            let amount = amount(u64::try_from(end - from).unwrap_or(0));
            let buckets = if size == DAY_MS { &mut self.days } else { &mut self.hours };
            merge(buckets, bucket, Bucket { amount, position });
            from = end;
        }
        self.tidy(hourly, oldest);
    }

    /// Merges old hours to days and lets go of the oldest days.
    fn tidy(&mut self, hourly: i64, oldest: i64) {
        while let Some((hour, bucket)) = self.hours.get_min().copied() {
            if hour * HOUR_MS >= hourly {
                break;
            }
            self.hours.remove(&hour);
            merge(&mut self.days, (hour * HOUR_MS).div_euclid(DAY_MS), bucket);
        }
        while let Some((day, _)) = self.days.get_min().copied() {
            if day * DAY_MS >= oldest {
                break;
            }
            self.days.remove(&day);
        }
    }
}

fn merge(buckets: &mut OrdMap<i64, Bucket>, at: i64, more: Bucket) {
    let merged = buckets.get(&at).map_or(more, |known| Bucket {
        amount: known.amount.plus(more.amount),
        position: known.position.min(more.position),
    });
    buckets.insert(at, merged);
}

/// The last multiple of `size` that is not after `moment`.
fn floor(moment: i64, size: i64) -> i64 {
    moment.div_euclid(size) * size
}

mod ipv4;
#[cfg(test)]
mod tests;
mod volume;

pub use ipv4::Ipv4Meter;
pub use volume::VolumeMeter;
