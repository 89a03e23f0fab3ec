//! The sealed table: what must not be in events (secrets, personal data),
//! because events are kept for ever and read by many.
//!
//! Start at [`Sealed::open`]. Each record is encrypted with AES-256-GCM under a data
//! key of its own; the data key is wrapped by a key of the [`KeyFile`]. So a
//! rotation rewrites a few bytes of each record, and deleting a record deletes
//! its key with it. [`cipher`] owns the bytes, [`keys`] the key file, [`check`]
//! holds the two together, [`hash`] makes hashes nobody can guess against, and [`SealedRows`] is what a database does for it.
//!
//! A record is bound to its id and to the caller's associated data: moved to
//! another id or asked for on another's behalf, it does not open. What nobody
//! here notices is an older version of the same record put back in its place.

mod check;
mod cipher;
mod hash;
mod keys;
mod rows;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::error::LogError;

pub use check::CHECK_ID as SEALED_KEY_CHECK_ID;
pub use keys::{KeyFile, MasterKey};
pub use rows::{MemorySealedRows, SealedRow, SealedRows, WrappedKey};

/// Largest plaintext. A sealed record is a secret or an address, not a file.
pub const SEALED_MAX_BYTES: usize = 1024 * 1024;

/// Longest id, which stands in an index of the database.
pub const SEALED_ID_MAX_BYTES: usize = 512;

/// Records rewrapped between two looks at the table.
const REWRAP_PAGE: u32 = 256;

/// A decrypted value: shown by nothing, wiped when dropped.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// The value itself. Keep it as briefly as its use allows.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plaintext(hidden)")
    }
}

/// Records that only who has the key file can read.
#[derive(Debug)]
pub struct Sealed {
    rows: Arc<dyn SealedRows>,
    keys: Mutex<KeyFile>,
}

impl Sealed {
    /// The records in `rows`, under the keys of `keys`.
    #[must_use]
    pub fn new(rows: Arc<dyn SealedRows>, keys: KeyFile) -> Sealed {
        Sealed { rows, keys: Mutex::new(keys) }
    }

    /// Seals `plaintext` under `id`, in place of what was there. `aad` is not
    /// stored; [`Sealed::get`] has to name the same.
    ///
    /// # Errors
    /// When a limit is exceeded or the row cannot be written.
    pub async fn put(&self, id: &str, plaintext: &[u8], aad: &[u8]) -> Result<(), SealedError> {
        if plaintext.len() > SEALED_MAX_BYTES {
            let (bytes, limit) = (plaintext.len(), SEALED_MAX_BYTES);
            return Err(SealedError::TooLarge { what: "value", bytes, limit });
        }
        if id.len() > SEALED_ID_MAX_BYTES {
            let (bytes, limit) = (id.len(), SEALED_ID_MAX_BYTES);
            return Err(SealedError::TooLarge { what: "id", bytes, limit });
        }
        let row = cipher::seal(self.keys().active(), id, plaintext, aad)?;
        Ok(self.rows.put(row).await?)
    }

    /// Opens the record under `id`; `None` when there is none.
    ///
    /// # Errors
    /// When the record was changed or moved, `aad` is not what it was sealed
    /// with, or its key is not in the key file.
    pub async fn get(&self, id: &str, aad: &[u8]) -> Result<Option<Plaintext>, SealedError> {
        let Some(row) = self.rows.get(id).await? else { return Ok(None) };
        let key = self.key(&row.key.key_id)?;
        // What stands in the row is not trusted to say which row it is.
        let wrapped = WrappedKey { id: id.to_owned(), ..row.key };
        let data_key = cipher::unwrap(&key, &wrapped)?;
        cipher::open(&data_key, id, row.ciphertext, aad).map(|it| Some(Plaintext(it)))
    }

    /// Removes the record and its data key; `false` when there was none.
    ///
    /// # Errors
    /// When the row cannot be deleted.
    pub async fn delete(&self, id: &str) -> Result<bool, SealedError> {
        Ok(self.rows.delete(id).await?)
    }

