//! The sealed table in the log's file.
//!
//! Start at [`SqliteSealedRows`]. It holds ciphertext and wrapped keys and can
//! read neither.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::failure::storage_error;
use super::files::DataDir;
use super::writer::Writer;
use crate::error::LogError;
use crate::sealed::{SealedRow, SealedRows, WrappedKey};

/// [`SealedRows`] in the file of a [`super::SqliteLog`].
#[derive(Debug)]
pub struct SqliteSealedRows {
    pub(super) writer: Arc<Mutex<Writer>>,
    pub(super) files: Arc<DataDir>,
}

impl SqliteSealedRows {
    fn failed(&self, action: &'static str) -> impl Fn(sqlx::Error) -> LogError + '_ {
        move |error| storage_error(&self.files.database, action, error)
    }
}

#[async_trait]
impl SealedRows for SqliteSealedRows {
    async fn put(&self, row: SealedRow) -> Result<(), LogError> {
        sqlx::query(
            "INSERT INTO sealed (id, key_id, wrapped_key, ciphertext) VALUES (?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id,
                 wrapped_key = excluded.wrapped_key, ciphertext = excluded.ciphertext",
        )
        .bind(row.key.id)
        .bind(row.key.key_id)
        .bind(row.key.wrapped)
        .bind(row.ciphertext)
        .execute(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("seal a record"))?;
        Ok(())
    }

    async fn insert(&self, row: SealedRow) -> Result<bool, LogError> {
        let inserted = sqlx::query(
            "INSERT INTO sealed (id, key_id, wrapped_key, ciphertext) VALUES (?, ?, ?, ?)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(row.key.id)
        .bind(row.key.key_id)
        .bind(row.key.wrapped)
        .bind(row.ciphertext)
        .execute(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("seal a record"))?;
        Ok(inserted.rows_affected() > 0)
    }

    async fn get(&self, id: &str) -> Result<Option<SealedRow>, LogError> {
        let row: Option<(String, Vec<u8>, Vec<u8>)> =
            sqlx::query_as("SELECT key_id, wrapped_key, ciphertext FROM sealed WHERE id = ?")
                .bind(id)
                .fetch_optional(self.writer.lock().await.connection())
                .await
                .map_err(self.failed("read a sealed record"))?;
        Ok(row.map(|(key_id, wrapped, ciphertext)| SealedRow {
            key: WrappedKey { id: id.to_owned(), key_id, wrapped },
            ciphertext,
        }))
    }

    async fn delete(&self, id: &str) -> Result<bool, LogError> {
        let deleted = sqlx::query("DELETE FROM sealed WHERE id = ?")
            .bind(id)
            .execute(self.writer.lock().await.connection())
            .await
            .map_err(self.failed("delete a sealed record"))?;
        Ok(deleted.rows_affected() > 0)
    }

    async fn page(&self, after: &str, limit: u32) -> Result<Vec<SealedRow>, LogError> {
        let rows: Vec<(String, String, Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "SELECT id, key_id, wrapped_key, ciphertext FROM sealed
             WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("read sealed records"))?;
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
        let rows: Vec<(String, String, Vec<u8>)> = sqlx::query_as(
            "SELECT id, key_id, wrapped_key FROM sealed WHERE key_id <> ? ORDER BY id LIMIT ?",
        )
        .bind(key_id)
        .bind(limit)
        .fetch_all(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("look for sealed records"))?;
        let key = |(id, key_id, wrapped)| WrappedKey { id, key_id, wrapped };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn rewrap(&self, from: &WrappedKey, to: &WrappedKey) -> Result<bool, LogError> {
        let updated = sqlx::query(
            "UPDATE sealed SET key_id = ?, wrapped_key = ? WHERE id = ? AND wrapped_key = ?",
        )
        .bind(&to.key_id)
        .bind(&to.wrapped)
        .bind(&from.id)
        .bind(&from.wrapped)
        .execute(self.writer.lock().await.connection())
        .await
        .map_err(self.failed("rewrap a sealed record"))?;
        Ok(updated.rows_affected() > 0)
    }

    async fn key_ids(&self) -> Result<Vec<String>, LogError> {
        sqlx::query_scalar("SELECT DISTINCT key_id FROM sealed")
            .fetch_all(self.writer.lock().await.connection())
            .await
            .map_err(self.failed("look for sealed records"))
    }
}
