//! The store as a cache: what is used stays, of the rest the latest used as far as
//! there is room. Start at [`Store::trim`].

use std::collections::HashSet;
use std::time::Duration;

use crate::collect::{Collected, entries, names};
use crate::digest::Digest;
use crate::registry::repository;
use crate::store::Store;
use crate::{Result, rootfs};

/// How to trim a store.
#[derive(Debug, Clone, Default)]
pub struct Trim {
    /// Images in use: they stay.
    pub in_use: Vec<Digest>,
    /// Names of unpacked images in use, as in [`rootfs::RootFs::path`]: they stay.
    pub roots_in_use: Vec<String>,
    /// Images that were used, the latest last: they stay while there is room.
    pub used: Vec<Digest>,
    /// What images may take together. Those in use count first.
    pub bytes_max: u64,
    /// What leads nowhere and is younger than this stays.
    pub age_min: Duration,
    /// What the embedded registry may serve from this store stays, too, and does
    /// not count.
    pub with_registry: bool,
}

/// What trimming came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// What was removed.
    pub removed: Collected,
    /// What images take now.
    pub bytes: u64,
}

impl Store {
    /// Removes what there is no room for, the longest unused first. Content that
    /// is pinned stays.
    pub async fn trim(&self, trim: Trim) -> Result<Trimmed> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.trim_blocking(trim)).await?
    }

    fn trim_blocking(&self, trim: Trim) -> Result<Trimmed> {
        let registry = match trim.with_registry {
            true => repository::held(self)?,
            false => HashSet::new(),
        };
        let mut keep = HashSet::new();
        for digest in trim.in_use {
            keep.extend(self.names_of(digest));
        }
        keep.extend(trim.roots_in_use);
        let mut bytes = self.size_of(keep.iter().filter(|name| !registry.contains(*name)));
        let mut go = HashSet::new();
        for digest in trim.used.into_iter().rev() {
            let names = self.names_of(digest);
            let is_more = |name: &&String| !keep.contains(*name) && !registry.contains(*name);
            let more = self.size_of(names.iter().filter(is_more));
            // From the first that does not fit on, all go: what was used before it
            // must not outlive it for being smaller.
            if go.is_empty() && bytes.saturating_add(more) <= trim.bytes_max {
                bytes += more;
                keep.extend(names);
            } else {
                go.extend(names);
            }
        }
        keep.extend(registry.iter().cloned());
        let removed = self.remove_others(&keep, &go, trim.age_min)?;
        Ok(Trimmed { removed, bytes: self.cached_bytes(&registry)? })
    }

    /// What images take in the store; without what the embedded registry may
    /// serve when that is there for it.
    pub fn cache_bytes(&self, with_registry: bool) -> Result<u64> {
        match with_registry {
            true => self.cached_bytes(&repository::held(self)?),
            false => self.cached_bytes(&HashSet::new()),
        }
    }

    /// Everything an image consists of. A damaged manifest leads nowhere and is
    /// itself all there is.
    fn names_of(&self, digest: Digest) -> HashSet<String> {
        match self.reachable(vec![digest]) {
            Ok(reachable) => names(&reachable),
            Err(error) => {
                tracing::warn!(%digest, %error, "cannot tell what an image consists of");
                names(&HashSet::from([digest]))
            }
        }
    }

    fn cached_bytes(&self, registry: &HashSet<String>) -> Result<u64> {
        let blobs = entries(&self.blobs())?.filter(|entry| !registry.contains(&entry.name));
        let partials = entries(&self.partials())?;
        let content: u64 = blobs.chain(partials).map(|entry| entry.size_bytes).sum();
        let roots = entries(&self.rootfs_directory())?;
        Ok(content + roots.map(|entry| rootfs::size_bytes(&entry.path)).sum::<u64>())
    }

    fn size_of<'a>(&self, names: impl Iterator<Item = &'a String>) -> u64 {
        let (blobs, roots) = (self.blobs(), self.rootfs_directory());
        let one = |name: &String| {
            let blob = std::fs::metadata(blobs.join(name)).map_or(0, |blob| blob.len());
            blob + rootfs::size_bytes(&roots.join(name))
        };
        names.map(one).sum()
    }
}
