//! The statements: each function is one of them, with its rows turned into the
//! crate's nouns.
//!
//! Start anywhere; nothing here decides, [`super`] does. Errors are
//! PostgreSQL's own, the caller knows what was attempted.

use futures::TryStreamExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};

use crate::batch::{NewReceipt, StoredReceipt};
use crate::entry::{Entry, Head, Position};
use crate::event_log::{READ_MAX_BYTES, READ_MAX_ENTRIES, Snapshot};
use crate::stored::{EventRow, to_integer, to_position};

/// A position and a hash that is not yet known to be one.
pub(super) type RawHead = (Position, Vec<u8>);

/// One statement, one round trip, one transaction. The UPDATE is what appends
/// take turns at: it waits for one under way, then finds the head moved and does
/// nothing, and neither do the others.
const APPEND: &str = "
    WITH moved AS (
        UPDATE log SET position = position + $3, hash = $4
        WHERE position = $1 AND hash = $2
        RETURNING position
    ), appended AS (
        INSERT INTO events (position, at_ms, payload, hash)
        SELECT $1 + e.number, e.at_ms, e.payload, e.hash
        FROM moved, unnest($5::bigint[], $6::bytea[], $7::bytea[])
            WITH ORDINALITY AS e (at_ms, payload, hash, number)
    ), remembered AS (
        INSERT INTO receipts (key, request_hash, body, at_ms, position)
        SELECT r.key, r.request_hash, r.body, r.at_ms, moved.position
        FROM moved, unnest($8::text[], $9::bytea[], $10::bytea[], $11::bigint[])
            AS r (key, request_hash, body, at_ms)
    )
    SELECT position, pg_notify(current_schema() || '_log', position::text) FROM moved";

/// `false` when the head is not `from`; then nothing was written.
pub(super) async fn append(
    connection: &mut PgConnection,
    from: Head,
    to: Head,
    entries: &[Entry],
    receipts: &[NewReceipt],
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(APPEND)
        .bind(to_integer(from.position))
        .bind(&from.hash[..])
        .bind(entries.len() as i64)
        .bind(&to.hash[..])
        .bind(entries.iter().map(|it| it.at_ms).collect::<Vec<_>>())
        .bind(entries.iter().map(|it| &it.payload[..]).collect::<Vec<_>>())
        .bind(entries.iter().map(|it| &it.hash[..]).collect::<Vec<_>>())
        .bind(receipts.iter().map(|it| it.key.as_str()).collect::<Vec<_>>())
        .bind(receipts.iter().map(|it| &it.request_hash[..]).collect::<Vec<_>>())
        .bind(receipts.iter().map(|it| &it.body[..]).collect::<Vec<_>>())
        .bind(receipts.iter().map(|it| it.at_ms).collect::<Vec<_>>())
        .fetch_optional(connection)
        .await?;
    Ok(moved.is_some())
}

/// The first of `keys` in the order of `keys` that is taken.
pub(super) async fn taken_key(
    connection: &mut PgConnection,
    keys: Vec<&str>,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT k.key FROM unnest($1::text[]) WITH ORDINALITY AS k (key, number)
         JOIN receipts USING (key) ORDER BY k.number LIMIT 1",
    )
    .bind(keys)
    .fetch_optional(connection)
    .await
}

pub(super) async fn head(connection: &mut PgConnection) -> Result<RawHead, sqlx::Error> {
    let row: (i64, Vec<u8>) =
        sqlx::query_as("SELECT position, hash FROM log").fetch_one(connection).await?;
    Ok((to_position(row.0), row.1))
}

pub(super) async fn start(connection: &mut PgConnection) -> Result<RawHead, sqlx::Error> {
    let row: (i64, Vec<u8>) =
        sqlx::query_as("SELECT start_position, start_hash FROM log").fetch_one(connection).await?;
    Ok((to_position(row.0), row.1))
}

