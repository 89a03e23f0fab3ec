//! Bringing an image from a registry into a store. Start at [`Puller::pull`].
//!
//! What is here already is not asked for again: a reference with a digest whose
//! content is complete needs no network at all. Everything is verified before
//! it gets a name in the store; the manifest is stored last.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};

use crate::Result;
use crate::auth::Auth;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::{
    CONFIG_BYTES_MAX, LAYER_TIMEOUT, MANIFEST_BYTES_MAX, PARALLEL_LAYERS, TRANSFER_TIMEOUT,
};
use crate::manifest::{Descriptor, Document, Manifest, Platform};
use crate::partial::{Added, Partial};
use crate::pins::Pins;
use crate::progress::{Meter, Progress};
use crate::reference::Reference;
use crate::remote::{Clients, Direction, Failure, Patience, Remote, retried};
use crate::store::{Store, mismatch};

pub use crate::remote::Transport;

/// Pulls images into one store. Cloning shares its connections.
#[derive(Clone)]
pub struct Puller {
    store: Store,
    clients: Clients,
}

/// An image that is wholly in the store.
#[derive(Debug, Clone)]
pub struct PulledImage {
    /// Digest of the manifest for this machine; what to unpack and run.
    pub manifest_digest: Digest,
    /// Digest of the index it was chosen from, if there was one.
    pub index_digest: Option<Digest>,
    /// How the image wants to be run.
    pub config: ImageConfig,
    /// Keeps it from being removed before it is used.
    pub pins: Pins,
}

/// What a reference stands for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Digest of the manifest for this machine.
    pub manifest_digest: Digest,
    /// Digest of the index it was chosen from, if there was one.
    pub index_digest: Option<Digest>,
}

impl Puller {
    /// Makes a puller. A TLS crypto provider must be installed for the process.
    pub fn new(store: &Store, transport: &Transport) -> Result<Self> {
        Ok(Self { store: store.clone(), clients: Clients::new(transport)? })
    }

    /// Asks the registry which digest a reference stands for, for this machine. Always:
    /// who may not have an image must not get it because others did.
    pub async fn resolve(&self, reference: &Reference, auth: &Auth) -> Result<Resolved> {
        let remote = self.clients.remote(reference, auth, Direction::Pull)?;
        let what = reference.to_string();
        within(TRANSFER_TIMEOUT, &what, async {
            let (resolved, _) = self.find(&remote, reference, Trust::Registry).await?;
            Ok(resolved)
        })
        .await
    }

