//! What one repository of the embedded registry holds.
//!
//! ```text
//! repositories/<name, "/" as "@">/content/<hex>   a blob or manifest it may serve
//!                                /tags/<tag>      the digest the tag names
//! ```
//!
//! Small files, each written aside and renamed, so a reader or a killed writer
//! never sees half a tag.

use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::blob::Temporary;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::Document;
use crate::store::{Store, create_directory};

/// A repository; exists once something was put into it.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) store: Store,
    pub(super) name: String,
    directory: PathBuf,
}

impl Repository {
    /// `name` must follow the distribution spec's grammar.
    pub(super) fn new(store: &Store, name: &str) -> Self {
        let directory = store.repositories().join(name.replace('/', "@"));
        Self { store: store.clone(), name: name.to_owned(), directory }
    }

    /// Whether this repository may serve the content, and the store has it.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.content(digest).is_file() && self.store.has(digest)
    }

    /// Lets this repository serve content of the store.
    pub(super) fn link(&self, digest: &Digest) -> Result<()> {
        self.store.refresh(digest);
        let path = self.content(digest);
        create_directory(&self.directory.join("content"), 0o755)?;
        fs::File::create(&path).map(|_| ()).map_err(ImageError::storage("create", path))
    }

    /// The digest a tag names.
    pub(super) fn tag(&self, tag: &str) -> Result<Option<Digest>> {
        read_tag(&self.directory.join("tags").join(tag))
    }

    /// Makes a tag name a digest, replacing what it named before.
    pub(super) fn set_tag(&self, tag: &str, digest: &Digest) -> Result<()> {
        let directory = self.directory.join("tags");
        create_directory(&directory, 0o755)?;
        let path = directory.join(tag);
        let (temporary, mut file) = Temporary::file(&self.store)?;
        file.write_all(digest.to_string().as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(ImageError::storage("write tag", &path))?;
        temporary.rename(&path)
    }

    /// All tags, sorted.
    pub(super) fn tags(&self) -> Result<Vec<String>> {
        let mut tags = names(&self.directory.join("tags"))?;
        tags.sort();
        Ok(tags)
    }

    fn content(&self, digest: &Digest) -> PathBuf {
        self.directory.join("content").join(digest.hex())
    }
}

/// Whether the repository `name` of the registry over `store` has this content.
pub fn holds(store: &Store, name: &str, digest: &Digest) -> bool {
    Repository::new(store, name).holds(digest)
}

/// Publishes an image of the store in the embedded registry, as a push would.
pub fn publish(store: &Store, name: &str, tag: &str, manifest_digest: &Digest) -> Result<()> {
    let reference = crate::Reference::new("localhost", name, Some(tag), None)
        .map_err(|source| ImageError::ReferenceInvalid { text: format!("{name}:{tag}"), source })?;
    let repository = Repository::new(store, reference.repository());
    link_all(&repository, manifest_digest)?;
    repository.set_tag(tag, manifest_digest)
}

/// Lets a repository serve an image of the store, under no tag.
pub fn admit(store: &Store, name: &str, manifest_digest: &Digest) -> Result<()> {
    let reference = crate::Reference::new("localhost", name, None, Some(*manifest_digest))
        .map_err(|source| ImageError::ReferenceInvalid { text: name.to_owned(), source })?;
    link_all(&Repository::new(store, reference.repository()), manifest_digest)
}

fn link_all(repository: &Repository, manifest_digest: &Digest) -> Result<()> {
    let bytes = repository.store.read(manifest_digest, crate::limits::MANIFEST_BYTES_MAX)?;
    if let Document::Manifest(manifest) = Document::parse(&bytes)? {
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            repository.link(&blob.digest)?;
        }
    }
    repository.link(manifest_digest)
}

/// Takes a tag away; what it named stays until the store is cleaned.
pub fn remove_tag(store: &Store, name: &str, tag: &str) -> Result<()> {
    let reference = crate::Reference::new("localhost", name, Some(tag), None)
        .map_err(|source| ImageError::ReferenceInvalid { text: format!("{name}:{tag}"), source })?;
    let path = Repository::new(store, reference.repository()).directory.join("tags").join(tag);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(ImageError::storage("remove tag", path)(error))
        }
        _ => Ok(()),
    }
}

/// Names of all content that any repository may serve.
pub(crate) fn held(store: &Store) -> Result<HashSet<String>> {
    let root = store.repositories();
    let mut held = HashSet::new();
    for repository in names(&root)? {
        held.extend(names(&root.join(repository).join("content"))?);
    }
    Ok(held)
}

/// Digests that any tag of any repository names.
pub(crate) fn tagged(store: &Store) -> Result<Vec<Digest>> {
    let root = store.repositories();
    let mut digests = Vec::new();
    for repository in names(&root)? {
        let directory = root.join(repository).join("tags");
        for tag in names(&directory)? {
            digests.extend(read_tag(&directory.join(tag))?);
        }
    }
    Ok(digests)
}

/// Forgets content that the store does not have any more. Otherwise somebody
/// else storing the same content later would give it to this repository.
pub(crate) fn forget_removed(store: &Store) -> Result<()> {
    let root = store.repositories();
    for repository in names(&root)? {
        let directory = root.join(repository).join("content");
        for hex in names(&directory)? {
            if !store.blobs().join(&hex).is_file() {
                let path = directory.join(hex);
                fs::remove_file(&path).map_err(ImageError::storage("remove", &path))?;
            }
        }
    }
    Ok(())
}

fn read_tag(path: &Path) -> Result<Option<Digest>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.parse().ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::storage("read tag", path)(error)),
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::storage("list", directory)(error)),
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}
