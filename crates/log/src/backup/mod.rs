//! Backups: what was in volumes, in pieces that are kept encrypted in a directory or an
//! S3-compatible object store.
//!
//! ```text
//! backups/ORG/VOLUME/chunks/ID      a piece, under a name that only the key leads to
//! backups/ORG/VOLUME/SNAPSHOT.index which pieces one backup consists of, written last
//! ```
//! Start at [`BackupStore::open`] and [`BackupStore::of`]. A piece that is there already
//! is not sent again, so that a second backup costs what has changed; pieces that no
//! index names can be removed. [`seal`] owns the bytes. What a piece is of
//! is not known here.

mod seal;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::archive::s3_store;
use seal::Seal;

/// The largest piece. Those of a volume's file are as large, but for the last.
pub const BACKUP_CHUNK_MAX_BYTES: usize = 4 << 20;

/// The largest index: it names lists of pieces and not the pieces.
const INDEX_MAX_BYTES: u64 = 1 << 20;

/// Pieces looked for at once.
const LOOKUPS: usize = 16;

/// How often and for how long one request is tried. Who asks for it tries again itself, and
/// is to hear soon what is wrong.
const RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What is wrong with a store that does not do as it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreTrouble {
    /// It cannot be reached, or does not work.
    Unreachable,
    /// It knows the credentials not, or they may not do this.
    CredentialsInvalid,
    /// There is no such bucket.
    BucketMissing,
}

/// Why a backup cannot be kept or read.
#[derive(Debug, Error)]
pub enum BackupError {
    #[error("cannot {action} the store of backups at {place}")]
    Store {
        action: &'static str,
        place: String,
        #[source]
        source: Box<object_store::Error>,
    },
    #[error("cannot use the directory of backups {}", .path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("there is no {what} `{name}` in the store of backups")]
    Missing { what: &'static str, name: String },
    #[error("{what} `{name}` of a backup is damaged, or is another's")]
    Damaged { what: &'static str, name: String },
    #[error("a piece of {bytes} bytes is too large, or is not what its hash says")]
    NotAPiece { bytes: usize },
}

impl BackupError {
    /// What is wrong with the store, when it is the store.
    #[must_use]
    pub fn trouble(&self) -> Option<StoreTrouble> {
        use object_store::Error as Cause;
        match self {
            BackupError::Store { source, .. } => Some(match **source {
                Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => {
                    StoreTrouble::CredentialsInvalid
                }
                // Objects that are missing are said to be where they are read.
                Cause::NotFound { .. } => StoreTrouble::BucketMissing,
                Cause::Generic { ref source, .. } => of_list(&source.to_string()),
                _ => StoreTrouble::Unreachable,
            }),
            BackupError::Directory { .. } => Some(StoreTrouble::Unreachable),
            _ => None,
        }
    }
}

/// What is wrong when a list was refused: of those the library tells the status as text only.
fn of_list(said: &str) -> StoreTrouble {
    let has = |status: &str| said.contains(&format!("status code: {status}"));
    match () {
        () if has("403") || has("401") => StoreTrouble::CredentialsInvalid,
        () if has("404") => StoreTrouble::BucketMissing,
        () => StoreTrouble::Unreachable,
    }
}

/// What one backup consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupIndex {
    /// Whatever the writer has to say of it.
    pub about: Vec<u8>,
    /// The hashes of the pieces that hold the list of all others.
    pub lists: Vec<String>,
}

/// Where backups are kept.
#[derive(Clone)]
pub struct BackupStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// For people.
    place: String,
}

impl fmt::Debug for BackupStore {
    /// Without the store: it holds credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BackupStore").field(&self.place).finish()
    }
}

