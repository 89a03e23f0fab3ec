//! The fake clock and what is to happen when.
//!
//! Time only moves from one happening to the next. Two at one moment happen in
//! the order in which they were planned.

use std::collections::BTreeMap;

/// Milliseconds since the run began, as no machine's clock shows them.
pub(crate) type Moment = u64;

pub(crate) struct Agenda<H> {
    pub(crate) now: Moment,
    planned: BTreeMap<(Moment, u64), H>,
    count: u64,
}

impl<H> Agenda<H> {
    pub(crate) fn new() -> Agenda<H> {
        Agenda { now: 0, planned: BTreeMap::new(), count: 0 }
    }

    /// Plans something for `delay_ms` from now.
    pub(crate) fn plan(&mut self, delay_ms: u64, happening: H) {
        self.count += 1;
        self.planned.insert((self.now + delay_ms, self.count), happening);
    }

    /// The next happening; moves the clock to it.
    pub(crate) fn next(&mut self) -> Option<H> {
        let ((moment, _), happening) = self.planned.pop_first()?;
        self.now = moment;
        Some(happening)
    }
}
