//! The schema and its numbered migrations, embedded in the program.
//!
//! Start at [`migrate`]. The version lives in `PRAGMA user_version`, which is
//! part of the file header and changes with the transaction that migrates: a
//! table of migrations would say nothing more and could disagree with it. A
//! migration that has been released is never edited; a change is a new one.

use std::path::Path;

use sqlx::Executor;
use sqlx::sqlite::SqliteConnection;

use super::failure::storage_error;
use crate::error::LogError;

/// Migration `n` stands at index `n - 1`.
const MIGRATIONS: &[&str] = &[include_str!("0001_log.sql"), include_str!("0002_retention.sql")];

/// The `application_id` that the first migration sets: "HLXL".
const APPLICATION_ID: i64 = 0x484C_584C;

/// Refuses a file this program does not understand.
pub(super) async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<(), LogError> {
    if pragma(connection, path, "PRAGMA application_id").await? != APPLICATION_ID {
        return Err(LogError::Foreign { place: path.into() });
    }
    let found = version(connection, path).await?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(LogError::NewerSchema { place: path.into(), found, known });
    }
    Ok(())
}

/// Brings the schema up to date, one transaction for each step, so that an
/// interrupted start goes on where it stopped.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), LogError> {
    let done = usize::try_from(version(connection, path).await?).unwrap_or(0);
    for (index, statements) in MIGRATIONS.iter().enumerate().skip(done) {
        let number = index + 1;
        let script =
            format!("BEGIN IMMEDIATE;\n{statements}\nPRAGMA user_version = {number};\nCOMMIT;");
        // Not `sqlx::raw_sql`, whose future is not known to be `Send` for every
        // lifetime and so could not run in a spawned task.
        Executor::execute(&mut *connection, script.as_str())
            .await
            .map_err(|error| storage_error(path, "migrate the schema", error))?;
    }
    Ok(())
}

async fn version(connection: &mut SqliteConnection, path: &Path) -> Result<i64, LogError> {
    pragma(connection, path, "PRAGMA user_version").await
}

async fn pragma(
    connection: &mut SqliteConnection,
    path: &Path,
    statement: &'static str,
) -> Result<i64, LogError> {
    sqlx::query_scalar(statement)
        .fetch_one(connection)
        .await
        .map_err(|error| storage_error(path, "read the schema version", error))
}
