//! Where a log is kept, as errors name it.
//!
//! Start at [`Place`]. It never holds a password.

use std::fmt;
use std::path::{Path, PathBuf};

/// A database file, or a database on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The SQLite file.
    File(PathBuf),
    /// A PostgreSQL database, as in `database helix on db.internal:5432`.
    Database(String),
    /// The segments of an archive; the error's source names the one.
    Archive,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => path.display().fmt(f),
            Place::Database(text) => text.fmt(f),
            Place::Archive => f.write_str("the log's archive"),
        }
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Place {
        Place::File(path.to_owned())
    }
}
