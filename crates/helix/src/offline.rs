//! Exports and imports of an installation that no process has.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use async_trait::async_trait;
use helix_cli::{Installation, Offline};
use helix_model::admin::Moved;
use helix_model::{Code, Problem};
use helix_server::{ImportError, StateImportError, Storage, StorageError};

use crate::node_link::chain;
use crate::up::LocalPlatform;

#[async_trait]
impl Offline for LocalPlatform {
    async fn export(
        &self,
        installation: &Installation,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Problem> {
        let storage = open(installation).await?;
        let mut pieces = storage.export();
        while let Some(piece) = pieces.recv().await {
            let piece = piece.map_err(|error| {
                Problem::new(Code::Unavailable, format!("the export broke off: {}", chain(&error)))
            })?;
            out.write_all(&piece).map_err(|error| {
                Problem::new(Code::PreconditionFailed, format!("it cannot be written: {error}"))
                    .hint("make room, or choose another file with `--output`")
            })?;
        }
        Ok(())
    }

    async fn export_keys(&self, installation: &Installation, file: &Path) -> Result<(), Problem> {
        let keys = installation.data_dir.join("keys");
        copy_privately(&keys, file).map_err(|error| {
            let detail = format!("{} cannot be copied: {error}", keys.display());
            Problem::new(Code::PreconditionFailed, detail)
                .hint("the rest is exported; name a file that does not exist")
        })
    }

    async fn import(&self, installation: &Installation, file: &Path) -> Result<Moved, Problem> {
        let imported = match &installation.database_url {
            Some(url) => Storage::import_database(url, file).await,
            None => Storage::import_directory(&installation.data_dir, file).await,
        };
        imported.map_err(|error| Problem::new(code(&error), chain(&error)).hint(error.hint()))
    }

    async fn import_state(
        &self,
        installation: &Installation,
        file: &Path,
    ) -> Result<Moved, Problem> {
        let imported = match &installation.database_url {
            Some(url) => Storage::import_state_database(url, file).await,
            None => Storage::import_state_directory(&installation.data_dir, file).await,
        };
        imported.map_err(|error| {
            let code = match &error {
                StateImportError::File { .. } | StateImportError::Document { .. } => {
                    Code::InvalidArgument
                }
                StateImportError::TooMuch { .. } => Code::PayloadTooLarge,
                StateImportError::Target(error) => code(error),
            };
            Problem::new(code, chain(&error)).hint(error.hint())
        })
    }
}

fn code(error: &ImportError) -> Code {
    match error {
        ImportError::File { .. } | ImportError::Dump { .. } | ImportError::Event { .. } => {
            Code::InvalidArgument
        }
        ImportError::NotEmpty { .. } | ImportError::OtherImport | ImportError::Storage(_) => {
            Code::Conflict
        }
        ImportError::Log(_) => Code::Unavailable,
    }
}

/// Opened as a server would; only an installation that is there.
async fn open(installation: &Installation) -> Result<Storage, Problem> {
    let opened = match &installation.database_url {
        Some(url) => Storage::connect(url, &installation.data_dir).await,
        None if installation.data_dir.join("log").exists() => {
            Storage::open_directory(&installation.data_dir).await
        }
        None => {
            let detail = format!("there is no installation in {}", installation.data_dir.display());
            return Err(Problem::new(Code::NotFound, detail)
                .hint("name its data directory with `--data-dir`"));
        }
    };
    let place = installation.archive.as_ref().unwrap_or(&installation.data_dir);
    let opened = match opened {
        Ok(storage) => storage.archived_at(place, archive_variables()).await,
        Err(error) => Err(error),
    };
    opened.map_err(|error: StorageError| {
        let hint = error.hint().unwrap_or("see the message");
        Problem::new(Code::Conflict, chain(&error)).hint(hint)
    })
}

/// What reaches an object store, as a person sets it.
pub(crate) fn archive_variables() -> Vec<(String, String)> {
    // A variable that is not text is none of those.
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

fn copy_privately(from: &Path, to: &Path) -> io::Result<()> {
    let mut keys = std::fs::File::open(from)?;
    let mut copy = std::fs::File::options().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut keys, &mut copy)?;
    copy.sync_all()
}
