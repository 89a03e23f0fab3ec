//! The one connection that writes, and what it knows about the log.
//!
//! Start at [`Writer::append`]. A writer is used under a lock by one caller at
//! a time; [`super::SqliteLog`] sees to that.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::failure::storage_error;
use super::files::DataDir;
use super::{migrate, rows};
use crate::batch::Batch;
use crate::chain::Chain;
use crate::entry::{Entry, Head};
use crate::error::LogError;
use crate::event_log::Snapshot;

#[derive(Debug)]
pub(super) struct Writer {
    // Declared, and therefore dropped, before the lock that `files` holds.
    connection: SqliteConnection,
    /// `None` from the start of a transaction until it is known to be
    /// committed: after a failure the next append looks at what is there.
    head: Option<Head>,
    files: Arc<DataDir>,
}

impl Writer {
    pub(super) async fn open(files: Arc<DataDir>) -> Result<Writer, LogError> {
        let path = &files.database;
        let mut connection = SqliteConnection::connect_with(&files.writer())
            .await
            .map_err(|error| storage_error(path, "open the database", error))?;
        migrate::check(&mut connection, path).await?;
        migrate::migrate(&mut connection, path).await?;
        let mut writer = Writer { connection, head: None, files };
        // Finds damage of the newest page now rather than at the first append.
        writer.head().await?;
        Ok(writer)
    }

    pub(super) async fn close(self) -> Result<(), LogError> {
        let closed = self.connection.close().await;
        closed.map_err(|error| storage_error(&self.files.database, "close the database", error))
    }

    /// Must not be cancelled: a connection abandoned between BEGIN and COMMIT
    /// is of no more use.
    pub(super) async fn append(&mut self, mut batch: Batch) -> Result<Vec<Entry>, LogError> {
        let head = self.head().await?;
        if batch.expected != head.position {
            return Err(LogError::Stale { expected: batch.expected, actual: head.position });
        }
        let mut chain = Chain::after(head);
        let new_entries = std::mem::take(&mut batch.entries);
        let entries: Vec<Entry> = new_entries.into_iter().map(|it| chain.extend(it)).collect();
        if entries.is_empty() && batch.receipts.is_empty() {
            return Ok(entries);
        }
        self.head = None;
        self.write(&batch, &entries, chain.head()).await?;
        self.head = Some(chain.head());
        Ok(entries)
    }

    pub(super) async fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        let head = self.head().await?.position;
        if snapshot.position > head {
            return Err(LogError::SnapshotAhead { position: snapshot.position, head });
        }
        let digest = Sha256::digest(&snapshot.bytes);
        let saved = rows::replace_snapshot(&mut self.connection, snapshot, &digest).await;
        saved.map_err(|error| self.failed("save a snapshot", error))
    }

    pub(super) async fn prune_receipts(&mut self, before_ms: i64) -> Result<u64, LogError> {
        let pruned = rows::delete_receipts_before(&mut self.connection, before_ms).await;
        pruned.map_err(|error| self.failed("prune receipts", error))
    }

    async fn head(&mut self) -> Result<Head, LogError> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let last = rows::last_event(&mut self.connection).await;
        let last = last.map_err(|error| self.failed("read the last entry", error))?;
        let head = rows::head_of(last.as_ref(), &self.files.database)?;
        self.head = Some(head);
        Ok(head)
    }

    async fn write(
        &mut self,
        batch: &Batch,
        entries: &[Entry],
        head: Head,
    ) -> Result<(), LogError> {
        let path = &self.files.database;
        let failed = |error| storage_error(path, "append", error);
        let mut transaction =
            self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        rows::insert_events(&mut transaction, entries).await.map_err(failed)?;
        let taken = rows::insert_receipts(&mut transaction, &batch.receipts, head.position).await;
        if let Some(receipt) = taken.map_err(failed)? {
            let key = receipt.key.clone();
            transaction.rollback().await.map_err(failed)?;
            return Err(LogError::DuplicateReceipt { key });
        }
        transaction.commit().await.map_err(failed)
    }

    fn failed(&self, action: &'static str, error: sqlx::Error) -> LogError {
        storage_error(&self.files.database, action, error)
    }
}
