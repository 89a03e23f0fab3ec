//! What must not be removed just now: counted, by the name it has in the store.
//!
//! A pull pins every blob before it looks whether it is there, and whoever removes
//! something does so only while the table is locked and the name is not in it. So
//! nothing goes between the look and the use.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names with how many hold each.
#[derive(Default)]
pub(crate) struct PinTable {
    counts: Mutex<HashMap<String, usize>>,
}

impl PinTable {
    /// Does something to what has this name, unless it is pinned; false then.
    pub(crate) fn unless_pinned(&self, name: &str, work: impl FnOnce()) -> bool {
        let counts = self.lock();
        let free = !counts.contains_key(name);
        if free {
            work();
        }
        free
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps content in the store for as long as it, or a copy of it, lives.
#[derive(Clone)]
pub struct Pins {
    held: Arc<Held>,
}

struct Held {
    table: Arc<PinTable>,
    names: Mutex<Vec<String>>,
}

impl Pins {
    pub(crate) fn new(table: &Arc<PinTable>) -> Pins {
        Pins { held: Arc::new(Held { table: Arc::clone(table), names: Mutex::default() }) }
    }

    /// Holds one more.
    pub(crate) fn hold(&self, name: String) {
        *self.held.table.lock().entry(name.clone()).or_default() += 1;
        self.held.names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let names = self.names.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut counts = self.table.lock();
        for name in names.drain(..) {
            if let Some(count) = counts.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&name);
                }
            }
        }
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pins")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_when_the_last_one_lets_go() {
        let table = Arc::new(PinTable::default());
        let (first, second) = (Pins::new(&table), Pins::new(&table));
        first.hold("a".to_owned());
        second.hold("a".to_owned());
        let copy = first.clone();
        drop((first, second));
        assert!(!table.unless_pinned("a", || panic!("it is pinned")));
        drop(copy);
        assert!(table.unless_pinned("a", || {}));
    }
}
