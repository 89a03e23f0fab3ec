//! The statements: each function is one of them, with its rows turned into the
//! crate's nouns.
//!
//! Start anywhere; nothing here decides, [`super`] does. Errors are SQLite's
//! own, the caller knows what was attempted.

use std::collections::HashSet;

use futures::TryStreamExt;
use sqlx::sqlite::{Sqlite, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row};

use crate::batch::{NewReceipt, StoredReceipt};
use crate::entry::{Entry, Head, Position};
use crate::event_log::{READ_MAX_BYTES, READ_MAX_ENTRIES, Snapshot};
use crate::stored::{EventRow, to_integer, to_position};

/// Rows of one INSERT. Fewer trips to SQLite's thread than one by one, and few
/// enough different statements for the statement cache to hold them all.
pub(super) const ROWS_PER_INSERT: usize = 64;

/// `None` when the database holds none.
pub(super) async fn last_event(
    connection: &mut SqliteConnection,
) -> Result<Option<EventRow>, sqlx::Error> {
    let row: Option<(i64, i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT position, at_ms, payload, hash FROM events ORDER BY position DESC LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(position, at_ms, payload, hash)| EventRow {
        position: to_position(position),
        at_ms,
        payload,
        hash,
    }))
}

/// What the oldest event is chained to, its hash not yet known to be one.
pub(super) async fn start(
    connection: &mut SqliteConnection,
) -> Result<(Position, Vec<u8>), sqlx::Error> {
    let (position, hash): (i64, Vec<u8>) =
        sqlx::query_as("SELECT position, hash FROM start").fetch_one(connection).await?;
    Ok((to_position(position), hash))
}

/// The only statements that remove events; the triggers allow them in this
/// order and no other. The caller has compared the hash.
pub(super) async fn delete_events_through(
    connection: &mut SqliteConnection,
    through: Head,
) -> Result<u64, sqlx::Error> {
    sqlx::query("UPDATE start SET position = ?, hash = ?")
        .bind(to_integer(through.position))
        .bind(&through.hash[..])
        .execute(&mut *connection)
        .await?;
    let deleted = sqlx::query("DELETE FROM events WHERE position <= ?")
        .bind(to_integer(through.position))
        .execute(connection);
    Ok(deleted.await?.rows_affected())
}

/// `None` when there is no such event.
pub(super) async fn hash_at(
    connection: &mut SqliteConnection,
    position: Position,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar("SELECT hash FROM events WHERE position = ?")
        .bind(to_integer(position))
        .fetch_optional(connection)
        .await
}

pub(super) async fn events_after(
    readers: &SqlitePool,
    after: Position,
    limit: usize,
) -> Result<Vec<EventRow>, sqlx::Error> {
    let limit = i64::try_from(limit.min(READ_MAX_ENTRIES)).unwrap_or(0);
    let mut rows = sqlx::query(
        "SELECT position, at_ms, payload, hash FROM events WHERE position > ? ORDER BY position LIMIT ?",
    )
    .bind(to_integer(after))
    .bind(limit)
    .fetch(readers);

    let mut page = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let event = EventRow {
            position: to_position(row.try_get(0)?),
            at_ms: row.try_get(1)?,
            payload: row.try_get(2)?,
            hash: row.try_get(3)?,
        };
        bytes += event.payload.len();
        page.push(event);
        if bytes >= READ_MAX_BYTES {
            break;
        }
    }
    Ok(page)
}

