//! The log in a PostgreSQL database, for any number of replicas.
//!
//! Start at [`PostgresLog`]. [`server`] owns the connections, [`writer`] the one
//! that appends, [`follow`] hears of other replicas' appends, [`migrate`] owns
//! the schema, [`rows`] the statements, [`failure`] the errors; [`leases`] and
//! [`sealed`] are the tables beside the log. The bytes and hashes of entries are
//! those of every other backend.

mod failure;
mod follow;
mod leases;
mod migrate;
mod rows;
mod schema;
mod sealed;
mod server;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Connection;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::batch::{Batch, StoredReceipt};
use crate::chain::{Break, BreakReason, Verification};
use crate::entry::{Entry, Head, Position};
use crate::error::LogError;
use crate::event_log::{EventLog, Snapshot};
use crate::newest::Newest;
use crate::place::Place;
use crate::stored::{self, EventRow, Stored};
use server::Server;
use writer::Writer;

pub use leases::PostgresLeases;
pub use schema::PostgresSchema;
pub use sealed::PostgresSealedRows;

/// An [`EventLog`] that replicas share.
///
/// Waits some seconds for a database that is restarting before a call fails. An
/// append whose connection was lost is never repeated: it fails with
/// [`LogError::OutcomeUnknown`], and the head tells.
#[derive(Debug)]
pub struct PostgresLog {
    server: Arc<Server>,
    writer: Arc<Mutex<Writer>>,
    newest: Arc<Newest>,
    /// Ended by being dropped with the log.
    followers: JoinSet<()>,
}

impl PostgresLog {
    /// Connects to the database at `url`, as in
    /// `postgres://helix@db.internal/helix?sslmode=verify-full`, creating the
    /// schema if the database is empty and bringing an older one up to date.
    ///
    /// # Errors
    /// When the database cannot be reached, is another program's, or has a
    /// schema newer than this program.
    pub async fn connect(url: &str) -> Result<PostgresLog, LogError> {
        PostgresLog::connect_to(url, PostgresSchema::EVENTS).await
    }

    /// As [`PostgresLog::connect`], for the log that is in `schema`.
    ///
    /// # Errors
    /// The same.
    pub async fn connect_to(url: &str, schema: PostgresSchema) -> Result<PostgresLog, LogError> {
        let server = Arc::new(Server::new(url, schema)?);
        let connected = server.connect().await;
        let mut connection = connected.map_err(|error| server.unreachable(error))?;
        migrate::migrate(&mut connection, schema, &server.place).await?;
        let _ = connection.close().await;

        let (position, _) = server.run("read the head", |it| Box::pin(rows::head(it))).await?;
        let newest = Arc::new(Newest::starting_at(position));
        let mut followers = JoinSet::new();
        followers.spawn(follow::listen(Arc::clone(&server), Arc::clone(&newest)));
        followers.spawn(follow::poll(Arc::clone(&server), Arc::clone(&newest)));
        let writer = Arc::new(Mutex::new(Writer::new(Arc::clone(&server))));
        Ok(PostgresLog { server, writer, newest, followers })
    }

    /// Waits for an append under way and hangs up. Dropping is as safe, only
    /// less polite.
    pub async fn close(mut self) {
        self.followers.shutdown().await;
        self.writer.lock().await.close().await;
        self.server.close().await;
    }

    /// Leases kept in this database, by its clock.
    #[must_use]
    pub fn leases(&self) -> PostgresLeases {
        PostgresLeases { server: Arc::clone(&self.server) }
    }

    /// The rows of the sealed table in this database.
    #[must_use]
    pub fn sealed_rows(&self) -> PostgresSealedRows {
        PostgresSealedRows { server: Arc::clone(&self.server) }
    }

    fn proper((position, hash): rows::RawHead, place: &Place) -> Result<Head, LogError> {
        Ok(Head { position, hash: stored::proper_hash(&hash, position, place)? })
    }
}

#[async_trait]
impl Stored for PostgresLog {
    fn place(&self) -> &Place {
        &self.server.place
    }

    async fn start(&self) -> Result<Head, LogError> {
        let start = self.server.run("read where the log starts", |it| Box::pin(rows::start(it)));
        PostgresLog::proper(start.await?, &self.server.place)
    }

