//! The log in memory, for tests and the simulator: same contract, no disk.
//!
//! Start at [`MemoryLog`]. It must not grow behaviour that [`crate::SqliteLog`]
//! lacks; the conformance tests hold both to the same text.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::batch::{Batch, NewReceipt, StoredReceipt};
use crate::chain::{Chain, Verification};
use crate::entry::{Entry, Head, Position};
use crate::error::LogError;
use crate::event_log::{EventLog, READ_MAX_BYTES, READ_MAX_ENTRIES, Snapshot};
use crate::newest::Newest;

/// An [`EventLog`] that is gone when dropped.
#[derive(Debug, Default)]
pub struct MemoryLog {
    contents: Mutex<Contents>,
    newest: Newest,
}

#[derive(Debug)]
struct Contents {
    start: Head,
    entries: Vec<Entry>,
    receipts: HashMap<String, StoredReceipt>,
    snapshot: Option<Snapshot>,
}

impl Default for Contents {
    fn default() -> Contents {
        Contents {
            start: Head::EMPTY,
            entries: Vec::new(),
            receipts: HashMap::new(),
            snapshot: None,
        }
    }
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> MemoryLog {
        MemoryLog::default()
    }

    /// A panic elsewhere cannot leave the contents half changed: every change
    /// is made after the last step that can fail.
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn head(&self) -> Result<Head, LogError> {
        Ok(self.contents().head())
    }

    async fn append(&self, batch: Batch) -> Result<Vec<Entry>, LogError> {
        batch.check_limits()?;
        let mut contents = self.contents();
        let head = contents.head();
        if batch.expected != head.position {
            return Err(LogError::Stale { expected: batch.expected, actual: head.position });
        }
        contents.check_receipt_keys(&batch.receipts)?;

        let mut chain = Chain::after(head);
        let entries: Vec<Entry> = batch.entries.into_iter().map(|it| chain.extend(it)).collect();
        contents.entries.extend(entries.iter().cloned());
        for receipt in batch.receipts {
            let stored = StoredReceipt::from_new(receipt, chain.head().position);
            contents.receipts.insert(stored.key.clone(), stored);
        }
        self.newest.publish(chain.head().position);
        Ok(entries)
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.newest.subscribe()
    }

    async fn start(&self) -> Result<Head, LogError> {
        Ok(self.contents().start)
    }

    async fn prune(&self, through: Head) -> Result<u64, LogError> {
        let mut contents = self.contents();
        let Some(count) = contents.index_after(through.position).filter(|it| *it > 0) else {
            return Ok(0);
        };
        let last = contents.entries.get(count - 1).map(Entry::head);
        if last != Some(through) {
            return Err(LogError::PruneMismatch { position: through.position });
        }
        contents.entries.drain(..count);
        contents.start = through;
        Ok(count as u64)
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Vec<Entry>, LogError> {
        let contents = self.contents();
        let Some(first) = contents.index_after(after) else {
            return Err(LogError::Archived { after, start: contents.start.position });
        };
        let mut page = Vec::new();
        let mut bytes = 0;
        for entry in contents.entries.iter().skip(first).take(limit.min(READ_MAX_ENTRIES)) {
            bytes += entry.payload.len();
            page.push(entry.clone());
            if bytes >= READ_MAX_BYTES {
                break;
            }
        }
        Ok(page)
    }

    async fn verify(&self) -> Result<Verification, LogError> {
        let contents = self.contents();
        let mut chain = Chain::after(contents.start);
        for entry in &contents.entries {
            if let Err(broken) = chain.accept(entry.into()) {
                return Ok(Verification::Broken(broken));
            }
        }
        Ok(Verification::Intact(chain.head()))
    }

    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), LogError> {
        let mut contents = self.contents();
        let head = contents.head().position;
        if snapshot.position > head {
            return Err(LogError::SnapshotAhead { position: snapshot.position, head });
        }
        if contents.snapshot.as_ref().is_none_or(|kept| kept.position <= snapshot.position) {
            contents.snapshot = Some(snapshot);
        }
        Ok(())
    }

    async fn load_snapshot(&self, format: u32) -> Result<Option<Snapshot>, LogError> {
        Ok(self.contents().snapshot.clone().filter(|it| it.format == format))
    }

    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError> {
        Ok(self.contents().receipts.get(key).cloned())
    }

    async fn receipts_under(&self, keys: &[String]) -> Result<Vec<StoredReceipt>, LogError> {
        let contents = self.contents();
        Ok(keys.iter().filter_map(|key| contents.receipts.get(key).cloned()).collect())
    }

    async fn receipts(&self, after: &str, limit: usize) -> Result<Vec<StoredReceipt>, LogError> {
        let contents = self.contents();
        let beyond = contents.receipts.values().filter(|it| it.key.as_str() > after);
        let mut page: Vec<_> = beyond.cloned().collect();
        page.sort_by(|one, other| one.key.cmp(&other.key));
        page.truncate(limit.min(READ_MAX_ENTRIES));
        Ok(page)
    }

    async fn prune_receipts(&self, before_ms: i64) -> Result<u64, LogError> {
        let mut contents = self.contents();
        let count_before = contents.receipts.len();
        contents.receipts.retain(|_, it| it.at_ms >= before_ms);
        Ok((count_before - contents.receipts.len()) as u64)
    }
}

impl Contents {
    fn head(&self) -> Head {
        self.entries.last().map_or(self.start, Entry::head)
    }

    /// Where the entry that follows `after` is or would be; `None` before the
    /// start.
    fn index_after(&self, after: Position) -> Option<usize> {
        let distance = after.0.checked_sub(self.start.position.0)?;
        Some(usize::try_from(distance).unwrap_or(usize::MAX))
    }

    fn check_receipt_keys(&self, receipts: &[NewReceipt]) -> Result<(), LogError> {
        let mut seen = HashSet::new();
        for receipt in receipts {
            if self.receipts.contains_key(&receipt.key) || !seen.insert(&receipt.key) {
                return Err(LogError::DuplicateReceipt { key: receipt.key.clone() });
            }
        }
        Ok(())
    }
}