impl BackupStore {
    /// The store at a directory, which is made, or at `s3://BUCKET/PREFIX`, whose endpoint
    /// and credentials are among `variables` (`AWS_…`), or in a file that one of them names.
    ///
    /// # Errors
    /// When the directory cannot be made, or the URL is none.
    pub fn open(
        place: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<BackupStore, BackupError> {
        let failed = |source| BackupError::Store {
            action: "use",
            place: place.to_owned(),
            source: Box::new(source),
        };
        if place.contains("://") {
            let backoff = BackoffConfig { max_backoff: BACKOFF_MAX, ..BackoffConfig::default() };
            let retries =
                RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
            let (store, prefix) = s3_store(place, variables, retries).map_err(failed)?;
            let store: Arc<dyn ObjectStore> = Arc::new(store);
            return Ok(BackupStore { store, prefix, place: place.to_owned() });
        }
        let unusable = |source| BackupError::Directory { path: PathBuf::from(place), source };
        fs_err::create_dir_all(place).map_err(unusable)?;
        let store = LocalFileSystem::new_with_prefix(place).map_err(failed)?.with_fsync(true);
        let prefix = Path::default();
        Ok(BackupStore { store: Arc::new(store), prefix, place: place.to_owned() })
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether it can be read, as far as asking for a list of nothing tells.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn check(&self) -> Result<(), BackupError> {
        let nowhere = self.prefix.clone().join("backups").join("none");
        let listed = self.store.list(Some(&nowhere)).try_next().await;
        listed.map(drop).map_err(self.failed("list"))
    }

    /// The backups of one volume, under a key that is its own.
    #[must_use]
    pub fn of(&self, org: &str, volume: &str, key: Zeroizing<[u8; 32]>) -> VolumeBackups {
        let base = self.prefix.clone().join("backups").join(org).join(volume);
        VolumeBackups { store: self.clone(), base, seal: Seal::new(org, volume, &key) }
    }

    fn failed(&self, action: &'static str) -> impl Fn(object_store::Error) -> BackupError {
        let place = self.place.clone();
        move |source| BackupError::Store { action, place: place.clone(), source: source.into() }
    }
}

/// The backups of one volume.
pub struct VolumeBackups {
    store: BackupStore,
    base: Path,
    seal: Seal,
}

impl VolumeBackups {
    /// Which of these pieces, named by the sha256 of what is in them, are not there.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn lacks(&self, hashes: &[String]) -> Result<Vec<String>, BackupError> {
        let look = stream::iter(hashes.to_vec()).map(|hash| async move {
            match self.store.store.head(&self.chunk(&hash)).await {
                Ok(_) => Ok(None),
                Err(object_store::Error::NotFound { .. }) => Ok(Some(hash)),
                Err(error) => Err(self.store.failed("search")(error)),
            }
        });
        let found: Vec<Option<String>> = look.buffered(LOOKUPS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Keeps a piece.
    ///
    /// # Errors
    /// When it is not what its hash says, or cannot be written.
    pub async fn put(&self, hash: &str, plain: &[u8]) -> Result<(), BackupError> {
        let bytes = plain.len();
        if bytes > BACKUP_CHUNK_MAX_BYTES || seal::sha256(plain) != hash {
            return Err(BackupError::NotAPiece { bytes });
        }
        let sealed = self.seal.chunk(hash, plain).ok_or(BackupError::NotAPiece { bytes })?;
        let put = self.store.store.put(&self.chunk(hash), sealed.into()).await;
        put.map(drop).map_err(self.store.failed("write to"))
    }

    /// A piece, as it was put.
    ///
    /// # Errors
    /// When it is not there, or not as it was put.
    pub async fn get(&self, hash: &str) -> Result<Vec<u8>, BackupError> {
        let (what, name) = ("piece", hash.to_owned());
        let limit = BACKUP_CHUNK_MAX_BYTES as u64 + seal::OVERHEAD_BYTES;
        let sealed = self.read(&self.chunk(hash), limit, what, hash).await?;
        let plain = self.seal.open_chunk(hash, sealed);
        plain.filter(|plain| seal::sha256(plain) == hash).ok_or(BackupError::Damaged { what, name })
    }

    /// Makes a backup of pieces that are all there: from now on it exists.
    ///
    /// # Errors
    /// When a piece is missing, or the index cannot be written.
    pub async fn finish(&self, name: &str, index: &BackupIndex) -> Result<(), BackupError> {
        let pieces: Vec<String> = self.pieces(index).await?.into_iter().collect();
        if let Some(name) = self.lacks(&pieces).await?.into_iter().next() {
            return Err(BackupError::Missing { what: "piece", name });
        }
        let sealed = self.seal.index(name, &encode(index));
        let sealed = sealed.ok_or(BackupError::NotAPiece { bytes: index.about.len() })?;
        let put = self.store.store.put(&self.index(name), sealed.into()).await;
        put.map(drop).map_err(self.store.failed("write to"))
    }

    /// What a backup consists of.
    ///
    /// # Errors
    /// When there is none of that name, or its index is damaged.
    pub async fn open(&self, name: &str) -> Result<BackupIndex, BackupError> {
        let what = "index";
        let sealed = self.read(&self.index(name), INDEX_MAX_BYTES, what, name).await?;
        let plain = self.seal.open_index(name, sealed);
        let index = plain.and_then(|plain| decode(&plain));
        index.ok_or(BackupError::Damaged { what, name: name.to_owned() })
    }

    /// Removes a backup; its pieces go with [`VolumeBackups::sweep`]. Whether there was one
    /// does not matter.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn remove(&self, name: &str) -> Result<(), BackupError> {
        match self.store.store.delete(&self.index(name)).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(self.store.failed("remove from")(error)),
        }
    }

    /// Removes pieces that no index names; how many. Not while a backup is being made: its
    /// pieces are named by nothing yet. Nothing is removed while an index cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read or written, or an index is damaged.
    pub async fn sweep(&self) -> Result<u64, BackupError> {
        let listed = self.store.store.list(Some(&self.base)).try_collect::<Vec<_>>().await;
        let listed: Vec<ObjectMeta> = listed.map_err(self.store.failed("list"))?;
        let mut named = BTreeSet::new();
        for object in &listed {
            let file = object.location.filename().unwrap_or_default();
            if let Some(name) = file.strip_suffix(INDEX_SUFFIX) {
                let pieces = self.pieces(&self.open(name).await?).await?;
                named.extend(pieces.iter().map(|hash| self.chunk(hash)));
            }
        }
        let is_orphan = |object: &&ObjectMeta| {
            let is_piece = object.location.parts().any(|part| part.as_ref() == CHUNKS);
            is_piece && !named.contains(&object.location)
        };
        let mut count = 0;
        for orphan in listed.iter().filter(is_orphan) {
            let removed = self.store.store.delete(&orphan.location).await;
            removed.map_err(self.store.failed("remove from"))?;
            count += 1;
        }
        Ok(count)
    }

    /// The hashes of all pieces of a backup, those that hold its list too.
    async fn pieces(&self, index: &BackupIndex) -> Result<BTreeSet<String>, BackupError> {
        let mut pieces: BTreeSet<String> = index.lists.iter().cloned().collect();
        for list in &index.lists {
            let text = self.get(list).await?;
            let text = String::from_utf8_lossy(&text);
            pieces.extend(text.lines().filter(|line| seal::is_hash(line)).map(str::to_owned));
        }
        Ok(pieces)
    }

    async fn read(
        &self,
        path: &Path,
        limit: u64,
        what: &'static str,
        name: &str,
    ) -> Result<Vec<u8>, BackupError> {
        let found = match self.store.store.get(path).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(BackupError::Missing { what, name: name.to_owned() });
            }
            found => found.map_err(self.store.failed("read from"))?,
        };
        if found.meta.size > limit {
            return Err(BackupError::Damaged { what, name: name.to_owned() });
        }
        Ok(found.bytes().await.map_err(self.store.failed("read from"))?.to_vec())
    }

    fn chunk(&self, hash: &str) -> Path {
        self.base.clone().join(CHUNKS).join(self.seal.id(hash))
    }

    fn index(&self, name: &str) -> Path {
        self.base.clone().join(format!("{name}{INDEX_SUFFIX}"))
    }
}

const CHUNKS: &str = "chunks";
const INDEX_SUFFIX: &str = ".index";

/// How many lists, the hash of each, and what the writer has to say.
fn encode(index: &BackupIndex) -> Vec<u8> {
    let mut text = format!("{}\n", index.lists.len()).into_bytes();
    for list in &index.lists {
        text.extend_from_slice(list.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(&index.about);
    text
}

fn decode(text: &[u8]) -> Option<BackupIndex> {
    let mut rest = text;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok()?.to_owned();
        rest = &rest[end + 1..];
        Some(line)
    };
    let count: usize = line()?.parse().ok()?;
    let mut lists = Vec::new();
    for _ in 0..count {
        lists.push(line().filter(|hash| seal::is_hash(hash))?);
    }
    Some(BackupIndex { about: rest.to_vec(), lists })
}

#[cfg(test)]
mod tests;
