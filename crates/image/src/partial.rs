//! A blob on its way here: what has arrived is kept when the transfer breaks, and
//! the next attempt goes on behind it. Start at [`Partial::open`].
//!
//! ```text
//! partial/<hex>   what is here of the blob, locked by whoever adds to it
//! ```
//!
//! What is found was perhaps written before a power cut, so it proves nothing:
//! only the digest of the whole does, and content that does not match is removed.
//! How bytes are asked for is not known here.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::Result;
use crate::blob::sync_directory;
use crate::digest::{Digest, Hasher};
use crate::error::ImageError;
use crate::limits::CHUNKS_IN_FLIGHT;
use crate::store::{Store, mismatch};

/// The beginning of a blob. Dropped, it stays for the next attempt.
pub(crate) struct Partial {
    store: Store,
    digest: Digest,
    path: PathBuf,
    /// Locked for as long as it is open.
    file: File,
    hasher: Hasher,
    size: u64,
    /// Size of the whole.
    total: u64,
    /// What is here came in more than one transfer.
    joined: bool,
    /// The file has its final name, or none any more.
    over: bool,
}

/// How adding a stream to a blob ended.
pub(crate) enum Added<E> {
    /// The blob is whole and in the store.
    Whole,
    /// The stream broke, or, without an error, ended early.
    Broken(Partial, Option<E>),
    /// It is whole and wrong, but what sent the end of it need not have sent the
    /// beginning. It is removed.
    Wrong(ImageError),
}

impl Partial {
    /// Takes up what is here of a blob of `total` bytes.
    pub(crate) async fn open(store: &Store, digest: Digest, total: u64) -> Result<Partial> {
        let store = store.clone();
        tokio::task::spawn_blocking(move || {
            let (path, file) = claim(&store, &digest)?;
            let hasher = Hasher::default();
            let (size, joined, over) = (0, false, false);
            let mut partial =
                Partial { store, digest, path, file, hasher, size, total, joined, over };
            partial.take_up()?;
            Ok(partial)
        })
        .await?
    }

