//! Whether the key file and the table belong together, before anything is
//! sealed under a key that nobody else has.
//!
//! Start at [`Sealed::open`]. One record of the table, [`CHECK_ID`], is made with the table's first key and rewrapped with all
//! others, so whoever can open it has the key that wraps now.

use std::path::PathBuf;
use std::sync::Arc;

use super::{KeyFile, Sealed, SealedError, SealedRows, cipher};

/// The record that is there for this alone.
pub const CHECK_ID: &str = "helix.key-check";
const CHECK_TEXT: &[u8] = b"helix/sealed/key-check/1";

impl Sealed {
    /// The records in `rows` under the keys of the file at `path`, which is made
    /// with a new key when neither it nor any record is there yet.
    ///
    /// # Errors
    /// [`SealedError::KeyFileMissing`] or [`SealedError::OtherKeyFile`] when the
    /// records are under keys that the file does not have.
    pub async fn open(
        rows: Arc<dyn SealedRows>,
        path: impl Into<PathBuf>,
    ) -> Result<Sealed, SealedError> {
        let path = path.into();
        let exists = path.try_exists().map_err(|source| SealedError::KeyFile {
            action: "look for",
            path: path.clone(),
            source,
        })?;
        if !exists && let Some(key_id) = rows.key_ids().await?.pop() {
            return Err(SealedError::KeyFileMissing { path, key_id });
        }
        let sealed = Sealed::new(rows, KeyFile::open_or_create(path)?);
        sealed.check().await?;
        Ok(sealed)
    }

    /// Of several processes that come to an empty table at once, one makes the
    /// record, and the others must have its key.
    async fn check(&self) -> Result<(), SealedError> {
        if self.rows.get(CHECK_ID).await?.is_none() {
            let row = cipher::seal(self.keys().active(), CHECK_ID, CHECK_TEXT, b"")?;
            self.rows.insert(row).await?;
        }
        match self.get(CHECK_ID, b"").await {
            Ok(_) => Ok(()),
            Err(SealedError::UnknownKey { key_id, path }) => {
                Err(SealedError::OtherKeyFile { path, key_id })
            }
            Err(other) => Err(other),
        }
    }
}
