//! The sealed table in the database.
//!
//! Start at [`PostgresSealedRows`]. It holds ciphertext and wrapped keys and can
//! read neither.

use std::sync::Arc;

use async_trait::async_trait;

use super::server::Server;
use crate::error::LogError;
use crate::sealed::{SealedRow, SealedRows, WrappedKey};

/// [`SealedRows`] in the database of a [`super::PostgresLog`].
#[derive(Clone, Debug)]
pub struct PostgresSealedRows {
    pub(super) server: Arc<Server>,
}

#[async_trait]
impl SealedRows for PostgresSealedRows {
    async fn put(&self, row: SealedRow) -> Result<(), LogError> {
        let put = self.server.run("seal a record", move |connection| {
            let SealedRow { key, ciphertext } = row.clone();
            let putting = sqlx::query(
                "INSERT INTO sealed (id, key_id, wrapped_key, ciphertext)
                 VALUES ($1, $2, $3, $4)
                 ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id,
                     wrapped_key = excluded.wrapped_key, ciphertext = excluded.ciphertext",
            );
            let putting = putting.bind(key.id).bind(key.key_id).bind(key.wrapped).bind(ciphertext);
            Box::pin(putting.execute(connection))
        });
        put.await.map(drop)
    }

    /// `false` also when a first attempt inserted it and its answer was lost.
    async fn insert(&self, row: SealedRow) -> Result<bool, LogError> {
        let inserted = self.server.run("seal a record", move |connection| {
            let SealedRow { key, ciphertext } = row.clone();
            let inserting = sqlx::query(
                "INSERT INTO sealed (id, key_id, wrapped_key, ciphertext)
                 VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
            );
            let inserting =
                inserting.bind(key.id).bind(key.key_id).bind(key.wrapped).bind(ciphertext);
            Box::pin(inserting.execute(connection))
        });
        Ok(inserted.await?.rows_affected() > 0)
    }

    async fn get(&self, id: &str) -> Result<Option<SealedRow>, LogError> {
        let id = id.to_owned();
        let wanted = id.clone();
        let row: Option<(String, Vec<u8>, Vec<u8>)> = self
            .server
            .run("read a sealed record", move |connection| {
                let getting = sqlx::query_as(
                    "SELECT key_id, wrapped_key, ciphertext FROM sealed WHERE id = $1",
                );
                Box::pin(getting.bind(wanted.clone()).fetch_optional(connection))
            })
            .await?;
        Ok(row.map(|(key_id, wrapped, ciphertext)| SealedRow {
            key: WrappedKey { id, key_id, wrapped },
            ciphertext,
        }))
    }

    /// `false` also when a first attempt deleted it and its answer was lost.
    async fn delete(&self, id: &str) -> Result<bool, LogError> {
        let id = id.to_owned();
        let deleted = self.server.run("delete a sealed record", move |connection| {
            let deleting = sqlx::query("DELETE FROM sealed WHERE id = $1");
            Box::pin(deleting.bind(id.clone()).execute(connection))
        });
        Ok(deleted.await?.rows_affected() > 0)
    }

    async fn page(&self, after: &str, limit: u32) -> Result<Vec<SealedRow>, LogError> {
        let after = after.to_owned();
        let rows: Vec<(String, String, Vec<u8>, Vec<u8>)> = self
            .server
            .run("read sealed records", move |connection| {
                let reading = sqlx::query_as(
                    "SELECT id, key_id, wrapped_key, ciphertext FROM sealed
                     WHERE id COLLATE \"C\" > $1 ORDER BY id COLLATE \"C\" LIMIT $2",
                );
                let reading = reading.bind(after.clone()).bind(i64::from(limit));
                Box::pin(reading.fetch_all(connection))
            })
            .await?;
        let row = |(id, key_id, wrapped, ciphertext)| SealedRow {
            key: WrappedKey { id, key_id, wrapped },
            ciphertext,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    async fn wrapped_by_others(
        &self,
        key_id: &str,
        limit: u32,
    ) -> Result<Vec<WrappedKey>, LogError> {
        let key_id = key_id.to_owned();
        let rows: Vec<(String, String, Vec<u8>)> = self
            .server
            .run("look for sealed records", move |connection| {
                let looking = sqlx::query_as(
                    "SELECT id, key_id, wrapped_key FROM sealed
                     WHERE key_id <> $1 ORDER BY id LIMIT $2",
                );
                let looking = looking.bind(key_id.clone()).bind(i64::from(limit));
                Box::pin(looking.fetch_all(connection))
            })
            .await?;
        let key = |(id, key_id, wrapped)| WrappedKey { id, key_id, wrapped };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn rewrap(&self, from: &WrappedKey, to: &WrappedKey) -> Result<bool, LogError> {
        let (from, to) = (from.clone(), to.clone());
        let rewrapped = self.server.run("rewrap a sealed record", move |connection| {
            let rewrapping = sqlx::query(
                "UPDATE sealed SET key_id = $1, wrapped_key = $2
                 WHERE id = $3 AND wrapped_key = $4",
            );
            let rewrapping = rewrapping
                .bind(to.key_id.clone())
                .bind(to.wrapped.clone())
                .bind(from.id.clone())
                .bind(from.wrapped.clone());
            Box::pin(rewrapping.execute(connection))
        });
        Ok(rewrapped.await?.rows_affected() > 0)
    }

    async fn key_ids(&self) -> Result<Vec<String>, LogError> {
        self.server
            .run("look for sealed records", |connection| {
                let looking = sqlx::query_scalar("SELECT DISTINCT key_id FROM sealed");
                Box::pin(looking.fetch_all(connection))
            })
            .await
    }
}
