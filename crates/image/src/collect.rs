//! Garbage collection: blobs and unpacked images no kept manifest leads to.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::blob::remove_tree;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::manifest::Document;
use crate::registry::repository;
use crate::store::Store;
use crate::{Result, rootfs};

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: usize,
    /// Their size in bytes.
    pub blob_bytes: u64,
    /// Unpacked images removed.
    pub root_filesystems: usize,
    /// What those took, about.
    pub root_bytes: u64,
}

impl Store {
    /// Removes every blob and unpacked image that neither a manifest in `keep`
    /// nor a tag of the embedded registry leads to.
    ///
    /// Whatever was written or used within `min_age` stays: pulls and pushes
    /// put layers here before the manifest that leads to them. An image with
    /// running instances must be in `keep`.
    pub async fn remove_unused(&self, keep: &[Digest], min_age: Duration) -> Result<Collected> {
        let store = self.clone();
        let keep = keep.to_vec();
        tokio::task::spawn_blocking(move || store.remove_unused_blocking(keep, min_age)).await?
    }

    fn remove_unused_blocking(&self, keep: Vec<Digest>, min_age: Duration) -> Result<Collected> {
        let mut roots = keep;
        roots.extend(repository::tagged(self)?);
        let reachable = self.reachable(roots)?;
        self.remove_others(&names(&reachable), &HashSet::new(), min_age)
    }

    /// Removes what is neither among `keep` nor younger than `min_age`; what is
    /// in `go` whatever its age.
    pub(crate) fn remove_others(
        &self,
        keep: &HashSet<String>,
        go: &HashSet<String>,
        min_age: Duration,
    ) -> Result<Collected> {
        let limit = SystemTime::now().checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
        let goes = |entry: &Entry| {
            !keep.contains(&entry.name) && (go.contains(&entry.name) || entry.used_at <= limit)
        };
        let mut collected = Collected::default();
        for entry in entries(&self.blobs())?.filter(goes) {
            if self.unless_pinned(&entry.name, || remove_tree(&entry.path)) {
                collected.blobs += 1;
                collected.blob_bytes += entry.size_bytes;
            }
        }
        for entry in entries(&self.rootfs_directory())?.filter(goes) {
            // Out of the cache in one step: a removal cut short must not leave
            // half a tree where an image is looked for.
            let aside = self.temporary().join(ulid::Ulid::new().to_string());
            let size_bytes = rootfs::size_bytes(&entry.path);
            let mut moved = Ok(());
            self.unless_pinned(&entry.name, || moved = std::fs::rename(&entry.path, &aside));
            moved.map_err(ImageError::storage("remove", &entry.path))?;
            if aside.exists() {
                remove_tree(&aside);
                collected.root_filesystems += 1;
                collected.root_bytes += size_bytes;
            }
        }
        self.remove_partials(min_age)?;
        repository::forget_removed(self)?;
        Ok(collected)
    }

    pub(crate) fn reachable(&self, mut pending: Vec<Digest>) -> Result<HashSet<Digest>> {
        let mut reachable = HashSet::new();
        while let Some(digest) = pending.pop() {
            if !reachable.insert(digest) || !self.has(&digest) {
                continue;
            }
            match Document::parse(&self.read(&digest, MANIFEST_BYTES_MAX)?)? {
                Document::Index(index) => {
                    pending.extend(index.manifests.iter().map(|entry| entry.digest));
                }
                Document::Manifest(manifest) => {
                    reachable.insert(manifest.config.digest);
                    reachable.extend(manifest.layers.iter().map(|layer| layer.digest));
                }
            }
        }
        Ok(reachable)
    }
}

/// Names of content and of what is unpacked from it.
pub(crate) fn names(digests: &HashSet<Digest>) -> HashSet<String> {
    digests.iter().flat_map(|digest| [digest.hex(), rootfs::key(digest)]).collect()
}

/// One blob or unpacked image.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Of a blob.
    pub(crate) size_bytes: u64,
    pub(crate) used_at: SystemTime,
}

pub(crate) fn entries(directory: &Path) -> Result<impl Iterator<Item = Entry> + use<>> {
    let entries = std::fs::read_dir(directory).map_err(ImageError::storage("list", directory))?;
    Ok(entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(Entry {
            name: entry.file_name().into_string().ok()?,
            path: entry.path(),
            size_bytes: metadata.len(),
            used_at: metadata.modified().ok()?,
        })
    }))
}
