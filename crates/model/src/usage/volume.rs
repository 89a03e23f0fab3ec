//! How long volumes were there, times their size: the same fold for what is stored
//! as there is for what runs.
//!
//! A volume counts from when it was made until it is gone, with the size it was to
//! have, whether anybody has it or not: its space is set aside.

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Amount, Buckets, MEBI, Mark, Window};
use crate::{Event, Id, Timestamp, Volume};

/// Everything metered of volumes so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeMeter {
    slots: OrdMap<Id<Volume>, Slot>,
    ended: OrdMap<Id<Volume>, Buckets>,
}

/// A volume that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    size_mib: u64,
    since: Mark,
}

impl VolumeMeter {
    /// Folds in one entry of the log.
    pub(super) fn apply(&mut self, mark: Mark, event: &Event) {
        match event {
            Event::VolumeCreated(it) => self.begin(it.id, it.spec.size_bytes, mark),
            Event::VolumeResized(it) => {
                self.end(it.of.id, mark.at);
                self.begin(it.of.id, it.size_bytes, mark);
            }
            Event::VolumeDestroyed(it) => {
                if let Some(id) = it.of.id.typed() {
                    self.end(id, mark.at);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, id: Id<Volume>, size_bytes: u64, since: Mark) {
        self.slots.insert(id, Slot { size_mib: size_bytes.div_ceil(MEBI), since });
    }

    fn end(&mut self, id: Id<Volume>, now: Timestamp) {
        let Some(Slot { size_mib, since }) = self.slots.remove(&id) else { return };
        let amount = |ms: u64| Amount::of_volume(ms, size_mib);
        self.ended.entry(id).or_default().spread((since.at, now), since.position, now, amount);
    }

    /// Mebibytes times milliseconds of each volume in a window, as of now; those of
    /// which there was nothing are left out.
    pub fn amounts(&self, window: &Window, now: Timestamp) -> BTreeMap<Id<Volume>, u64> {
        let mut amounts: BTreeMap<Id<Volume>, u64> = BTreeMap::new();
        for (id, buckets) in &self.ended {
            let sum = buckets.within(window).map(|it| it.amount.volume_mib_ms);
            amounts.insert(*id, sum.fold(0, u64::saturating_add));
        }
        for (id, slot) in &self.slots {
            let ms = window.overlap_ms(slot.since.at, now);
            let amount = amounts.entry(*id).or_default();
            *amount = amount.saturating_add(ms.saturating_mul(slot.size_mib));
        }
        amounts.retain(|_, amount| *amount > 0);
        amounts
    }
}

#[cfg(test)]
mod tests {
    use super::super::HOUR_MS;
    use super::*;
    use crate::{Org, destroy, volume};

    const HOUR: u64 = HOUR_MS.unsigned_abs();

    #[test]
    fn a_volume_counts_by_its_size_from_when_it_was_made_until_it_is_gone() {
        let id: Id<Volume> = Id::new(Timestamp(1), 1);
        let org: Id<Org> = Id::new(Timestamp(1), 2);
        let name: crate::Name = "data".parse().unwrap();
        let mut meter = VolumeMeter::default();
        let mut at = |hours: i64, event: Event| {
            let mark = Mark { position: 1, at: Timestamp(hours * HOUR_MS) };
            meter.apply(mark, &event);
            let window =
                Window::new(Timestamp(0), Timestamp(1000 * HOUR_MS), Timestamp(20 * HOUR_MS));
            meter.amounts(&window, Timestamp(20 * HOUR_MS)).get(&id).copied()
        };
        let spec = Volume {
            org,
            size_bytes: 1 << 30,
            node: None,
            app: None,
            source: None,
            attachment: None,
            backups: None,
        };
        let created = volume::Created { id, name: name.clone(), spec };
        assert_eq!(at(1, Event::VolumeCreated(created)), Some(19 * HOUR * 1024));
        let of = volume::Of { id, name: name.clone(), org };
        let resized = volume::Resized { of, size_bytes: 3 << 30 };
        let expected = (4 + 3 * 15) * HOUR * 1024;
        assert_eq!(at(5, Event::VolumeResized(resized)), Some(expected));
        let of = destroy::Of { id: id.any(), name, parent: Some(org.any()) };
        let expected = (4 + 3 * 5) * HOUR * 1024;
        assert_eq!(at(10, Event::VolumeDestroyed(destroy::Finished { of })), Some(expected));
    }
}