    /// Brings the image for this machine into the store. Dropping the future
    /// ends the transfer; what is here by then stays, and the next pull goes on
    /// behind it.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: &Auth,
        progress: &dyn Progress,
    ) -> Result<PulledImage> {
        let remote = self.clients.remote(reference, auth, Direction::Pull)?;
        let what = reference.to_string();
        within(TRANSFER_TIMEOUT, &what, self.fetch(&remote, reference, progress)).await
    }

    /// Whether everything of an image for this machine is here, so that pulling it
    /// needs no network.
    pub fn has(&self, reference: &Reference) -> bool {
        let manifest = |digest: &Digest| match Document::parse(
            &self.store.read(digest, MANIFEST_BYTES_MAX).ok()?,
        ) {
            Ok(Document::Manifest(manifest)) => Some(manifest),
            Ok(Document::Index(index)) => {
                self.store.manifest(&index.select(&Platform::current())?.digest).ok()
            }
            Err(_) => None,
        };
        reference.digest().as_ref().and_then(manifest).is_some_and(|manifest| {
            let mut blobs = manifest.layers.iter().chain([&manifest.config]);
            blobs.all(|blob| self.store.has(&blob.digest))
        })
    }

    async fn fetch(
        &self,
        remote: &Remote,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<PulledImage> {
        let pins = self.store.pins();
        if let Some(digest) = reference.digest() {
            pins.hold(digest.hex());
        }
        let (resolved, known) = self.find(remote, reference, Trust::Store).await?;
        pins.hold(resolved.manifest_digest.hex());
        let (manifest, bytes) = match known {
            Some(found) => found,
            None => {
                let (document, bytes) = self
                    .document(remote, reference, Some(resolved.manifest_digest), Trust::Store)
                    .await?;
                (image_of(document, resolved.manifest_digest)?, bytes)
            }
        };
        manifest.check_limits()?;
        if manifest.config.size > CONFIG_BYTES_MAX {
            return Err(ImageError::TooLarge {
                what: format!("the config of {reference} is {} bytes", manifest.config.size),
                limit: format!("{CONFIG_BYTES_MAX} bytes"),
            });
        }
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            pins.hold(blob.digest.hex());
        }
        let meter = Meter::new(progress, manifest.layer_bytes() + manifest.config.size);
        // The config first: a wrong platform is found before gigabytes are here.
        self.blob(remote, &manifest.config, &meter).await?;
        let config = self.checked_config(reference, &manifest)?;
        // Made before the stream: a closure kept inside it would not be known to
        // serve every lifetime, and the pull could not be spawned.
        let downloads: Vec<_> =
            manifest.layers.iter().map(|layer| self.blob(remote, layer, &meter)).collect();
        futures::stream::iter(downloads)
            .buffer_unordered(PARALLEL_LAYERS)
            .try_collect::<Vec<()>>()
            .await?;
        self.keep(bytes).await?;
        Ok(PulledImage {
            manifest_digest: resolved.manifest_digest,
            index_digest: resolved.index_digest,
            config,
            pins,
        })
    }

    /// Resolves a reference; hands the manifest over when it was met on the way.
    async fn find(
        &self,
        remote: &Remote,
        reference: &Reference,
        trust: Trust,
    ) -> Result<(Resolved, Option<(Manifest, Vec<u8>)>)> {
        let (document, bytes) = self.document(remote, reference, reference.digest(), trust).await?;
        let digest = Digest::of(&bytes);
        match document {
            Document::Manifest(manifest) => {
                let resolved = Resolved { manifest_digest: digest, index_digest: None };
                Ok((resolved, Some((manifest, bytes))))
            }
            Document::Index(index) => {
                let wanted = Platform::current();
                let entry = index.select(&wanted).ok_or_else(|| ImageError::PlatformMissing {
                    reference: reference.to_string(),
                    wanted,
                    offered: index.platforms(),
                })?;
                let resolved =
                    Resolved { manifest_digest: entry.digest, index_digest: Some(digest) };
                self.keep(bytes).await?;
                Ok((resolved, None))
            }
        }
    }

    /// Reads a manifest or index from the store, else from the registry.
    async fn document(
        &self,
        remote: &Remote,
        reference: &Reference,
        digest: Option<Digest>,
        trust: Trust,
    ) -> Result<(Document, Vec<u8>)> {
        let known = digest.filter(|_| trust == Trust::Store);
        if let Some(digest) = known.filter(|digest| self.store.refresh(digest)) {
            let bytes = self.store.read(&digest, MANIFEST_BYTES_MAX)?;
            return Ok((Document::parse(&bytes)?, bytes));
        }
        let what = match digest {
            Some(digest) => reference.with_digest(digest),
            None => reference.clone(),
        };
        let identifier = what.identifier();
        let bytes = retried(|| remote.manifest(&identifier))
            .await
            .map_err(|failure| remote.explain(failure, what.to_string()))?;
        let actual = Digest::of(&bytes);
        if let Some(expected) = digest.filter(|expected| *expected != actual) {
            return Err(mismatch(&format!("the manifest of {reference}"), &expected, &actual));
        }
        Ok((Document::parse(&bytes)?, bytes.into()))
    }

    /// Brings one blob here. Whoever else wants it meanwhile waits and finds it.
    async fn blob(&self, remote: &Remote, blob: &Descriptor, meter: &Meter<'_>) -> Result<()> {
        let _guard = self.store.lock(format!("blob {}", blob.digest)).await;
        if self.store.refresh(&blob.digest) {
            meter.add(blob.size);
            return Ok(());
        }
        let what = format!("layer {}", blob.digest);
        within(LAYER_TIMEOUT, &what, self.download(remote, blob, meter)).await
    }

    async fn download(&self, remote: &Remote, blob: &Descriptor, meter: &Meter<'_>) -> Result<()> {
        let mut partial = Partial::open(&self.store, blob.digest, blob.size).await?;
        meter.add(partial.size());
        let mut patience = Patience::default();
        let mut may_join = true;
        loop {
            let before = partial.size();
            let failure = match self.attempt(remote, blob, partial, meter).await? {
                Added::Whole => return Ok(()),
                Added::Broken(rest, failure) => {
                    partial = rest;
                    failure.unwrap_or(Failure::Short)
                }
                Added::Wrong(error) => {
                    tracing::debug!(%error, "fetching it again in one piece");
                    meter.take_back(blob.size);
                    may_join = false;
                    partial = Partial::open(&self.store, blob.digest, blob.size).await?;
                    continue;
                }
            };
            let refuses_part = failure.refuses_part() && partial.size() > 0;
            if refuses_part || !may_join {
                meter.take_back(partial.size());
                partial.restart()?;
            }
            if !refuses_part
                && !patience.wait(&failure, partial.size().saturating_sub(before)).await
            {
                return Err(remote.explain(failure, format!("layer {}", blob.digest)));
            }
        }
    }

    /// Adds to a blob what one request brings.
    async fn attempt(
        &self,
        remote: &Remote,
        blob: &Descriptor,
        mut partial: Partial,
        meter: &Meter<'_>,
    ) -> Result<Added<Failure>> {
        if partial.size() == blob.size {
            return partial.add(futures::stream::empty(), |_| {}).await;
        }
        match remote.blob(&blob.digest, partial.size()).await {
            Err(failure) => Ok(Added::Broken(partial, Some(failure))),
            Ok((start, stream)) => {
                if start != partial.size() {
                    meter.take_back(partial.size());
                    partial.restart()?;
                }
                partial.add(stream, |bytes| meter.add(bytes)).await
            }
        }
    }

    fn checked_config(&self, reference: &Reference, manifest: &Manifest) -> Result<ImageConfig> {
        let document = self.store.config(manifest)?;
        let wanted = Platform::current();
        // Old tools leave either out; what is not said does not contradict.
        let said = |text: &str, unsaid: &str| match text {
            "" => unsaid.to_owned(),
            text => text.to_owned(),
        };
        let offered = Platform {
            architecture: said(&document.architecture, &wanted.architecture),
            os: said(&document.os, &wanted.os),
            variant: None,
        };
        if offered != wanted {
            return Err(ImageError::PlatformMissing {
                reference: reference.to_string(),
                wanted,
                offered: offered.to_string(),
            });
        }
        Ok(document.config)
    }

    async fn keep(&self, bytes: Vec<u8>) -> Result<()> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.write(&bytes).map(|_| ())).await?
    }
}

/// Whose word counts for a manifest whose digest is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Store,
    Registry,
}

fn image_of(document: Document, digest: Digest) -> Result<Manifest> {
    match document {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(ImageError::ManifestInvalid {
            digest,
            reason: "an index leads to another index".to_owned(),
            source: None,
        }),
    }
}

pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(ImageError::PullTimeout { what: what.to_owned(), limit }))
}
