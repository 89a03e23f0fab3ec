//! The meters of all endpoints, kept across plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use helix_model::AnyId;

use crate::meter::{Meter, Metered, Reading};

/// Endpoints with series of their own. With some 40 lines each this is what a scrape
/// every few seconds can carry; whatever comes beyond is told as one, `other`.
pub(crate) const LISTED_MAX: usize = 1_000;

/// What went through endpoints that have no series of their own and are gone: counters
/// must not go back. Not on the way of traffic, so a lock will do.
#[derive(Debug, Default)]
pub(crate) struct Others(Mutex<Reading>);

impl Others {
    pub(crate) fn read(&self) -> Reading {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, gone: &Reading) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(gone);
    }
}

/// The meters of all endpoints, those that are gone with something open included.
#[derive(Debug)]
pub(crate) struct Meters {
    kept: BTreeMap<AnyId, Arc<Meter>>,
    /// How many of them are listed: of ten thousand new ones none counts the others.
    listed: usize,
    gone: Vec<Arc<Meter>>,
    others: Arc<Others>,
}

impl Meters {
    pub(crate) fn new(others: Arc<Others>) -> Meters {
        Meters { kept: BTreeMap::new(), listed: 0, gone: Vec::new(), others }
    }

    /// An endpoint's meter: the one it has unless it is reached in another way now.
    pub(crate) fn of(&mut self, metered: Metered) -> Arc<Meter> {
        let (id, known) = (metered.id, self.kept.get(&metered.id));
        if let Some(meter) = known.filter(|meter| meter.of == metered) {
            return Arc::clone(meter);
        }
        let is_listed = known.map_or(self.listed < LISTED_MAX, |meter| meter.is_listed);
        self.listed += usize::from(known.is_none() && is_listed);
        let meter = Arc::new(Meter::new(metered, is_listed));
        let before = self.kept.insert(id, Arc::clone(&meter));
        self.gone.extend(before);
        meter
    }

    /// Lets go of those of other endpoints.
    pub(crate) fn settle(&mut self, endpoints: &BTreeSet<AnyId>) {
        let gone = self.kept.extract_if(.., |id, _| !endpoints.contains(id));
        for (_, meter) in gone {
            self.listed -= usize::from(meter.is_listed);
            self.gone.push(meter);
        }
        self.sweep();
    }

    /// Forgets those of gone endpoints that nothing can go through any more.
    pub(crate) fn sweep(&mut self) {
        for meter in self.gone.extract_if(.., |meter| Arc::strong_count(meter) == 1) {
            if !meter.is_listed {
                self.others.add(&Reading { traffic: closed(&meter), ..meter.read() });
            }
        }
    }
}

fn closed(meter: &Meter) -> helix_model::traffic::Traffic {
    helix_model::traffic::Traffic { open: 0, ..meter.read().traffic }
}

#[cfg(test)]
mod tests {
    use helix_model::{Endpoint, Id, Timestamp};

    use super::*;
    use crate::meter::{Called, Span};

    fn endpoint(number: u128) -> Metered {
        let id = Id::<Endpoint>::new(Timestamp(1), number).any();
        Metered { id, protocol: "http", called: Called::Nothing }
    }

    #[test]
    fn what_went_through_an_unlisted_endpoint_is_not_forgotten_with_it() {
        let others = Arc::new(Others::default());
        let mut meters = Meters::new(Arc::clone(&others));
        let max = LISTED_MAX as u128;
        let listed: Vec<_> = (1..=max).map(|number| meters.of(endpoint(number))).collect();
        assert!(listed.iter().all(|meter| meter.is_listed));
        let beyond = meters.of(endpoint(max + 1));
        assert!(!beyond.is_listed && Arc::ptr_eq(&beyond, &meters.of(endpoint(max + 1))));
        let open = Span::begin(&beyond);
        drop(beyond);
        meters.settle(&BTreeSet::new());
        assert_eq!(others.read().traffic.begun, 0, "it is still open");
        drop(open);
        meters.sweep();
        let told = others.read();
        assert_eq!((told.traffic.begun, told.traffic.open, told.codes[0]), (1, 0, 1));
        assert!(meters.of(endpoint(max + 2)).is_listed, "there is room again");
    }
}