    /// Makes `new` the key that wraps: adds it to the key file, then rewraps
    /// every data key; the records themselves are not touched. Older keys stay
    /// in the file until [`Sealed::retire`], so that an interrupted rotation,
    /// called again with the same key, goes on where it stopped. Returns how
    /// many were rewrapped.
    ///
    /// # Errors
    /// When the file or a row cannot be written, or a record does not open.
    pub async fn rotate(&self, new: MasterKey) -> Result<u64, SealedError> {
        let active = new.clone();
        self.keys().add(new)?;
        let mut count = 0;
        loop {
            let page = self.rows.wrapped_by_others(active.id(), REWRAP_PAGE).await?;
            if page.is_empty() {
                return Ok(count);
            }
            for from in page {
                let data_key = cipher::unwrap(&self.key(&from.key_id)?, &from)?;
                let to = cipher::wrap(&active, &from.id, &data_key)?;
                count += u64::from(self.rows.rewrap(&from, &to).await?);
            }
        }
    }

    /// Removes from the key file every key but the active one that wraps no
    /// record any more, and returns their ids. Only once every replica has the
    /// file with the active key: one that has not still seals under an old one.
    ///
    /// # Errors
    /// When the rows cannot be read or the file cannot be written.
    pub async fn retire(&self) -> Result<Vec<String>, SealedError> {
        let in_use = self.rows.key_ids().await?;
        self.keys().retain(|key| in_use.iter().any(|it| it == key.id()))
    }

    /// The id of the key that seals, and those of the older ones in the file.
    #[must_use]
    pub fn key_ids(&self) -> (String, Vec<String>) {
        let keys = self.keys();
        (keys.active().id().to_owned(), keys.older_ids())
    }

    /// Reads the file again before giving up: another process may have rotated.
    fn key(&self, key_id: &str) -> Result<MasterKey, SealedError> {
        let mut keys = self.keys();
        if keys.find(key_id).is_none() {
            keys.reload()?;
        }
        let unknown =
            || SealedError::UnknownKey { key_id: key_id.to_owned(), path: keys.path().to_owned() };
        keys.find(key_id).cloned().ok_or_else(unknown)
    }

    /// A panic elsewhere cannot leave the keys half changed: they are replaced
    /// as a whole.
    fn keys(&self) -> MutexGuard<'_, KeyFile> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record that could not be sealed or opened.
#[derive(Debug, Error)]
pub enum SealedError {
    #[error("sealing refused: {what} of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge { what: &'static str, bytes: usize, limit: usize },

    #[error("the sealed record `{id}` does not open: it was changed, or is not meant for this use")]
    Tampered { id: String },

    #[error("the key {key_id} of a sealed record is not in {}", .path.display())]
    UnknownKey { key_id: String, path: PathBuf },

    #[error("the key file {} is missing: the sealed records are under the key {key_id}", .path.display())]
    KeyFileMissing { path: PathBuf, key_id: String },

    #[error("the key file {} is another installation's: the sealed records are under the key {key_id}, which it does not have", .path.display())]
    OtherKeyFile { path: PathBuf, key_id: String },

    #[error("could not {action} the key file {}", .path.display())]
    KeyFile {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    #[error("the key file {} can be read by others (mode {mode:o})", .path.display())]
    KeyFileExposed { path: PathBuf, mode: u32 },

    #[error("line {line} of the key file {} is not a key", .path.display())]
    KeyFileMalformed { path: PathBuf, line: usize },

    #[error("the system gave no randomness for a key")]
    NoRandomness,

    #[error(transparent)]
    Rows(#[from] LogError),
}

impl SealedError {
    /// One thing a person can do about it, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SealedError::UnknownKey { .. } | SealedError::KeyFileMissing { .. } => {
                Some("restore the key file from its backup, or copy it from another replica")
            }
            SealedError::OtherKeyFile { .. } => Some(
                "every replica needs the same key file: copy it from one that runs, \
                 or restore it from its backup",
            ),
            SealedError::KeyFileExposed { .. } => Some("chmod 600 the file, and rotate its keys"),
            SealedError::KeyFileMalformed { .. } => Some("restore the key file from its backup"),
            SealedError::Rows(error) => error.hint(),
            SealedError::TooLarge { .. }
            | SealedError::Tampered { .. }
            | SealedError::KeyFile { .. }
            | SealedError::NoRandomness => None,
        }
    }
}
