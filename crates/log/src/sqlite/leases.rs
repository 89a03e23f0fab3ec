//! Leases in the log's file: the same promises as on a server, for one process.
//!
//! Start at [`SqliteLeases`]. Each change is one statement, so there is nothing
//! to leave half done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::failure::storage_error;
use super::files::DataDir;
use super::writer::Writer;
use crate::error::LogError;
use crate::leases::{Clock, HELD_MAX, Lease, Leases, TTL_MAX, expiry};

/// [`Leases`] in the file of a [`super::SqliteLog`].
pub struct SqliteLeases {
    pub(super) writer: Arc<Mutex<Writer>>,
    pub(super) files: Arc<DataDir>,
    pub(super) clock: Clock,
}

impl fmt::Debug for SqliteLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLeases").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Name, holder, epoch, expiry.
type Row = (String, Option<String>, i64, i64);

impl SqliteLeases {
    fn failed(&self, action: &'static str) -> impl Fn(sqlx::Error) -> LogError + '_ {
        move |error| storage_error(&self.files.database, action, error)
    }
}

#[async_trait]
impl Leases for SqliteLeases {
    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, LogError> {
        let now = (self.clock)();
        let row: Option<Row> = sqlx::query_as(
            "INSERT INTO leases (name, holder, epoch, expires_at_ms) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = epoch + 1,
                 expires_at_ms = excluded.expires_at_ms
             WHERE leases.holder IS NULL OR leases.holder = excluded.holder
                 OR leases.expires_at_ms NOT BETWEEN ?4 + 1 AND ?5
             RETURNING name, holder, epoch, expires_at_ms",
        )
        .bind(name)
        .bind(holder)
        .bind(expiry(now, ttl))
        .bind(now)
        .bind(expiry(now, TTL_MAX))
        .fetch_optional(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("acquire a lease"))?;
        Ok(row.and_then(lease))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Option<Lease>, LogError> {
        let now = (self.clock)();
        let row: Option<Row> = sqlx::query_as(
            "UPDATE leases SET expires_at_ms = ?1
             WHERE name = ?2 AND epoch = ?3 AND holder IS NOT NULL AND expires_at_ms > ?4
             RETURNING name, holder, epoch, expires_at_ms",
        )
        .bind(expiry(now, ttl))
        .bind(&lease.name)
        .bind(lease.epoch.cast_signed())
        .bind(now)
        .fetch_optional(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("renew a lease"))?;
        Ok(row.and_then(self::lease))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LogError> {
        sqlx::query("UPDATE leases SET holder = NULL WHERE name = ? AND epoch = ?")
            .bind(&lease.name)
            .bind(lease.epoch.cast_signed())
            .execute(self.writer.lock().await.connection())
            .await
            .map_err(self.failed("release a lease"))?;
        Ok(())
    }

    async fn current(&self, name: &str) -> Result<Option<Lease>, LogError> {
        let now = (self.clock)();
        let row: Option<Row> = sqlx::query_as(
            "SELECT name, holder, epoch, expires_at_ms FROM leases
             WHERE name = ?1 AND expires_at_ms BETWEEN ?2 + 1 AND ?3",
        )
        .bind(name)
        .bind(now)
        .bind(expiry(now, TTL_MAX))
        .fetch_optional(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("read a lease"))?;
        Ok(row.and_then(lease))
    }

    async fn held(&self, prefix: &str) -> Result<Vec<Lease>, LogError> {
        let now = (self.clock)();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT name, holder, epoch, expires_at_ms FROM leases
             WHERE substr(name, 1, length(?1)) = ?1 AND expires_at_ms BETWEEN ?2 + 1 AND ?3
             ORDER BY name LIMIT ?4",
        )
        .bind(prefix)
        .bind(now)
        .bind(expiry(now, TTL_MAX))
        .bind(HELD_MAX as i64)
        .fetch_all(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("read leases"))?;
        Ok(rows.into_iter().filter_map(lease).collect())
    }
}

/// `None` for one that was released.
fn lease((name, holder, epoch, expires_at_ms): Row) -> Option<Lease> {
    Some(Lease { name, holder: holder?, epoch: epoch.cast_unsigned(), expires_at_ms })
}
