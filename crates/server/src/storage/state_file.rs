//! A state file into an empty installation, all or nothing.
//!
//! Start from [`Storage::import_state_directory`] or
//! [`Storage::import_state_database`]. Everything is decided before anything is
//! opened, and appended in one transaction: there is no half of it, whatever
//! happens when.

use std::path::{Path, PathBuf};

use helix_control::decide::Context;
use helix_control::round::Origin;
use helix_control::state_file;
use helix_log::{Batch, LogError, NewEntry, PAYLOAD_MAX_BYTES, Position};
use helix_model::admin::Moved;
use helix_model::state_file::{FILE_BYTES_MAX, StateFile, StateFileError};

use super::import::{self, ImportError};
use super::{Parts, Storage};
use crate::{clock, entropy};

/// As whom the events were asked for.
const ACTOR: &str = "import";

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum StateImportError {
    #[error("{} cannot be read", .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} cannot be imported", .path.display())]
    Document {
        path: PathBuf,
        #[source]
        source: StateFileError,
    },
    #[error("{} asks for {events} changes at once", .path.display())]
    TooMuch {
        path: PathBuf,
        events: usize,
        #[source]
        source: LogError,
    },
    #[error(transparent)]
    Target(#[from] ImportError),
}

impl StateImportError {
    /// One thing a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            StateImportError::File { .. } => {
                "name a state file; docs/operations.md says what is in one"
            }
            StateImportError::Document { .. } => {
                "correct it there; docs/state-file.schema.json is the form of a state file"
            }
            StateImportError::TooMuch { .. } => {
                "import a part of it, and make the rest with the command line"
            }
            StateImportError::Target(error) => error.hint(),
        }
    }
}

impl Storage {
    /// Makes an installation in `directory` that is as `file` says.
    pub async fn import_state_directory(
        directory: &Path,
        file: &Path,
    ) -> Result<Moved, StateImportError> {
        let batch = read(file)?;
        let parts = Parts::in_directory(directory).await.map_err(ImportError::from)?;
        append(parts, file, batch).await
    }

    /// The same in the database that [`Storage::connect`] would use.
    pub async fn import_state_database(
        database_url: &str,
        file: &Path,
    ) -> Result<Moved, StateImportError> {
        let batch = read(file)?;
        let parts = Parts::in_database(database_url).await.map_err(ImportError::from)?;
        append(parts, file, batch).await
    }
}

/// What is to be appended to the empty log.
fn read(file: &Path) -> Result<Batch, StateImportError> {
    let unreadable = |source| StateImportError::File { path: file.to_owned(), source };
    let wrong = |source| StateImportError::Document { path: file.to_owned(), source };
    let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX as u64 {
        let message = format!("{bytes} bytes are more than {FILE_BYTES_MAX}");
        return Err(wrong(StateFileError::at(".", message)));
    }
    let document = StateFile::parse(&std::fs::read(file).map_err(unreadable)?).map_err(wrong)?;
    let origin = Origin::system(ACTOR, entropy::request_id());
    let mut context = Context { now: clock::now(), entropy: &mut entropy::fresh };
    let decided = state_file::decide(&document, &origin, PAYLOAD_MAX_BYTES, &mut context);
    let entries = decided.map_err(wrong)?.entries.into_iter();
    let entries = entries.map(|entry| NewEntry { at_ms: entry.at.0, payload: entry.payload });
    Ok(Batch::of_entries(Position::ZERO, entries.collect()))
}

async fn append(parts: Parts, file: &Path, batch: Batch) -> Result<Moved, StateImportError> {
    import::refuse_begun(&parts).await?;
    import::refuse_used(&parts).await?;
    let events = batch.entries.len();
    // Another that was quicker has made the log longer, and then this is stale.
    match parts.log.append(batch).await {
        Ok(_) => Ok(Moved { events: events as u64, ..Moved::default() }),
        Err(source @ (LogError::BatchTooLong { .. } | LogError::BatchTooLarge { .. })) => {
            Err(StateImportError::TooMuch { path: file.to_owned(), events, source })
        }
        Err(LogError::Stale { actual, .. }) => {
            Err(ImportError::NotEmpty { position: actual.0 }.into())
        }
        Err(error) => Err(ImportError::from(error).into()),
    }
}
