//! From what PostgreSQL and the way to it report to what [`LogError`] says.
//!
//! Start at [`storage_error`]. Codes are of
//! <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use std::io;

use crate::error::LogError;
use crate::place::Place;

const CANNOT_CONNECT_NOW: &str = "57P03";
const TOO_MANY_CONNECTIONS: &str = "53300";
const DISK_FULL: &str = "53100";
pub(super) const UNIQUE_VIOLATION: &str = "23505";
/// Of another program's table that bears the name of ours.
pub(super) const UNDEFINED_COLUMN: &str = "42703";

/// Damage gets its own error, which is what decides what a person does next.
pub(super) fn storage_error(place: &Place, action: &'static str, error: sqlx::Error) -> LogError {
    let place = place.clone();
    let code = code(&error);
    if matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) {
        let detail = "it holds a value of the wrong type".to_owned();
        return LogError::Corrupt { place, detail, source: Some(error.into()) };
    }
    if code.starts_with("XX") {
        let detail = format!("could not {action}");
        return LogError::Corrupt { place, detail, source: Some(error.into()) };
    }
    if code == DISK_FULL {
        return LogError::Full { action, place, source: error.into() };
    }
    if is_connection_lost(&error) {
        return LogError::Unreachable { place, source: error.into() };
    }
    LogError::Storage { action, place, source: error.into() }
}

/// Whether the connection is of no more use, and nobody knows what became of
/// the statement. A server that shuts down says so in class 57P, and may do so
/// after the commit.
pub(super) fn is_connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(_) => code(error).starts_with("57P") || code(error).starts_with("08"),
        _ => false,
    }
}

/// Whether to try and connect again: what a server says, or leaves unsaid, that
/// is starting or overrun.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        // Before a server listens, its TCP port refuses and its Unix socket is
        // not there; one that goes down hangs up.
        sqlx::Error::Io(source) => matches!(
            source.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::NotFound
                | io::ErrorKind::UnexpectedEof
        ),
        sqlx::Error::Database(_) => {
            [CANNOT_CONNECT_NOW, TOO_MANY_CONNECTIONS].contains(&code(error).as_str())
                || is_connection_lost(error)
        }
        _ => false,
    }
}

/// The SQLSTATE; empty when the error is not from the server.
pub(super) fn code(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.map(String::from).unwrap_or_default()
}
