//! The log in one SQLite file, for everything that runs on one machine.
//!
//! Start at [`SqliteLog`]. One connection writes ([`writer`]), a few others
//! read. [`files`] owns what is on disk and the lock, [`migrate`] the schema,
//! [`rows`] the statements, [`failure`] the errors; [`leases`] and [`sealed`] are
//! the tables beside the log.

mod failure;
mod files;
mod leases;
mod migrate;
mod rows;
mod sealed;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use tokio::sync::{Mutex, watch};

use crate::batch::{Batch, StoredReceipt};
use crate::chain::Verification;
use crate::entry::{Entry, Head, Position};
use crate::error::LogError;
use crate::event_log::{EventLog, Snapshot};
use crate::leases::Clock;
use crate::newest::Newest;
use crate::place::Place;
use crate::stored::{self, EventRow, Stored};
use failure::storage_error;
use files::DataDir;
use writer::Writer;

pub use leases::SqliteLeases;
pub use sealed::SqliteSealedRows;

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
    newest: Arc<Newest>,
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
        let newest = writer.newest();
        Ok(SqliteLog { writer: Arc::new(Mutex::new(writer)), newest, readers, files })
    }

    /// Waits for an append under way, closes the file in good order, leaving no
    /// write-ahead log behind, and releases the directory. Dropping is as safe,
    /// only less tidy.
    pub async fn close(self) -> Result<(), LogError> {
        self.readers.close().await;
        drop(self.writer.lock().await);
        match Arc::into_inner(self.writer) {
            Some(writer) => writer.into_inner().close().await,
            // An append is just letting go of it, or leases or sealed rows share
            // it; the last of them closes it.
            None => Ok(()),
        }
    }

    /// Leases kept in this log's file. Times come from `clock`: one process has
    /// the file, so its clock is the only one.
    #[must_use]
    pub fn leases(&self, clock: Clock) -> SqliteLeases {
        let (writer, files) = (Arc::clone(&self.writer), Arc::clone(&self.files));
        SqliteLeases { writer, files, clock }
    }

    /// The rows of the sealed table in this log's file.
    #[must_use]
    pub fn sealed_rows(&self) -> SqliteSealedRows {
        let (writer, files) = (Arc::clone(&self.writer), Arc::clone(&self.files));
        SqliteSealedRows { writer, files }
    }

    /// Runs a transaction in a task of its own, so that a caller that goes away
    /// cannot leave it half done on the only connection that writes.
    async fn uncancelled<T: Send + 'static>(
        &self,
        action: &'static str,
        transaction: impl Future<Output = Result<T, LogError>> + Send + 'static,
    ) -> Result<T, LogError> {
        tokio::spawn(transaction).await.unwrap_or_else(|source| {
            let place = self.files.place.clone();
            Err(LogError::Storage { action, place, source: source.into() })
        })
    }

    fn failed(&self, action: &'static str, error: sqlx::Error) -> LogError {
        storage_error(&self.files.database, action, error)
    }
}

#[async_trait]
impl Stored for SqliteLog {
    fn place(&self) -> &Place {
        &self.files.place
    }

    async fn start(&self) -> Result<Head, LogError> {
        let failed = |error| self.failed("read where the log starts", error);
        let mut reader = self.readers.acquire().await.map_err(failed)?;
        let (position, hash) = rows::start(&mut reader).await.map_err(failed)?;
        Ok(Head { position, hash: stored::proper_hash(&hash, position, &self.files.place)? })
    }

    async fn rows_after(&self, after: Position, limit: usize) -> Result<Vec<EventRow>, LogError> {
        let rows = rows::events_after(&self.readers, after, limit).await;
        rows.map_err(|error| self.failed("read entries", error))
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    async fn head(&self) -> Result<Head, LogError> {
        let reader = self.readers.acquire().await;
        let mut reader = reader.map_err(|error| self.failed("read the last entry", error))?;
        writer::head(&mut reader, &self.files).await
    }

    async fn append(&self, batch: Batch) -> Result<Vec<Entry>, LogError> {
        batch.check_limits()?;
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        self.uncancelled("append", async move { writer.append(batch).await }).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Vec<Entry>, LogError> {
        stored::read(self, after, limit).await
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.newest.subscribe()
    }

    async fn start(&self) -> Result<Head, LogError> {
        Stored::start(self).await
    }

    async fn prune(&self, through: Head) -> Result<u64, LogError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        self.uncancelled("prune entries", async move { writer.prune(through).await }).await
    }

    async fn verify(&self) -> Result<Verification, LogError> {
        stored::verify(self).await
    }

    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), LogError> {
        self.writer.lock().await.save_snapshot(&snapshot).await
    }

    async fn load_snapshot(&self, format: u32) -> Result<Option<Snapshot>, LogError> {
        let found = rows::snapshot(&self.readers, format).await;
        let found = found.map_err(|error| self.failed("load the snapshot", error))?;
        let Some((snapshot, digest)) = found else {
            return Ok(None);
        };
        let head = self.head().await?.position;
        Ok(stored::undamaged(snapshot, &digest, head, &self.files.place))
    }

    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError> {
        let found = rows::receipt(&self.readers, key).await;
        found.map_err(|error| self.failed("read a receipt", error))
    }

    async fn receipts_under(&self, keys: &[String]) -> Result<Vec<StoredReceipt>, LogError> {
        let found = rows::receipts_under(&self.readers, keys).await;
        found.map_err(|error| self.failed("read receipts", error))
    }

    async fn receipts(&self, after: &str, limit: usize) -> Result<Vec<StoredReceipt>, LogError> {
        let found = rows::receipts_after(&self.readers, after, limit).await;
        found.map_err(|error| self.failed("read receipts", error))
    }

    async fn prune_receipts(&self, before_ms: i64) -> Result<u64, LogError> {
        self.writer.lock().await.prune_receipts(before_ms).await
    }
}
