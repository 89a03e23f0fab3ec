//! From what SQLite reports to what [`LogError`] says.
//!
//! Start at [`storage_error`].

use std::path::Path;

use crate::error::LogError;
use crate::place::Place;
use crate::stored;

/// Primary result codes, <https://sqlite.org/rescode.html>.
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_NOTADB: i32 = 26;
/// Extended result code: the file ended before the page did.
const SQLITE_IOERR_SHORT_READ: i32 = 522;

/// Names the damaged or full file, which is what decides what a person does
/// next; anything else stays as SQLite put it.
pub(super) fn storage_error(path: &Path, action: &'static str, error: sqlx::Error) -> LogError {
    let place = Place::from(path);
    let code = result_code(&error);
    if matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) {
        let detail = "it holds a value of the wrong type".to_owned();
        return LogError::Corrupt { place, detail, source: Some(error.into()) };
    }
    if code == SQLITE_IOERR_SHORT_READ || [SQLITE_CORRUPT, SQLITE_NOTADB].contains(&(code & 0xff)) {
        let detail = format!("could not {action}");
        return LogError::Corrupt { place, detail, source: Some(error.into()) };
    }
    if code == SQLITE_FULL {
        return LogError::Full { action, place, source: error.into() };
    }
    LogError::Storage { action, place, source: error.into() }
}

/// The extended result code, 0 when the error is not from SQLite.
fn result_code(error: &sqlx::Error) -> i32 {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// The file is readable, but what it says cannot be.
pub(super) fn corrupt(path: &Path, detail: String) -> LogError {
    stored::corrupt(&Place::from(path), detail)
}
