//! One worker per key, others wait: a lock for each digest being fetched or
//! unpacked, forgotten when nobody holds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Table = Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>;

/// Locks by name.
#[derive(Default)]
pub(crate) struct KeyedLocks {
    table: Table,
}

/// Holds the lock of one key until dropped.
pub(crate) struct KeyGuard {
    table: Table,
    key: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedLocks {
    /// Waits for `key` to be free and takes it. Whoever waited must look again
    /// whether the work is still to be done.
    pub(crate) async fn lock(&self, key: String) -> KeyGuard {
        let slot = {
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(table.entry(key.clone()).or_default())
        };
        let guard = slot.lock_owned().await;
        KeyGuard { table: Arc::clone(&self.table), key, guard: Some(guard) }
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // Only the table's own reference left: nobody holds it, nobody waits,
        // and nobody can begin to while the table is locked.
        if table.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_per_key_and_nothing_left_behind() {
        let locks = KeyedLocks::default();
        let first = locks.lock("a".to_owned()).await;
        let _other = locks.lock("b".to_owned()).await;
        let waiting = locks.lock("a".to_owned());
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        drop(waiting.await);
        assert_eq!(locks.table.lock().unwrap().len(), 1);
    }
}