pub(super) async fn insert_events(
    connection: &mut SqliteConnection,
    entries: &[Entry],
) -> Result<(), sqlx::Error> {
    for rows in entries.chunks(ROWS_PER_INSERT) {
        let mut insert: QueryBuilder<'_, Sqlite> =
            QueryBuilder::new("INSERT INTO events (position, at_ms, payload, hash) ");
        insert.push_values(rows, |mut row, entry| {
            row.push_bind(to_integer(entry.position))
                .push_bind(entry.at_ms)
                .push_bind(&entry.payload[..])
                .push_bind(&entry.hash[..]);
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// The first of `receipts` whose key is taken, by a stored one or by another in
/// this batch; `None` when all were inserted.
pub(super) async fn insert_receipts<'a>(
    connection: &mut SqliteConnection,
    receipts: &'a [NewReceipt],
    position: Position,
) -> Result<Option<&'a NewReceipt>, sqlx::Error> {
    for rows in receipts.chunks(ROWS_PER_INSERT) {
        let mut insert: QueryBuilder<'_, Sqlite> =
            QueryBuilder::new("INSERT INTO receipts (key, request_hash, body, at_ms, position) ");
        insert.push_values(rows, |mut row, receipt| {
            row.push_bind(&receipt.key)
                .push_bind(&receipt.request_hash[..])
                .push_bind(&receipt.body)
                .push_bind(receipt.at_ms)
                .push_bind(to_integer(position));
        });
        insert.push(" ON CONFLICT (key) DO NOTHING RETURNING key");
        let inserted: Vec<String> = insert.build_query_scalar().fetch_all(&mut *connection).await?;
        let mut inserted: HashSet<String> = inserted.into_iter().collect();
        // Taken out one by one, so that the second of two equal keys is found.
        if let Some(taken) = rows.iter().find(|it| !inserted.remove(&it.key)) {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

pub(super) async fn receipt(
    readers: &SqlitePool,
    key: &str,
) -> Result<Option<StoredReceipt>, sqlx::Error> {
    let row =
        sqlx::query("SELECT key, request_hash, body, at_ms, position FROM receipts WHERE key = ?")
            .bind(key)
            .fetch_optional(readers)
            .await?;
    row.as_ref().map(to_receipt).transpose()
}

/// Those of `keys` that are taken.
pub(super) async fn receipts_under(
    readers: &SqlitePool,
    keys: &[String],
) -> Result<Vec<StoredReceipt>, sqlx::Error> {
    let mut found = Vec::new();
    for keys in keys.chunks(ROWS_PER_INSERT) {
        let mut query: QueryBuilder<'_, Sqlite> = QueryBuilder::new(
            "SELECT key, request_hash, body, at_ms, position FROM receipts WHERE key IN (",
        );
        let mut listed = query.separated(", ");
        for key in keys {
            listed.push_bind(key);
        }
        query.push(")");
        let rows = query.build().fetch_all(readers).await?;
        for row in &rows {
            found.push(to_receipt(row)?);
        }
    }
    Ok(found)
}

/// Text in SQLite sorts by its bytes, as Rust's does.
pub(super) async fn receipts_after(
    readers: &SqlitePool,
    after: &str,
    limit: usize,
) -> Result<Vec<StoredReceipt>, sqlx::Error> {
    let limit = i64::try_from(limit.min(READ_MAX_ENTRIES)).unwrap_or(0);
    let rows = sqlx::query(
        "SELECT key, request_hash, body, at_ms, position FROM receipts
         WHERE key > ? ORDER BY key LIMIT ?",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(to_receipt).collect()
}

fn to_receipt(row: &SqliteRow) -> Result<StoredReceipt, sqlx::Error> {
    let request_hash: &[u8] = row.try_get(1)?;
    Ok(StoredReceipt {
        key: row.try_get(0)?,
        request_hash: request_hash.try_into().map_err(|it| sqlx::Error::Decode(Box::new(it)))?,
        body: row.try_get(2)?,
        at_ms: row.try_get(3)?,
        position: to_position(row.try_get(4)?),
    })
}

pub(super) async fn delete_receipts_before(
    connection: &mut SqliteConnection,
    before_ms: i64,
) -> Result<u64, sqlx::Error> {
    let deleted =
        sqlx::query("DELETE FROM receipts WHERE at_ms < ?").bind(before_ms).execute(connection);
    Ok(deleted.await?.rows_affected())
}

/// Keeps the stored snapshot when it is of a later position.
pub(super) async fn replace_snapshot(
    connection: &mut SqliteConnection,
    snapshot: &Snapshot,
    digest: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO snapshot (id, position, format, digest, bytes) VALUES (1, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET position = excluded.position, format = excluded.format,
             digest = excluded.digest, bytes = excluded.bytes
         WHERE excluded.position >= snapshot.position",
    )
    .bind(to_integer(snapshot.position))
    .bind(i64::from(snapshot.format))
    .bind(digest)
    .bind(&snapshot.bytes)
    .execute(connection)
    .await?;
    Ok(())
}

/// The snapshot of this format and the digest stored beside it.
pub(super) async fn snapshot(
    readers: &SqlitePool,
    format: u32,
) -> Result<Option<(Snapshot, Vec<u8>)>, sqlx::Error> {
    let row: Option<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT position, digest, bytes FROM snapshot WHERE format = ?")
            .bind(i64::from(format))
            .fetch_optional(readers)
            .await?;
    Ok(row.map(|(position, digest, bytes)| {
        (Snapshot { position: to_position(position), format, bytes }, digest)
    }))
}
