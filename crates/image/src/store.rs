//! Content-addressed storage in one directory. Start at [`Store::open`].
//!
//! ```text
//! blobs/sha256/<hex>   content, named by its digest
//! rootfs/<key>/root    unpacked images (see `rootfs`)
//! repositories/…       what the embedded registry serves, and its tags
//! uploads/…            unfinished uploads to it
//! partial/<hex>        the beginning of a blob whose transfer broke (see `partial`)
//! temporary/…          whatever is being written, locked by its writer
//! ```
//!
//! A name under `blobs` appears by rename only after its content was hashed and
//! flushed, so being killed at any moment leaves no wrong content behind. The
//! store knows nothing of images except in `collect`.

use std::fs::{File, FileTimes};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use crate::blob::{BlobWriter, Written};
use crate::config::ConfigDocument;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::{CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX, PARTIAL_AGE_MAX};
use crate::locks::{KeyGuard, KeyedLocks};
use crate::manifest::{Document, Manifest};
use crate::pins::{PinTable, Pins};
use crate::{Result, blob};

/// A directory of blobs. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    locks: KeyedLocks,
    pins: Arc<PinTable>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.inner.root).finish()
    }
}

impl Store {
    /// Opens the store at `root`, creating it when missing, and removes what
    /// killed writers left behind.
    pub fn open(root: &Path) -> Result<Self> {
        let (locks, pins) = (KeyedLocks::default(), Arc::default());
        let inner = Inner { root: root.to_owned(), locks, pins };
        let store = Self { inner: Arc::new(inner) };
        for (directory, mode) in [
            (store.blobs(), 0o755),
            (store.temporary(), 0o700),
            // Unpacked images hold other people's set-uid programs; only the
            // owner of the store may reach them.
            (store.rootfs_directory(), 0o700),
            (store.uploads(), 0o700),
            (store.repositories(), 0o755),
            (store.partials(), 0o700),
        ] {
            create_directory(&directory, mode)?;
        }
        store.remove_stale_temporaries()?;
        store.remove_partials(PARTIAL_AGE_MAX)?;
        Ok(store)
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Where the blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Whether the blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// The blob's size in bytes, if it is here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.blob_path(digest)).ok().map(|metadata| metadata.len())
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|error| missing_or(digest, "open", &path, error))
    }

    /// Reads a small blob whole, verifying it again: a damaged disk must not
    /// turn into a wrong manifest.
    pub fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        self.open_blob(digest)?
            .take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(ImageError::storage("read", &path))?;
        if bytes.len() as u64 > bytes_max {
            return Err(ImageError::TooLarge {
                what: format!("the document {digest} is larger than expected"),
                limit: format!("{bytes_max} bytes"),
            });
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(mismatch("a stored document", digest, &actual));
        }
        Ok(bytes)
    }

    /// Reads a small JSON blob.
    pub fn read_json<T: DeserializeOwned>(&self, digest: &Digest, bytes_max: u64) -> Result<T> {
        let bytes = self.read(digest, bytes_max)?;
        serde_json::from_slice(&bytes)
            .map_err(|source| ImageError::manifest_invalid(*digest, source))
    }

    /// Reads the manifest of one image.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        match Document::parse(&self.read(digest, MANIFEST_BYTES_MAX)?)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(ImageError::ManifestInvalid {
                digest: *digest,
                reason: "it is an index of several images".to_owned(),
                source: None,
            }),
        }
    }

    /// Reads the config of one image.
    pub fn config(&self, manifest: &Manifest) -> Result<ConfigDocument> {
        self.read_json(&manifest.config.digest, CONFIG_BYTES_MAX)
    }

    /// Starts writing a blob of at most `bytes_max` bytes.
    pub fn writer(&self, bytes_max: u64) -> Result<BlobWriter> {
        BlobWriter::create(self, bytes_max)
    }

    /// Stores bytes from memory.
    pub fn write(&self, bytes: &[u8]) -> Result<Written> {
        let digest = Digest::of(bytes);
        if self.refresh(&digest) {
            return Ok(Written { digest, size: bytes.len() as u64 });
        }
        let mut writer = self.writer(bytes.len() as u64)?;
        writer.append(bytes)?;
        writer.commit(Some(&digest))
    }

    /// Marks a blob as just used, which keeps it out of garbage collection's
    /// reach for a while; false when it is not here.
    pub fn refresh(&self, digest: &Digest) -> bool {
        let times = FileTimes::new().set_modified(SystemTime::now());
        File::open(self.blob_path(digest)).is_ok_and(|file| {
            // A file of another owner cannot be touched; it is here all the same.
            let _ = file.set_times(times);
            true
        })
    }

    /// Waits until nobody else works on `key`, then holds it.
    pub(crate) async fn lock(&self, key: String) -> KeyGuard {
        self.inner.locks.lock(key).await
    }

    /// Nothing yet; what is added stays in the store while they live.
    pub(crate) fn pins(&self) -> Pins {
        Pins::new(&self.inner.pins)
    }

    /// Does something to what has this name, unless somebody needs it.
    pub(crate) fn unless_pinned(&self, name: &str, work: impl FnOnce()) -> bool {
        self.inner.pins.unless_pinned(name, work)
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.inner.root.join("blobs/sha256")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.inner.root.join("temporary")
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.inner.root.join("partial")
    }

    pub(crate) fn rootfs_directory(&self) -> PathBuf {
        self.inner.root.join("rootfs")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.inner.root.join("uploads")
    }

    pub(crate) fn repositories(&self) -> PathBuf {
        self.inner.root.join("repositories")
    }

    /// Writers hold a file lock on what they write, so what can be locked has
    /// no writer: this is safe while other handles to the store are at work.
    fn remove_stale_temporaries(&self) -> Result<()> {
        let directory = self.temporary();
        let entries =
            std::fs::read_dir(&directory).map_err(ImageError::storage("list", &directory))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                blob::remove_tree(&path);
            }
        }
        Ok(())
    }
}

