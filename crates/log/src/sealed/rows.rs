//! What a database does for the sealed table: keep rows it cannot read.
//!
//! Start at [`SealedRows`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::LogError;

/// The data key of a record, encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Of the record.
    pub id: String,
    /// Of the key that wraps.
    pub key_id: String,
    pub wrapped: Vec<u8>,
}

/// A record, encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRow {
    pub key: WrappedKey,
    pub ciphertext: Vec<u8>,
}

/// Rows by id. Each method is atomic.
#[async_trait]
pub trait SealedRows: fmt::Debug + Send + Sync + 'static {
    /// Writes `row` in place of the one with its id.
    async fn put(&self, row: SealedRow) -> Result<(), LogError>;

    /// Writes `row` unless there is one with its id; `false` when there was.
    async fn insert(&self, row: SealedRow) -> Result<bool, LogError>;

    async fn get(&self, id: &str) -> Result<Option<SealedRow>, LogError>;

    /// `false` when there was none.
    async fn delete(&self, id: &str) -> Result<bool, LogError>;

    /// Up to `limit` rows whose id is beyond `after`, in the order of their ids.
    async fn page(&self, after: &str, limit: u32) -> Result<Vec<SealedRow>, LogError>;

    /// Up to `limit` data keys that are wrapped by another key than `key_id`.
    async fn wrapped_by_others(
        &self,
        key_id: &str,
        limit: u32,
    ) -> Result<Vec<WrappedKey>, LogError>;

    /// Replaces `from` by `to`; `false` when the row has changed since.
    async fn rewrap(&self, from: &WrappedKey, to: &WrappedKey) -> Result<bool, LogError>;

    /// Every key that wraps something, once.
    async fn key_ids(&self) -> Result<Vec<String>, LogError>;
}

/// [`SealedRows`] that are gone when dropped.
#[derive(Debug, Default)]
pub struct MemorySealedRows {
    rows: Mutex<BTreeMap<String, SealedRow>>,
}

impl MemorySealedRows {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, SealedRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SealedRows for MemorySealedRows {
    async fn put(&self, row: SealedRow) -> Result<(), LogError> {
        self.rows().insert(row.key.id.clone(), row);
        Ok(())
    }

    async fn insert(&self, row: SealedRow) -> Result<bool, LogError> {
        let mut rows = self.rows();
        let is_new = !rows.contains_key(&row.key.id);
        if is_new {
            rows.insert(row.key.id.clone(), row);
        }
        Ok(is_new)
    }

    async fn get(&self, id: &str) -> Result<Option<SealedRow>, LogError> {
        Ok(self.rows().get(id).cloned())
    }

    async fn delete(&self, id: &str) -> Result<bool, LogError> {
        Ok(self.rows().remove(id).is_some())
    }

    async fn page(&self, after: &str, limit: u32) -> Result<Vec<SealedRow>, LogError> {
        let rows = self.rows();
        let beyond = rows.values().filter(|it| it.key.id.as_str() > after);
        Ok(beyond.take(limit as usize).cloned().collect())
    }

    async fn wrapped_by_others(
        &self,
        key_id: &str,
        limit: u32,
    ) -> Result<Vec<WrappedKey>, LogError> {
        let rows = self.rows();
        let others = rows.values().map(|it| &it.key).filter(|it| it.key_id != key_id);
        Ok(others.take(limit as usize).cloned().collect())
    }

    async fn rewrap(&self, from: &WrappedKey, to: &WrappedKey) -> Result<bool, LogError> {
        let mut rows = self.rows();
        let Some(row) = rows.get_mut(&from.id).filter(|it| it.key == *from) else {
            return Ok(false);
        };
        row.key = to.clone();
        Ok(true)
    }

    async fn key_ids(&self) -> Result<Vec<String>, LogError> {
        let mut ids: Vec<_> = self.rows().values().map(|it| it.key.key_id.clone()).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }
}