pub(super) async fn events_after(
    connection: &mut PgConnection,
    after: Position,
    limit: usize,
) -> Result<Vec<EventRow>, sqlx::Error> {
    let limit = i64::try_from(limit.min(READ_MAX_ENTRIES)).unwrap_or(0);
    // The bytes are counted on the server too: rows it has begun to send must
    // all be read before the connection is of use again.
    let mut rows = sqlx::query(
        "SELECT position, at_ms, payload, hash FROM (
             SELECT position, at_ms, payload, hash,
                 sum(length(payload)) OVER (ORDER BY position) - length(payload) AS bytes_before
             FROM (SELECT * FROM events WHERE position > $1 ORDER BY position LIMIT $2) page
         ) counted WHERE bytes_before < $3 ORDER BY position",
    )
    .bind(to_integer(after))
    .bind(limit)
    .bind(READ_MAX_BYTES as i64)
    .fetch(connection);

    let mut page = Vec::new();
    while let Some(row) = rows.try_next().await? {
        page.push(EventRow {
            position: to_position(row.try_get(0)?),
            at_ms: row.try_get(1)?,
            payload: row.try_get(2)?,
            hash: row.try_get(3)?,
        });
    }
    Ok(page)
}

/// What became of a request to prune.
pub(super) enum Pruned {
    Removed(u64),
    Mismatch,
}

/// In one transaction: moves the start, then removes what is before it; the
/// triggers allow no other order.
pub(super) async fn prune(
    connection: &mut PgConnection,
    through: Head,
) -> Result<Pruned, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let start: i64 = sqlx::query_scalar("SELECT start_position FROM log FOR UPDATE")
        .fetch_one(&mut *transaction)
        .await?;
    let position = to_integer(through.position);
    if position <= start {
        return Ok(Pruned::Removed(0));
    }
    let hash: Option<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM events WHERE position = $1")
        .bind(position)
        .fetch_optional(&mut *transaction)
        .await?;
    if hash.as_deref() != Some(&through.hash[..]) {
        return Ok(Pruned::Mismatch);
    }
    sqlx::query("UPDATE log SET start_position = $1, start_hash = $2")
        .bind(position)
        .bind(&through.hash[..])
        .execute(&mut *transaction)
        .await?;
    let removed = sqlx::query("DELETE FROM events WHERE position <= $1")
        .bind(position)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Pruned::Removed(removed.rows_affected()))
}

pub(super) async fn receipt(
    connection: &mut PgConnection,
    key: &str,
) -> Result<Option<StoredReceipt>, sqlx::Error> {
    let row =
        sqlx::query("SELECT key, request_hash, body, at_ms, position FROM receipts WHERE key = $1")
            .bind(key)
            .fetch_optional(connection)
            .await?;
    row.as_ref().map(to_receipt).transpose()
}

/// Those of `keys` that are taken.
pub(super) async fn receipts_under(
    connection: &mut PgConnection,
    keys: &[String],
) -> Result<Vec<StoredReceipt>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT key, request_hash, body, at_ms, position FROM receipts WHERE key = ANY($1)",
    )
    .bind(keys)
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_receipt).collect()
}

/// By the bytes of the key, whatever the database's collation: pages of one
/// order must not be asked for in another.
pub(super) async fn receipts_after(
    connection: &mut PgConnection,
    after: &str,
    limit: usize,
) -> Result<Vec<StoredReceipt>, sqlx::Error> {
    let limit = i64::try_from(limit.min(READ_MAX_ENTRIES)).unwrap_or(0);
    let rows = sqlx::query(
        "SELECT key, request_hash, body, at_ms, position FROM receipts
         WHERE key COLLATE \"C\" > $1 ORDER BY key COLLATE \"C\" LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_receipt).collect()
}

fn to_receipt(row: &PgRow) -> Result<StoredReceipt, sqlx::Error> {
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
    connection: &mut PgConnection,
    before_ms: i64,
) -> Result<u64, sqlx::Error> {
    let deleted =
        sqlx::query("DELETE FROM receipts WHERE at_ms < $1").bind(before_ms).execute(connection);
    Ok(deleted.await?.rows_affected())
}

/// Keeps the stored snapshot when it is of a later position.
pub(super) async fn replace_snapshot(
    connection: &mut PgConnection,
    snapshot: &Snapshot,
    digest: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO snapshot (id, position, format, digest, bytes)
         VALUES (1, $1, $2, $3, $4)
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
    connection: &mut PgConnection,
    format: u32,
) -> Result<Option<(Snapshot, Vec<u8>)>, sqlx::Error> {
    let row: Option<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT position, digest, bytes FROM snapshot WHERE format = $1")
            .bind(i64::from(format))
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(position, digest, bytes)| {
        (Snapshot { position: to_position(position), format, bytes }, digest)
    }))
}
