//! Writing one blob: hashed while written, named only when right.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::digest::{Digest, Hasher};
use crate::error::ImageError;
use crate::store::{Store, mismatch};

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A blob being written. Dropped without [`commit`](Self::commit), it leaves
/// nothing behind.
pub struct BlobWriter {
    store: Store,
    temporary: Temporary,
    file: File,
    hasher: Hasher,
    size: u64,
    bytes_max: u64,
}

impl BlobWriter {
    pub(crate) fn create(store: &Store, bytes_max: u64) -> Result<Self> {
        let (temporary, file) = Temporary::file(store)?;
        let hasher = Hasher::default();
        Ok(Self { store: store.clone(), temporary, file, hasher, size: 0, bytes_max })
    }

    /// Adds bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.bytes_max {
            return Err(ImageError::TooLarge {
                what: "the content is larger than announced or allowed".to_owned(),
                limit: format!("{} bytes", self.bytes_max),
            });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(ImageError::storage("write", &self.temporary.path))
    }

    /// Checks the digest, flushes to disk and gives the content its name.
    pub fn commit(self, expected: Option<&Digest>) -> Result<Written> {
        let digest = self.hasher.finish();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(mismatch("the content", expected, &digest));
        }
        let written = Written { digest, size: self.size };
        if self.store.refresh(&digest) {
            return Ok(written);
        }
        let path = self.store.blob_path(&digest);
        self.file.sync_all().map_err(ImageError::storage("flush", &self.temporary.path))?;
        self.temporary.rename(&path)?;
        sync_directory(&self.store.blobs())?;
        Ok(written)
    }
}

/// Lets archive writers write straight into the store. Errors lose their code
/// on this path; the size limit is still enforced.
impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append(bytes).map_err(|error| match error {
            ImageError::Storage { source, .. } => source,
            other => std::io::Error::other(other),
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A file or directory being made, removed on drop unless renamed. Holds a
/// file lock, so that whoever opens the store can tell it from a leftover.
pub(crate) struct Temporary {
    pub(crate) path: PathBuf,
    _lock: File,
    kept: bool,
}

impl Temporary {
    pub(crate) fn file(store: &Store) -> Result<(Self, File)> {
        let path = store.temporary().join(ulid::Ulid::new().to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .map_err(ImageError::storage("create", &path))?;
        let lock = file.try_clone().map_err(ImageError::storage("open", &path))?;
        Ok((Self::locked(path, lock)?, file))
    }

    pub(crate) fn directory(store: &Store) -> Result<Self> {
        let path = store.temporary().join(ulid::Ulid::new().to_string());
        std::fs::create_dir(&path).map_err(ImageError::storage("create", &path))?;
        let lock = File::open(&path).map_err(ImageError::storage("open", &path))?;
        Self::locked(path, lock)
    }

    fn locked(path: PathBuf, lock: File) -> Result<Self> {
        lock.lock().map_err(ImageError::storage("lock", &path))?;
        Ok(Self { path, _lock: lock, kept: false })
    }

    pub(crate) fn rename(mut self, to: &Path) -> Result<()> {
        std::fs::rename(&self.path, to).map_err(ImageError::storage("create", to))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            remove_tree(&self.path);
        }
    }
}

/// Removes a file or directory tree as far as possible; what stays is removed
/// at the next opening of the store.
pub(crate) fn remove_tree(path: &Path) {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => return,
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "cannot remove a temporary");
    }
}

pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(ImageError::storage("flush", path))
}
