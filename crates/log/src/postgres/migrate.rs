//! The schema and its numbered migrations, embedded in the program.
//!
//! Start at [`migrate`]. Looking and migrating are one transaction under an
//! advisory lock, so replicas that start at once come one after the other, and a
//! start that is interrupted leaves the schema as it was. A migration that has
//! been released is never edited; a change is a new one.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::failure::{UNDEFINED_COLUMN, code, storage_error};
use super::schema::PostgresSchema;
use crate::error::LogError;
use crate::place::Place;

/// Migration `n` stands at index `n - 1`.
const MIGRATIONS: &[&str] = &[include_str!("0001_log.sql")];

/// What the first migration notes in the table `installation`.
const APPLICATION: &str = "helix-log";

/// Names the lock among all advisory locks of the database: "helixlog" in ASCII.
const LOCK: i64 = 0x6865_6C69_786C_6F67;

/// Tables that are nobody's extension and not helix's: of a schema that bears
/// the name of one of ours, it takes the table that only ours have.
const FOREIGN_TABLES: &str = "SELECT count(*) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema'
      AND n.nspname NOT LIKE 'pg\\_%'
      AND NOT (n.nspname = ANY($1)
               AND to_regclass(quote_ident(n.nspname) || '.installation') IS NOT NULL)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')";

/// Refuses a database this program does not understand, and brings an older
/// schema up to date.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    schema: PostgresSchema,
    place: &Place,
) -> Result<(), LogError> {
    let failed = |error| storage_error(place, "migrate the schema", error);
    let mut transaction = connection.begin().await.map_err(failed)?;
    // Another replica's migration may take longer than a statement's lock may.
    Executor::execute(&mut *transaction, "SET LOCAL lock_timeout = 0").await.map_err(failed)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    let found = version(&mut transaction, schema, place).await?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(LogError::NewerSchema { place: place.clone(), found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for statements in MIGRATIONS.iter().skip(done) {
        let statements = schema.spelled_out(statements);
        Executor::execute(&mut *transaction, statements.as_str()).await.map_err(failed)?;
    }
    if found < known {
        sqlx::query("UPDATE installation SET schema_version = $1")
            .bind(known)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// 0 for a database without tables.
async fn version(
    connection: &mut PgConnection,
    schema: PostgresSchema,
    place: &Place,
) -> Result<i64, LogError> {
    let failed = |error| storage_error(place, "read the schema version", error);
    let is_ours: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(schema.installation())
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !is_ours {
        let others: i64 = sqlx::query_scalar(FOREIGN_TABLES)
            .bind(PostgresSchema::all_names())
            .fetch_one(connection)
            .await
            .map_err(failed)?;
        let empty = others == 0;
        return if empty { Ok(0) } else { Err(LogError::Foreign { place: place.clone() }) };
    }
    let found: Result<Option<(String, i64)>, _> =
        sqlx::query_as("SELECT application, schema_version FROM installation")
            .fetch_optional(connection)
            .await;
    match found {
        Ok(Some((application, version))) if application == APPLICATION => Ok(version),
        Ok(_) => Err(LogError::Foreign { place: place.clone() }),
        Err(error) if code(&error) == UNDEFINED_COLUMN => {
            Err(LogError::Foreign { place: place.clone() })
        }
        Err(error) => Err(failed(error)),
    }
}
