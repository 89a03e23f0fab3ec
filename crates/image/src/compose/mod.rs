//! Making images from files. Start at [`compose`].
//!
//! The same input gives the same digest, always and everywhere: entries are
//! sorted, owned by root, dated 1970, modes reduced to executable or not, and
//! the config carries no time. Layers stay uncompressed: they are read far more
//! often (every unpack on this machine) than sent.

mod folder;
mod layer;

use std::path::PathBuf;

pub use folder::{Folder, FolderFile};

use crate::Result;
use crate::config::{ConfigDocument, ImageConfig, LayerDigests};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform};
use crate::store::Store;

/// One layer to be.
#[derive(Debug, Clone)]
pub enum ComposeLayer {
    /// These files; directories on the way are made.
    Files(Vec<ComposeFile>),
    /// A folder's content below a directory of the image.
    Tree {
        /// The files to take.
        folder: Folder,
        /// Where they go, such as `/srv`.
        below: String,
    },
}

/// One file of a layer.
#[derive(Debug, Clone)]
pub struct ComposeFile {
    /// Absolute path in the image.
    pub path: String,
    /// Where its content comes from.
    pub source: FileSource,
    /// Permission bits, such as `0o755`.
    pub mode: u32,
}

/// Content of a file to be.
#[derive(Debug, Clone)]
pub enum FileSource {
    /// Read from this machine, symbolic links followed.
    Path(PathBuf),
    /// Given here.
    Bytes(Vec<u8>),
    /// A symbolic link with this target.
    Link(PathBuf),
}

/// Writes an image for this machine's platform into the store and returns its
/// manifest's digest.
pub async fn compose(
    store: &Store,
    layers: Vec<ComposeLayer>,
    config: ImageConfig,
) -> Result<Digest> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || compose_blocking(&store, &layers, config)).await?
}

fn compose_blocking(store: &Store, layers: &[ComposeLayer], config: ImageConfig) -> Result<Digest> {
    let layers = layers
        .iter()
        .map(|source| {
            let written = layer::write(store, source)?;
            Ok(Descriptor {
                media_type: OCI_LAYER.to_owned(),
                digest: written.digest,
                size: written.size,
                platform: None,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    write_image(store, layers, config)
}

/// Stores config and manifest for uncompressed layers already in the store.
fn write_image(store: &Store, layers: Vec<Descriptor>, config: ImageConfig) -> Result<Digest> {
    let platform = Platform::current();
    let document = ConfigDocument {
        architecture: platform.architecture,
        os: platform.os,
        config,
        rootfs: LayerDigests {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|layer| layer.digest).collect(),
        },
    };
    let written = store.write(&json(&document)?)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: Descriptor {
            media_type: OCI_CONFIG.to_owned(),
            digest: written.digest,
            size: written.size,
            platform: None,
        },
        layers,
    };
    manifest.check_limits()?;
    Ok(store.write(&json(&manifest)?)?.digest)
}

fn json(document: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document)
        .map_err(|source| ImageError::manifest_invalid(Digest::of(b""), source))
}

#[cfg(test)]
mod tests;
