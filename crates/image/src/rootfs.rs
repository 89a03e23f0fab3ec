//! Unpacked images: one directory per image, shared read-only by its instances.
//!
//! The directory is cached under a key of manifest digest and format version,
//! so a change in how we unpack never meets a directory made the old way. It is
//! built aside and renamed; one task builds, others wait for it. The caller
//! mounts it read-only or puts a writable layer above; nothing here runs it.

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::Result;
use crate::blob::{Temporary, sync_directory};
use crate::config::{ConfigDocument, ImageConfig};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::flush::flushed;
use crate::manifest::Manifest;
use crate::pins::Pins;
use crate::store::{Store, mismatch};
use crate::unpack::{Budget, Unpacker, create_open_directory};

/// Part of the cache key; raise it when unpacking gives different results.
const FORMAT_VERSION: &str = "2";

/// Beside the root directory: how many bytes it takes, in digits.
const SIZE_FILE: &str = "size";

/// What an entry takes besides its content: a directory's block, or what rounding
/// up costs a file.
const ENTRY_BYTES: u64 = 4096;

/// An unpacked image.
#[derive(Debug, Clone)]
pub struct RootFs {
    /// The root directory. Do not write to it.
    pub path: PathBuf,
    /// How the image wants to be run.
    pub config: ImageConfig,
    /// Keeps it from being removed.
    pub pins: Pins,
}

/// Unpacks the image, or finds it unpacked already.
pub async fn rootfs(store: &Store, manifest_digest: &Digest) -> Result<RootFs> {
    let key = key(manifest_digest);
    let (store, digest) = (store.clone(), *manifest_digest);
    let pins = store.pins();
    pins.hold(key.clone());
    let guard = store.lock(format!("rootfs {key}")).await;
    tokio::task::spawn_blocking(move || {
        // Moved in: a caller who stops waiting must not let a second builder
        // start beside this one.
        let _guard = guard;
        let manifest = store.manifest(&digest)?;
        let document = store.config(&manifest)?;
        let directory = store.rootfs_directory().join(&key);
        if !refresh(&directory) {
            build(&store, &manifest, &document, &directory)?;
        }
        Ok(RootFs { path: directory.join("root"), config: document.config, pins })
    })
    .await?
}

/// Marks an unpacked image as just used, for garbage collection; false when it
/// is not here.
fn refresh(directory: &Path) -> bool {
    let times = FileTimes::new().set_modified(SystemTime::now());
    File::open(directory).is_ok_and(|directory| directory.set_times(times).is_ok())
}

/// Name of the cache entry for an image.
pub(crate) fn key(manifest_digest: &Digest) -> String {
    Digest::of(format!("{manifest_digest} {FORMAT_VERSION}").as_bytes()).hex()
}

fn build(
    store: &Store,
    manifest: &Manifest,
    document: &ConfigDocument,
    directory: &Path,
) -> Result<()> {
    manifest.check_limits()?;
    let diff_ids = &document.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(ImageError::ManifestInvalid {
            digest: manifest.config.digest,
            reason: format!(
                "it describes {} layers, the manifest has {}",
                diff_ids.len(),
                manifest.layers.len()
            ),
            source: None,
        });
    }
    let temporary = Temporary::directory(store)?;
    let root = temporary.path.join("root");
    create_open_directory(&root).map_err(ImageError::storage("create", &root))?;
    flushed(&temporary.path, || {
        let mut budget = Budget::default();
        let unpacker = Unpacker::new(&root).map_err(ImageError::storage("open", &root))?;
        for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let blob = store.open_blob(&layer.digest)?;
            let actual =
                unpacker.layer(blob, &mut budget).map_err(|error| error.for_layer(layer.digest))?;
            if actual != *diff_id {
                return Err(mismatch("an unpacked layer", diff_id, &actual));
            }
        }
        let size = temporary.path.join(SIZE_FILE);
        std::fs::write(&size, taken_bytes(&budget).to_string())
            .map_err(ImageError::storage("write", &size))
    })?;
    match temporary.rename(directory) {
        // Another process with the same store was first; its tree is as good.
        Err(_) if directory.is_dir() => {}
        outcome => outcome?,
    }
    sync_directory(&store.rootfs_directory())
}

fn taken_bytes(left: &Budget) -> u64 {
    let all = Budget::default();
    let entries = all.entries.saturating_sub(left.entries);
    all.bytes.saturating_sub(left.bytes).saturating_add(entries.saturating_mul(ENTRY_BYTES))
}

/// How much an unpacked image takes, about.
pub(crate) fn size_bytes(directory: &Path) -> u64 {
    let text = std::fs::read_to_string(directory.join(SIZE_FILE));
    text.ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