pub(crate) fn create_directory(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(ImageError::storage("create", path))
}

pub(crate) fn mismatch(what: &str, expected: &Digest, actual: &Digest) -> ImageError {
    ImageError::DigestMismatch {
        what: what.to_owned(),
        expected: expected.to_string(),
        actual: actual.to_string(),
    }
}

fn missing_or(
    digest: &Digest,
    action: &'static str,
    path: &Path,
    error: std::io::Error,
) -> ImageError {
    if error.kind() == std::io::ErrorKind::NotFound {
        ImageError::NotFound { what: format!("blob {digest}") }
    } else {
        ImageError::storage(action, path)(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store)
    }

    fn temporaries(store: &Store) -> usize {
        std::fs::read_dir(store.temporary()).unwrap().count()
    }

    #[test]
    fn content_is_found_under_its_digest() {
        let (_directory, store) = world();
        let written = store.write(b"hello").unwrap();
        assert_eq!(written.digest, Digest::of(b"hello"));
        assert_eq!(store.read(&written.digest, 100).unwrap(), b"hello");
        assert_eq!(store.size(&written.digest), Some(5));
        assert_eq!(store.write(b"hello").unwrap(), written);
        assert_eq!(temporaries(&store), 0);
    }

    #[test]
    fn wrong_content_never_gets_a_name() {
        let (_directory, store) = world();
        let expected = Digest::of(b"good");
        let mut writer = store.writer(100).unwrap();
        writer.append(b"evil").unwrap();
        let error = writer.commit(Some(&expected)).unwrap_err();
        assert_eq!(error.code(), "image_digest_mismatch");
        assert!(!error.retryable());
        assert!(!store.has(&expected) && !store.has(&Digest::of(b"evil")));
        assert_eq!(temporaries(&store), 0);
    }

    #[test]
    fn more_than_the_limit_is_refused_while_writing() {
        let (_directory, store) = world();
        let mut writer = store.writer(3).unwrap();
        assert_eq!(writer.append(b"four").unwrap_err().code(), "image_too_large");
    }

    #[test]
    fn damage_on_disk_is_noticed() {
        let (_directory, store) = world();
        let digest = store.write(b"hello").unwrap().digest;
        std::fs::write(store.blob_path(&digest), b"hellO").unwrap();
        assert_eq!(store.read(&digest, 100).unwrap_err().code(), "image_digest_mismatch");
        assert_eq!(store.read(&digest, 4).unwrap_err().code(), "image_too_large");
    }

    #[test]
    fn opening_again_removes_what_a_killed_writer_left_and_nothing_else() {
        let (directory, store) = world();
        let mut alive = store.writer(10).unwrap();
        std::fs::write(store.temporary().join("dead"), b"half").unwrap();
        std::fs::create_dir_all(store.temporary().join("dead-tree/a/b")).unwrap();
        let again = Store::open(directory.path()).unwrap();
        assert_eq!(temporaries(&again), 1);
        alive.append(b"whole").unwrap();
        let written = alive.commit(None).unwrap();
        assert!(again.has(&written.digest));
    }
}
