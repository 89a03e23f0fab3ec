//! Garbage collection: blobs and unpacked images no kept manifest leads to.

use std::collections::HashSet;
use std::path::Path;
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
        let limit = SystemTime::now().checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut collected = Collected::default();

        let names: HashSet<String> = reachable.iter().map(Digest::hex).collect();
        for (path, size) in old_entries(&self.blobs(), &names, limit)? {
            remove_tree(&path);
            collected.blobs += 1;
            collected.blob_bytes += size;
        }
        let keys: HashSet<String> = reachable.iter().map(rootfs::key).collect();
        for (path, _) in old_entries(&self.rootfs_directory(), &keys, limit)? {
            // Out of the cache in one step: a removal cut short must not leave
            // half a tree where an image is looked for.
            let aside = self.temporary().join(ulid::Ulid::new().to_string());
            std::fs::rename(&path, &aside).map_err(ImageError::storage("remove", &path))?;
            remove_tree(&aside);
            collected.root_filesystems += 1;
        }
        self.remove_partials(min_age)?;
        repository::forget_removed(self)?;
        Ok(collected)
    }

    fn reachable(&self, mut pending: Vec<Digest>) -> Result<HashSet<Digest>> {
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

fn old_entries(
    directory: &Path,
    keep: &HashSet<String>,
    limit: SystemTime,
) -> Result<Vec<(std::path::PathBuf, u64)>> {
    let entries = std::fs::read_dir(directory).map_err(ImageError::storage("list", directory))?;
    let mut old = Vec::new();
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let kept = entry.file_name().to_str().is_none_or(|name| keep.contains(name));
        if !kept && metadata.modified().is_ok_and(|modified| modified <= limit) {
            old.push((entry.path(), metadata.len()));
        }
    }
    Ok(old)
}
