//! The log in one SQLite file, for everything that runs on one machine.
//!
//! Start at [`SqliteLog`]. One connection writes ([`writer`]), a few others
//! read. [`files`] owns what is on disk and the lock, [`migrate`] the schema,
//! [`rows`] the statements, [`failure`] the errors.

mod failure;
mod files;
mod migrate;
mod rows;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use tokio::sync::Mutex;

use crate::batch::{Batch, StoredReceipt};
use crate::chain::{Chain, Verification};
use crate::entry::{Entry, Head, Position};
use crate::error::LogError;
use crate::event_log::{EventLog, READ_MAX_ENTRIES, Snapshot};
use failure::storage_error;
use files::DataDir;
use writer::Writer;

/// One for whoever follows the log and one beside a long verification. State is
/// read from memory, so more would only cost memory.
const READER_CONNECTIONS: u32 = 2;

/// Readers are idle nearly always; each holds a thread and a page cache.
const READER_IDLE: Duration = Duration::from_secs(60);

/// An [`EventLog`] in `log.db` of a data directory, which it locks against
/// other processes for as long as it lives.
#[derive(Debug)]
pub struct SqliteLog {
    writer: Arc<Mutex<Writer>>,
    readers: SqlitePool,
    files: Arc<DataDir>,
}

impl SqliteLog {
    /// Opens the log of `directory`, creating both if missing and bringing an
    /// older schema up to date.
    pub async fn open(directory: impl AsRef<Path>) -> Result<SqliteLog, LogError> {
        let files = Arc::new(DataDir::open(directory.as_ref()).await?);
        let writer = Writer::open(Arc::clone(&files)).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READER_CONNECTIONS)
            .idle_timeout(READER_IDLE)
            .max_lifetime(None)
            .connect_lazy_with(files.reader());
        Ok(SqliteLog { writer: Arc::new(Mutex::new(writer)), readers, files })
    }

    /// Waits for an append under way, closes the file in good order, leaving no
    /// write-ahead log behind, and releases the directory. Dropping is as safe,
    /// only less tidy.
    pub async fn close(self) -> Result<(), LogError> {
        self.readers.close().await;
        drop(self.writer.lock().await);
        match Arc::into_inner(self.writer) {
            Some(writer) => writer.into_inner().close().await,
            // An append is just letting go of it, and that closes it too.
            None => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, error: sqlx::Error) -> LogError {
        storage_error(&self.files.database, action, error)
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    async fn head(&self) -> Result<Head, LogError> {
        let failed = |error| self.failed("read the last entry", error);
        let mut reader = self.readers.acquire().await.map_err(failed)?;
        let last = rows::last_event(&mut reader).await.map_err(failed)?;
        rows::head_of(last.as_ref(), &self.files.database)
    }

    /// In a task of its own, so that a caller that goes away cannot leave a
    /// transaction half done on the only connection that writes.
    async fn append(&self, batch: Batch) -> Result<Vec<Entry>, LogError> {
        batch.check_limits()?;
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let appending = tokio::spawn(async move { writer.append(batch).await });
        appending.await.unwrap_or_else(|source| {
            let path = self.files.database.clone();
            Err(LogError::Storage { action: "append", path, source: source.into() })
        })
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Vec<Entry>, LogError> {
        let rows = rows::events_after(&self.readers, after, limit).await;
        let rows = rows.map_err(|error| self.failed("read entries", error))?;
        let mut page = Vec::with_capacity(rows.len());
        for (row, expected) in rows.into_iter().zip(after.0.saturating_add(1)..) {
            if row.position.0 != expected {
                let detail = format!("entry {expected} is missing");
                return Err(failure::corrupt(&self.files.database, detail));
            }
            page.push(row.into_entry(&self.files.database)?);
        }
        Ok(page)
    }

    async fn verify(&self) -> Result<Verification, LogError> {
        let mut chain = Chain::after(Head::EMPTY);
        loop {
            let after = chain.head().position;
            let rows = rows::events_after(&self.readers, after, READ_MAX_ENTRIES).await;
            let rows = rows.map_err(|error| self.failed("verify entries", error))?;
            if rows.is_empty() {
                return Ok(Verification::Intact(chain.head()));
            }
            for row in &rows {
                if let Err(broken) = chain.accept(row.link()) {
                    return Ok(Verification::Broken(broken));
                }
            }
        }
    }

    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), LogError> {
        self.writer.lock().await.save_snapshot(&snapshot).await
    }

    /// A damaged snapshot is reported and passed over: the log itself is whole.
    async fn load_snapshot(&self, format: u32) -> Result<Option<Snapshot>, LogError> {
        let found = rows::snapshot(&self.readers, format).await;
        let found = found.map_err(|error| self.failed("load the snapshot", error))?;
        let Some((snapshot, digest)) = found else {
            return Ok(None);
        };
        let intact = Sha256::digest(&snapshot.bytes)[..] == digest[..];
        if !intact || snapshot.position > self.head().await?.position {
            let path = self.files.database.display();
            tracing::warn!(%path, position = snapshot.position.0, "damaged snapshot ignored");
            return Ok(None);
        }
        Ok(Some(snapshot))
    }

    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError> {
        let found = rows::receipt(&self.readers, key).await;
        found.map_err(|error| self.failed("read a receipt", error))
    }

    async fn prune_receipts(&self, before_ms: i64) -> Result<u64, LogError> {
        self.writer.lock().await.prune_receipts(before_ms).await
    }
}
