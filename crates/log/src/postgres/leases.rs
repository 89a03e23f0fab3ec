//! Leases in the database, by the server's clock: what replicas agree on though
//! their own clocks differ.
//!
//! Start at [`PostgresLeases`]. Each change is one statement.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::server::Server;
use crate::error::LogError;
use crate::leases::{HELD_MAX, Lease, Leases, TTL_MAX, milliseconds};

/// `clock_timestamp()` throughout: `now()` is when a transaction began, which
/// for one that waited for a row lock is too early.
const ACQUIRE: &str = "
    INSERT INTO leases (name, holder, epoch, expires_at)
    VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond')
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = leases.epoch + 1,
        expires_at = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE leases.holder IS NULL OR leases.holder = excluded.holder
        OR leases.expires_at <= clock_timestamp()
        OR leases.expires_at > clock_timestamp() + $4 * interval '1 millisecond'
    RETURNING name, holder, epoch, (extract(epoch FROM expires_at) * 1000)::bigint";

const RENEW: &str = "
    UPDATE leases SET expires_at = clock_timestamp() + $1 * interval '1 millisecond'
    WHERE name = $2 AND epoch = $3 AND holder IS NOT NULL AND expires_at > clock_timestamp()
    RETURNING name, holder, epoch, (extract(epoch FROM expires_at) * 1000)::bigint";

const CURRENT: &str = "
    SELECT name, holder, epoch, (extract(epoch FROM expires_at) * 1000)::bigint
    FROM leases WHERE name = $1 AND expires_at > clock_timestamp()
        AND expires_at <= clock_timestamp() + $2 * interval '1 millisecond'";

const HELD: &str = "
    SELECT name, holder, epoch, (extract(epoch FROM expires_at) * 1000)::bigint
    FROM leases WHERE starts_with(name, $1) AND expires_at > clock_timestamp()
        AND expires_at <= clock_timestamp() + $3 * interval '1 millisecond'
    ORDER BY name LIMIT $2";

/// [`Leases`] in the database of a [`super::PostgresLog`].
#[derive(Clone, Debug)]
pub struct PostgresLeases {
    pub(super) server: Arc<Server>,
}

/// Name, holder, epoch, expiry.
type Row = (String, Option<String>, i64, i64);

#[async_trait]
impl Leases for PostgresLeases {
    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, LogError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let ttl_ms = milliseconds(ttl);
        let row: Option<Row> = self
            .server
            .run("acquire a lease", move |connection| {
                let (name, holder) = (name.clone(), holder.clone());
                let acquiring = sqlx::query_as(ACQUIRE).bind(name).bind(holder);
                let acquiring = acquiring.bind(ttl_ms as f64).bind(longest_ms());
                Box::pin(acquiring.fetch_optional(connection))
            })
            .await?;
        Ok(row.and_then(lease))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Option<Lease>, LogError> {
        let (name, epoch) = (lease.name.clone(), lease.epoch.cast_signed());
        let ttl_ms = milliseconds(ttl);
        let row: Option<Row> = self
            .server
            .run("renew a lease", move |connection| {
                let renewing =
                    sqlx::query_as(RENEW).bind(ttl_ms as f64).bind(name.clone()).bind(epoch);
                Box::pin(renewing.fetch_optional(connection))
            })
            .await?;
        Ok(row.and_then(self::lease))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LogError> {
        let (name, epoch) = (lease.name.clone(), lease.epoch.cast_signed());
        let released = self.server.run("release a lease", move |connection| {
            let releasing =
                sqlx::query("UPDATE leases SET holder = NULL WHERE name = $1 AND epoch = $2");
            Box::pin(releasing.bind(name.clone()).bind(epoch).execute(connection))
        });
        released.await.map(drop)
    }

    async fn current(&self, name: &str) -> Result<Option<Lease>, LogError> {
        let name = name.to_owned();
        let row: Option<Row> = self
            .server
            .run("read a lease", move |connection| {
                let reading = sqlx::query_as(CURRENT).bind(name.clone()).bind(longest_ms());
                Box::pin(reading.fetch_optional(connection))
            })
            .await?;
        Ok(row.and_then(lease))
    }

    async fn held(&self, prefix: &str) -> Result<Vec<Lease>, LogError> {
        let prefix = prefix.to_owned();
        let rows: Vec<Row> = self
            .server
            .run("read leases", move |connection| {
                let reading = sqlx::query_as(HELD).bind(prefix.clone()).bind(HELD_MAX as i64);
                let reading = reading.bind(longest_ms());
                Box::pin(reading.fetch_all(connection))
            })
            .await?;
        Ok(rows.into_iter().filter_map(lease).collect())
    }
}

fn longest_ms() -> f64 {
    milliseconds(TTL_MAX) as f64
}

/// `None` for one that was released.
fn lease((name, holder, epoch, expires_at_ms): Row) -> Option<Lease> {
    Some(Lease { name, holder: holder?, epoch: epoch.cast_unsigned(), expires_at_ms })
}
