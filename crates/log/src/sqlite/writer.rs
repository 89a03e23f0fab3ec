//! The one connection that writes, and what it knows about the log.
//!
//! Start at [`Writer::append`]. A writer is used under a lock by one caller at
//! a time; [`super::SqliteLog`] sees to that.

use std::sync::Arc;

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
use crate::newest::Newest;
use crate::stored::{proper_hash, snapshot_digest};

#[derive(Debug)]
pub(super) struct Writer {
    // Declared, and therefore dropped, before the lock that `files` holds.
    connection: SqliteConnection,
    /// `None` from the start of a transaction until it is known to be
    /// committed: after a failure the next append looks at what is there.
    head: Option<Head>,
    files: Arc<DataDir>,
    newest: Arc<Newest>,
}

impl Writer {
    pub(super) async fn open(files: Arc<DataDir>) -> Result<Writer, LogError> {
        let path = &files.database;
        let mut connection = SqliteConnection::connect_with(&files.writer())
            .await
            .map_err(|error| storage_error(path, "open the database", error))?;
        migrate::check(&mut connection, path).await?;
        migrate::migrate(&mut connection, path).await?;
        let newest = Arc::default();
        let mut writer = Writer { connection, head: None, files, newest };
        // Finds damage of the newest page now rather than at the first append.
        let head = writer.head().await?;
        writer.newest.publish(head.position);
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
        self.newest.publish(chain.head().position);
        Ok(entries)
    }

    pub(super) fn newest(&self) -> Arc<Newest> {
        Arc::clone(&self.newest)
    }

    /// For single statements on tables beside the log.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Must not be cancelled, as [`Writer::append`].
    pub(super) async fn prune(&mut self, through: Head) -> Result<u64, LogError> {
        let path = &self.files.database;
        let failed = |error| storage_error(path, "prune entries", error);
        let mut transaction =
            self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let (start, _) = rows::start(&mut transaction).await.map_err(failed)?;
        if through.position <= start {
            return Ok(0);
        }
        let hash = rows::hash_at(&mut transaction, through.position).await.map_err(failed)?;
        if hash.as_deref() != Some(&through.hash[..]) {
            return Err(LogError::PruneMismatch { position: through.position });
        }
        let removed = rows::delete_events_through(&mut transaction, through).await;
        let removed = removed.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(removed)
    }

    pub(super) async fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        let head = self.head().await?.position;
        if snapshot.position > head {
            return Err(LogError::SnapshotAhead { position: snapshot.position, head });
        }
        let digest = snapshot_digest(snapshot);
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
        let head = head(&mut self.connection, &self.files).await?;
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
        if batch.receipts.is_empty() && entries.len() <= rows::ROWS_PER_INSERT {
            // A statement is a transaction: this saves two of three trips to
            // SQLite's thread.
            return rows::insert_events(&mut self.connection, entries).await.map_err(failed);
        }
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

/// The head as the database has it.
pub(super) async fn head(
    connection: &mut SqliteConnection,
    files: &DataDir,
) -> Result<Head, LogError> {
    let failed = |error| storage_error(&files.database, "read the last entry", error);
    let (position, hash) = match rows::last_event(&mut *connection).await.map_err(failed)? {
        Some(last) => (last.position, last.hash),
        None => rows::start(connection).await.map_err(failed)?,
    };
    Ok(Head { position, hash: proper_hash(&hash, position, &files.place)? })
}