    async fn rows_after(&self, after: Position, limit: usize) -> Result<Vec<EventRow>, LogError> {
        let reading = self.server.run("read entries", move |connection| {
            Box::pin(rows::events_after(connection, after, limit))
        });
        reading.await
    }
}

#[async_trait]
impl EventLog for PostgresLog {
    async fn head(&self) -> Result<Head, LogError> {
        let head = self.server.run("read the head", |it| Box::pin(rows::head(it)));
        PostgresLog::proper(head.await?, &self.server.place)
    }

    /// In a task of its own, so that a caller that goes away does not cost the
    /// connection and what it knows.
    async fn append(&self, batch: Batch) -> Result<Vec<Entry>, LogError> {
        batch.check_limits()?;
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let newest = Arc::clone(&self.newest);
        let appending = tokio::spawn(async move {
            let entries = writer.append(&batch).await?;
            if let Some(last) = entries.last() {
                newest.publish(last.position);
            }
            Ok(entries)
        });
        appending.await.unwrap_or_else(|source| {
            let place = self.server.place.clone();
            Err(LogError::OutcomeUnknown { place, source: source.into() })
        })
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
        let pruning = self
            .server
            .run("prune entries", move |connection| Box::pin(rows::prune(connection, through)));
        match pruning.await? {
            rows::Pruned::Removed(count) => Ok(count),
            rows::Pruned::Mismatch => Err(LogError::PruneMismatch { position: through.position }),
        }
    }

    /// The head has a row of its own here, so that entries cut off at the end
    /// are found too.
    async fn verify(&self) -> Result<Verification, LogError> {
        let head = self.head().await?;
        let verification = stored::verify(self).await?;
        let Verification::Intact(end) = verification else { return Ok(verification) };
        let position = end.position.next();
        if end.position < head.position {
            let reason = BreakReason::Missing { found: head.position };
            return Ok(Verification::Broken(Break { position, reason }));
        }
        if end.position == head.position && end.hash != head.hash {
            let (position, reason) = (end.position, BreakReason::HashMismatch);
            return Ok(Verification::Broken(Break { position, reason }));
        }
        Ok(verification)
    }

    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), LogError> {
        let head = self.head().await?.position;
        if snapshot.position > head {
            return Err(LogError::SnapshotAhead { position: snapshot.position, head });
        }
        let digest = stored::snapshot_digest(&snapshot);
        let snapshot = Arc::new(snapshot);
        let saving = self.server.run("save a snapshot", move |connection| {
            let snapshot = Arc::clone(&snapshot);
            Box::pin(async move { rows::replace_snapshot(connection, &snapshot, &digest).await })
        });
        saving.await
    }

    async fn load_snapshot(&self, format: u32) -> Result<Option<Snapshot>, LogError> {
        let loading = self.server.run("load the snapshot", move |connection| {
            Box::pin(rows::snapshot(connection, format))
        });
        let Some((snapshot, digest)) = loading.await? else {
            return Ok(None);
        };
        let head = self.head().await?.position;
        Ok(stored::undamaged(snapshot, &digest, head, &self.server.place))
    }

    async fn receipt(&self, key: &str) -> Result<Option<StoredReceipt>, LogError> {
        let key = key.to_owned();
        let reading = self.server.run("read a receipt", move |connection| {
            let key = key.clone();
            Box::pin(async move { rows::receipt(connection, &key).await })
        });
        reading.await
    }

    async fn receipts_under(&self, keys: &[String]) -> Result<Vec<StoredReceipt>, LogError> {
        let keys = keys.to_owned();
        let reading = self.server.run("read receipts", move |connection| {
            let keys = keys.clone();
            Box::pin(async move { rows::receipts_under(connection, &keys).await })
        });
        reading.await
    }

    async fn receipts(&self, after: &str, limit: usize) -> Result<Vec<StoredReceipt>, LogError> {
        let after = after.to_owned();
        let reading = self.server.run("read receipts", move |connection| {
            let after = after.clone();
            Box::pin(async move { rows::receipts_after(connection, &after, limit).await })
        });
        reading.await
    }

    async fn prune_receipts(&self, before_ms: i64) -> Result<u64, LogError> {
        let pruning = self.server.run("prune receipts", move |connection| {
            Box::pin(rows::delete_receipts_before(connection, before_ms))
        });
        pruning.await
    }
}