    /// How many bytes of it are here.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Forgets what is here.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(ImageError::storage("empty", &self.path))?;
        (self.hasher, self.size, self.joined) = (Hasher::default(), 0, false);
        Ok(())
    }

    /// Adds a stream. Hashing and writing happen on a blocking thread; a bounded
    /// queue makes a slow disk slow the sender. `on_bytes` hears of each chunk.
    pub(crate) async fn add<E>(
        self,
        mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
        mut on_bytes: impl FnMut(u64),
    ) -> Result<Added<E>> {
        let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
        let writing = tokio::task::spawn_blocking(move || {
            let mut partial = self;
            partial.joined |= partial.size > 0;
            while let Some(chunk) = chunks.blocking_recv() {
                if let Err(error) = partial.append(&chunk) {
                    // On a full disk its room is worth more than the time saved.
                    partial.remove();
                    return Err(error);
                }
            }
            Ok(partial)
        });
        let mut broken = None;
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => {
                    on_bytes(chunk.len() as u64);
                    if sender.send(chunk).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        drop(sender);
        let partial = writing.await??;
        if broken.is_some() || partial.size < partial.total {
            return Ok(Added::Broken(partial, broken));
        }
        let joined = partial.joined;
        match tokio::task::spawn_blocking(move || partial.commit()).await? {
            Ok(()) => Ok(Added::Whole),
            Err(error @ ImageError::DigestMismatch { .. }) if joined => Ok(Added::Wrong(error)),
            Err(error) => Err(error),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.total {
            return Err(ImageError::TooLarge {
                what: format!("the content of {} is larger than announced", self.digest),
                limit: format!("{} bytes", self.total),
            });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(ImageError::storage("write", &self.path))
    }

    /// Reads what an earlier attempt left, up to which the hash is then known.
    fn take_up(&mut self) -> Result<()> {
        self.size = self
            .hasher
            .update_from(&mut self.file)
            .map_err(ImageError::storage("read", &self.path))?;
        self.joined = self.size > 0;
        if self.size > self.total {
            self.restart()?;
        }
        self.file
            .seek(SeekFrom::Start(self.size))
            .map(|_| ())
            .map_err(ImageError::storage("read", &self.path))
    }

    /// Checks the digest, flushes to disk and gives the content its name.
    fn commit(mut self) -> Result<()> {
        let actual = std::mem::take(&mut self.hasher).finish();
        if actual != self.digest {
            self.remove();
            return Err(mismatch("the content", &self.digest, &actual));
        }
        let path = self.store.blob_path(&self.digest);
        self.file.sync_all().map_err(ImageError::storage("flush", &self.path))?;
        std::fs::rename(&self.path, &path).map_err(ImageError::storage("create", &path))?;
        self.over = true;
        sync_directory(&self.store.blobs())
    }

    fn remove(&mut self) {
        self.over = true;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove part of a blob");
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.over && self.size == 0 {
            self.remove();
        }
    }
}

/// Opens and locks the file of a blob, or, when another process is at work on
/// it, one of our own.
fn claim(store: &Store, digest: &Digest) -> Result<(PathBuf, File)> {
    let directory = store.partials();
    let mut path = directory.join(digest.hex());
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(ImageError::storage("create", &path))?;
        match file.try_lock() {
            // Between opening and locking it may have got its final name: then it
            // is content, which nobody may write to.
            Ok(()) if is_named(&file, &path) => return Ok((path, file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                path = directory.join(format!("{}-{}", digest.hex(), ulid::Ulid::new()));
            }
            Err(TryLockError::Error(error)) => {
                return Err(ImageError::storage("lock", &path)(error));
            }
        }
    }
}

fn is_named(file: &File, path: &std::path::Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

impl Store {
    /// Removes parts of blobs nobody has added to for `age_min`, and says how
    /// many bytes that were.
    pub(crate) fn remove_partials(&self, age_min: Duration) -> Result<u64> {
        let directory = self.partials();
        let entries =
            std::fs::read_dir(&directory).map_err(ImageError::storage("list", &directory))?;
        let limit = SystemTime::now().checked_sub(age_min).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut removed_bytes = 0;
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            let old = metadata.modified().is_ok_and(|modified| modified <= limit);
            if !old || !File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                continue;
            }
            match std::fs::remove_file(&path) {
                Ok(()) => removed_bytes += metadata.len(),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove part of a blob");
                }
            }
        }
        Ok(removed_bytes)
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

    fn parts(store: &Store) -> usize {
        std::fs::read_dir(store.partials()).unwrap().count()
    }

    async fn add(partial: Partial, bytes: &'static [u8]) -> Result<Added<()>> {
        let chunks = [Ok(Bytes::from_static(bytes))];
        partial.add(futures::stream::iter(chunks), |_| {}).await
    }

    #[tokio::test]
    async fn what_arrived_is_there_for_the_next_attempt() {
        let (_directory, store) = world();
        let digest = Digest::of(b"hello world");
        let first = Partial::open(&store, digest, 11).await.unwrap();
        let Added::Broken(first, None) = add(first, b"hello").await.unwrap() else { panic!() };
        // Somebody in another process does not write into the same file.
        let other = Partial::open(&store, digest, 11).await.unwrap();
        assert_eq!((other.size(), parts(&store)), (0, 2));
        drop((first, other));
        assert_eq!(
            (store.remove_partials(Duration::from_secs(60)).unwrap(), parts(&store)),
            (0, 1)
        );

        let second = Partial::open(&store, digest, 11).await.unwrap();
        assert_eq!(second.size(), 5);
        assert!(matches!(add(second, b" world").await.unwrap(), Added::Whole));
        assert_eq!(store.read(&digest, 100).unwrap(), b"hello world");
        assert_eq!(parts(&store), 0);
    }

    #[tokio::test]
    async fn what_is_wrong_is_not_kept() {
        let (_directory, store) = world();
        let digest = Digest::of(b"hello");
        std::fs::write(store.partials().join(digest.hex()), b"more than it can be").unwrap();
        let partial = Partial::open(&store, digest, 5).await.unwrap();
        assert_eq!(partial.size(), 0);
        let error = add(partial, b"hullo").await.err().unwrap();
        assert_eq!((error.code(), parts(&store)), ("image_digest_mismatch", 0));
        let partial = Partial::open(&store, digest, 5).await.unwrap();
        let error = add(partial, b"hello!").await.err().unwrap();
        assert_eq!((error.code(), parts(&store)), ("image_too_large", 0));
        drop(Partial::open(&store, digest, 5).await.unwrap());
        assert_eq!(parts(&store), 0);
    }
}
