//! Importing image archives: OCI layouts in a tar (`buildah push
//! oci-archive:…`, `skopeo`) and what `docker save` writes.
//!
//! One pass: content goes into the store as it is met, the small index
//! documents are kept aside and read at the end. What turns out to be unneeded
//! is ordinary garbage for `remove_unused`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Result;
use crate::blob::Written;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::{COMPRESSED_IMAGE_BYTES_MAX, ENTRIES_MAX, MANIFEST_BYTES_MAX};
use crate::manifest::{
    Descriptor, Document, Index, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform,
};
use crate::store::Store;

const COPY_BYTES: usize = 256 * 1024;
const BLOB_FOLDER: &str = "blobs/sha256/";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Puts the image of an archive into the store and returns its manifest's
/// digest. With several images in the archive, the one for this machine counts,
/// then the first.
pub async fn import_archive(store: &Store, path: &Path) -> Result<Digest> {
    let (store, path) = (store.clone(), path.to_owned());
    tokio::task::spawn_blocking(move || {
        let contents = Contents::read(&store, &path)?;
        contents.image()
    })
    .await?
}

/// What an archive held.
struct Contents<'a> {
    store: &'a Store,
    path: PathBuf,
    files: HashMap<String, Written>,
    /// Layers that several images share are links in older archives.
    links: HashMap<String, String>,
}

/// An entry of Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    layers: Vec<String>,
}

impl<'a> Contents<'a> {
    fn read(store: &'a Store, path: &Path) -> Result<Self> {
        let failed = || ImageError::storage("read", path);
        let mut contents =
            Self { store, path: path.to_owned(), files: HashMap::new(), links: HashMap::new() };
        let mut archive = tar::Archive::new(File::open(path).map_err(failed())?);
        let mut count = 0;
        let mut bytes_left = COMPRESSED_IMAGE_BYTES_MAX;
        for entry in archive.entries().map_err(failed())? {
            let mut entry = entry.map_err(failed())?;
            count += 1;
            if count > ENTRIES_MAX {
                return Err(contents.invalid("it has too many entries"));
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.trim_start_matches("./").to_owned();
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(&target).into_owned();
                contents.links.insert(name, target);
            } else if kind.is_file() {
                let written = contents.store_file(&name, &mut entry, bytes_left)?;
                bytes_left -= written.size;
                contents.files.insert(name, written);
            }
        }
        Ok(contents)
    }

    fn store_file(&self, name: &str, entry: &mut impl Read, bytes_max: u64) -> Result<Written> {
        let mut writer = self.store.writer(bytes_max)?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match entry.read(&mut buffer).map_err(ImageError::storage("read", &self.path))? {
                0 => break,
                count => writer.append(&buffer[..count])?,
            }
        }
        let named =
            name.strip_prefix(BLOB_FOLDER).and_then(|hex| format!("sha256:{hex}").parse().ok());
        writer.commit(named.as_ref())
    }

    fn image(&self) -> Result<Digest> {
        if let Some(written) = self.files.get("index.json") {
            return self.indexed(&written.digest);
        }
        match self.files.get("manifest.json") {
            Some(written) => self.saved(&written.digest),
            None => Err(self.invalid("it has neither `index.json` nor `manifest.json`")),
        }
    }

    fn indexed(&self, digest: &Digest) -> Result<Digest> {
        let index: Index = self.store.read_json(digest, MANIFEST_BYTES_MAX)?;
        let entry = index
            .select(&Platform::current())
            .or_else(|| index.manifests.first())
            .ok_or_else(|| self.invalid("its index is empty"))?;
        let document = Document::parse(&self.store.read(&entry.digest, MANIFEST_BYTES_MAX)?)?;
        match document {
            Document::Manifest(manifest) => self.complete(&manifest).map(|()| entry.digest),
            Document::Index(inner) => {
                let wanted = Platform::current();
                let entry = inner.select(&wanted).ok_or_else(|| ImageError::PlatformMissing {
                    reference: self.path.display().to_string(),
                    wanted: wanted.clone(),
                    offered: inner.platforms(),
                })?;
                self.complete(&self.store.manifest(&entry.digest)?)?;
                Ok(entry.digest)
            }
        }
    }

    /// Docker's own format has no manifest; one is made for it.
    fn saved(&self, digest: &Digest) -> Result<Digest> {
        let images: Vec<SavedImage> = self.store.read_json(digest, MANIFEST_BYTES_MAX)?;
        let image = images.first().ok_or_else(|| self.invalid("`manifest.json` is empty"))?;
        let config = self.find(&image.config)?;
        let layers = image.layers.iter().map(|name| self.layer(name)).collect::<Result<_>>()?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config: descriptor(OCI_CONFIG, config),
            layers,
        };
        self.complete(&manifest)?;
        let bytes = serde_json::to_vec(&manifest)
            .map_err(|source| ImageError::manifest_invalid(config.digest, source))?;
        Ok(self.store.write(&bytes)?.digest)
    }

    fn layer(&self, name: &str) -> Result<Descriptor> {
        let written = self.find(name)?;
        let mut magic = [0; 2];
        let mut blob = self.store.open_blob(&written.digest)?;
        let compressed = blob.read_exact(&mut magic).is_ok() && magic == GZIP_MAGIC;
        let media_type =
            if compressed { format!("{OCI_LAYER}+gzip") } else { OCI_LAYER.to_owned() };
        Ok(descriptor(&media_type, written))
    }

    fn find(&self, name: &str) -> Result<Written> {
        if let Some(written) = self.files.get(name) {
            return Ok(*written);
        }
        // `../<id>/layer.tar` from inside `<other id>/`: the part after `../`.
        let target = self.links.get(name).map(|target| target.trim_start_matches("../"));
        target
            .and_then(|target| self.files.get(target))
            .copied()
            .ok_or_else(|| self.invalid(&format!("`{name}` is missing")))
    }

    fn complete(&self, manifest: &Manifest) -> Result<()> {
        manifest.check_limits()?;
        for part in manifest.layers.iter().chain([&manifest.config]) {
            if !self.store.has(&part.digest) {
                return Err(self.invalid(&format!("the content {} is missing", part.digest)));
            }
        }
        Ok(())
    }

    fn invalid(&self, reason: &str) -> ImageError {
        ImageError::ArchiveInvalid { path: self.path.clone(), reason: reason.to_owned() }
    }
}

fn descriptor(media_type: &str, written: Written) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: written.digest,
        size: written.size,
        platform: None,
    }
}
