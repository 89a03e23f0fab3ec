//! The one connection of this process that appends, and what it knows about the
//! log.
//!
//! Start at [`Writer::append`]. Other replicas append too: what this one knows
//! is only a guess that saves a round trip, and the statement checks it.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::failure::{UNIQUE_VIOLATION, code, is_connection_lost, storage_error};
use super::rows;
use super::server::{Server, TRUSTED_IDLE};
use crate::batch::Batch;
use crate::chain::Chain;
use crate::entry::{Entry, Head};
use crate::error::LogError;
use crate::stored::proper_hash;

/// A server that says nothing for this long counts as lost; longer than the
/// wait for the head's lock, which it would report.
const APPEND_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Writer {
    server: Arc<Server>,
    /// Taken out while in use: after a failure, or when its user was cancelled,
    /// there is none, and the next use makes one.
    connection: Option<(PgConnection, Instant)>,
    /// The head after this process's last append.
    head: Option<Head>,
}

/// What an attempt to append came to.
enum Attempt {
    Done(Vec<Entry>),
    /// The head this process knew of was not the log's.
    Guessed,
}

impl Writer {
    pub(super) fn new(server: Arc<Server>) -> Writer {
        Writer { server, connection: None, head: None }
    }

    pub(super) async fn append(&mut self, batch: &Batch) -> Result<Vec<Entry>, LogError> {
        let (mut connection, is_fresh) = self.connection().await?;
        let appended = self.append_on(&mut connection, batch).await;
        match &appended {
            Ok(_) | Err(LogError::Stale { .. } | LogError::DuplicateReceipt { .. }) => {
                self.connection = Some((connection, Instant::now()));
            }
            Err(error) => {
                tracing::debug!(%error, is_fresh, "the appending connection is given up");
                self.head = None;
            }
        }
        appended
    }

    /// Good order is polite to the server and nothing else.
    pub(super) async fn close(&mut self) {
        if let Some((connection, _)) = self.connection.take() {
            let _ = connection.close().await;
        }
    }

    async fn append_on(
        &mut self,
        connection: &mut PgConnection,
        batch: &Batch,
    ) -> Result<Vec<Entry>, LogError> {
        let guess = self.head.take().filter(|it| it.position == batch.expected);
        if let Some(head) = guess
            && let Attempt::Done(entries) = self.attempt(connection, head, batch).await?
        {
            return Ok(entries);
        }
        let head = self.read_head(connection).await?;
        if head.position != batch.expected {
            return Err(LogError::Stale { expected: batch.expected, actual: head.position });
        }
        match self.attempt(connection, head, batch).await? {
            Attempt::Done(entries) => Ok(entries),
            Attempt::Guessed => {
                let actual = self.read_head(connection).await?.position;
                Err(LogError::Stale { expected: batch.expected, actual })
            }
        }
    }

    async fn attempt(
        &mut self,
        connection: &mut PgConnection,
        head: Head,
        batch: &Batch,
    ) -> Result<Attempt, LogError> {
        let mut chain = Chain::after(head);
        let entries: Vec<Entry> = batch.entries.iter().map(|it| chain.extend(it.clone())).collect();
        if entries.is_empty() && batch.receipts.is_empty() {
            let is_head = self.read_head(connection).await? == head;
            return Ok(if is_head { Attempt::Done(entries) } else { Attempt::Guessed });
        }
        let to = chain.head();
        let appending = rows::append(connection, head, to, &entries, &batch.receipts);
        let error = match tokio::time::timeout(APPEND_TIMEOUT, appending).await {
            Ok(Ok(true)) => {
                self.head = Some(to);
                return Ok(Attempt::Done(entries));
            }
            Ok(Ok(false)) => return Ok(Attempt::Guessed),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::Io(io::ErrorKind::TimedOut.into()),
        };
        if is_connection_lost(&error) {
            let place = self.server.place.clone();
            return Err(LogError::OutcomeUnknown { place, source: error.into() });
        }
        if code(&error) == UNIQUE_VIOLATION
            && let Some(key) = self.taken_key(connection, batch).await?
        {
            return Err(LogError::DuplicateReceipt { key });
        }
        Err(storage_error(&self.server.place, "append", error))
    }

    /// The receipt key that made the append fail: taken in the log, or twice in
    /// the batch.
    async fn taken_key(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
    ) -> Result<Option<String>, LogError> {
        let keys = batch.receipts.iter().map(|it| it.key.as_str()).collect();
        let taken = rows::taken_key(connection, keys).await;
        let taken = taken.map_err(|error| storage_error(&self.server.place, "append", error))?;
        let mut seen = HashSet::new();
        let twice = batch.receipts.iter().find(|it| !seen.insert(&it.key));
        Ok(taken.or_else(|| twice.map(|it| it.key.clone())))
    }

    async fn read_head(&self, connection: &mut PgConnection) -> Result<Head, LogError> {
        let place = &self.server.place;
        let reading = tokio::time::timeout(APPEND_TIMEOUT, rows::head(connection)).await;
        let read = reading.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())));
        let (position, hash) =
            read.map_err(|error| storage_error(place, "read the head", error))?;
        Ok(Head { position, hash: proper_hash(&hash, position, place)? })
    }

    /// A connection that was good a moment ago, or a new one; whether it is new.
    async fn connection(&mut self) -> Result<(PgConnection, bool), LogError> {
        if let Some((mut connection, used)) = self.connection.take() {
            let is_good = used.elapsed() < TRUSTED_IDLE
                || matches!(
                    tokio::time::timeout(APPEND_TIMEOUT, connection.ping()).await,
                    Ok(Ok(()))
                );
            if is_good {
                return Ok((connection, false));
            }
        }
        let connected = self.server.connect().await;
        Ok((connected.map_err(|error| self.server.unreachable(error))?, true))
    }
}
