//! The one file that speaks to `helix-image`: images for instances, and which
//! of them to keep.
//!
//! It turns the image crate's errors into reasons. It must not know instances.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use helix_image::pull::Transport;
use helix_image::{
    Auth, Digest, ImageConfig, ImageError, NoProgress, Puller, Reference, RootFs, Store, rootfs,
};
use helix_model::Reason;
use helix_model::api::OWN_REGISTRY;

use crate::config::{Config, OwnRegistry};
use crate::error::NodeError;
use crate::files;
use crate::lifecycle::Refusal;
use crate::machine::chain;

/// Images kept besides those in use, for rolling back without a pull.
const KEPT_OTHERS: usize = 5;

/// Uses remembered: far more than one machine runs at a time, since images in
/// use stand between the others in the list.
const USED_MAX: usize = 1024;

/// Younger content stays: a pull stores layers before the manifest that leads
/// to them, and may take half an hour.
const COLLECT_AGE_MIN: Duration = Duration::from_secs(60 * 60);

/// An image ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Its unpacked root directory, shared and never written to.
    pub(crate) root: PathBuf,
    /// How it wants to be run.
    pub(crate) config: ImageConfig,
}

/// This machine's images.
pub(crate) struct Images {
    store: Store,
    puller: Puller,
    own: Vec<OwnRegistry>,
    /// Which of them served last.
    served: AtomicUsize,
    /// Digests as plans name them, the latest needed last.
    used: Mutex<Vec<String>>,
    used_path: PathBuf,
}

impl Images {
    pub(crate) fn open(config: &Config) -> Result<Images, NodeError> {
        let store = Store::open(&config.image_dir()).map_err(NodeError::Images)?;
        let own = config.own_registries.clone();
        let insecure = own.iter().filter(|own| own.plain_http).map(|own| own.host.clone());
        let transport =
            Transport { insecure_registries: insecure.collect(), ..Transport::default() };
        let puller = Puller::new(&store, &transport).map_err(NodeError::Images)?;
        let used_path = config.images_used_path();
        let used = files::load(&used_path).ok().flatten().unwrap_or_default();
        let served = AtomicUsize::new(0);
        Ok(Images { store, puller, own, served, used: Mutex::new(used), used_path })
    }

    /// Brings an image here and unpacks it. What is here already needs no
    /// network, and whoever wants the same meanwhile waits for it. Dropping the
    /// future ends the download.
    pub(crate) async fn fetch(&self, image: &str) -> Result<Image, Refusal> {
        let invalid = |source| ImageError::ReferenceInvalid { text: image.to_owned(), source };
        let reference: Reference =
            image.parse().map_err(invalid).map_err(|error| refusal(&error))?;
        if let Some(digest) = reference.digest() {
            self.note(&digest);
        }
        let unpacked = if reference.registry() == OWN_REGISTRY {
            self.unpacked_from_own(&reference).await
        } else {
            self.unpacked(&reference, &Auth::Anonymous).await
        };
        let ready = unpacked.map_err(|error| refusal(&error))?;
        Ok(Image { root: ready.path, config: ready.config })
    }

    async fn unpacked(&self, reference: &Reference, auth: &Auth) -> Result<RootFs, ImageError> {
        let pulled = self.puller.pull(reference, auth, &NoProgress).await?;
        rootfs(&self.store, &pulled.manifest_digest).await
    }

    /// From whichever server has it; the first refusal when none does.
    async fn unpacked_from_own(&self, reference: &Reference) -> Result<RootFs, ImageError> {
        let first = self.served.load(Ordering::Relaxed);
        let mut refused = None;
        for turn in 0..self.own.len() {
            let index = (first + turn) % self.own.len();
            let (here, auth) = located(&self.own[index], reference)?;
            match self.unpacked(&here, &auth).await {
                Ok(ready) => {
                    self.served.store(index, Ordering::Relaxed);
                    return Ok(ready);
                }
                Err(error) => {
                    tracing::debug!(error = chain(&error), server = here.registry(), "no image");
                    refused.get_or_insert(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| ImageError::NotFound { what: reference.to_string() }))
    }

    /// Removes images that are neither named here nor among the last used.
    pub(crate) async fn collect(&self, in_use: &[String]) {
        let keep = kept(in_use, &self.last_used());
        match self.store.remove_unused(&keep, COLLECT_AGE_MIN).await {
            Ok(removed) if removed.blobs > 0 => {
                tracing::info!(blobs = removed.blobs, bytes = removed.blob_bytes, "removed images");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = chain(&error), "cannot remove unused images"),
        }
    }

    fn note(&self, digest: &Digest) {
        let name = digest.to_string();
        let mut used = self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if used.last().is_some_and(|last| *last == name) {
            return;
        }
        used.retain(|used| *used != name);
        used.push(name);
        let surplus = used.len().saturating_sub(USED_MAX);
        used.drain(..surplus);
        if let Err(error) = files::store(&self.used_path, &*used) {
            tracing::warn!(error = chain(&error), "cannot note the use of an image");
        }
    }

    fn last_used(&self) -> Vec<String> {
        self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Where an image is today, and how to get in.
fn located(own: &OwnRegistry, reference: &Reference) -> Result<(Reference, Auth), ImageError> {
    let (repository, tag) = (reference.repository(), reference.tag());
    let here = Reference::new(&own.host, repository, tag, reference.digest())
        .map_err(|source| ImageError::ReferenceInvalid { text: reference.to_string(), source })?;
    Ok((here, Auth::Basic { user: "node".to_owned(), password: own.token.clone() }))
}

/// Images to keep: those in use and the last used of the others. `used` has the
/// latest last.
fn kept(in_use: &[String], used: &[String]) -> Vec<Digest> {
    let mut keep: Vec<Digest> = in_use.iter().filter_map(|image| digest_of(image)).collect();
    let others: Vec<Digest> = used
        .iter()
        .rev()
        .filter_map(|digest| digest.parse().ok())
        .filter(|digest| !keep.contains(digest))
        .take(KEPT_OTHERS)
        .collect();
    keep.extend(others);
    keep
}

fn digest_of(image: &str) -> Option<Digest> {
    image.parse::<Reference>().ok()?.digest()
}

fn refusal(error: &ImageError) -> Refusal {
    let reason = match error.code() {
        "image_not_found" => Reason::ImageNotFound,
        "image_pull_timeout" => Reason::ImagePullTimeout,
        "image_too_large" => Reason::ImageTooLarge,
        "image_layer_invalid" | "image_manifest_invalid" => Reason::ImageLayerInvalid,
        "image_digest_mismatch" => Reason::ImageDigestMismatch,
        "image_platform_missing" => Reason::ImagePlatformMissing,
        "registry_unauthorized" => Reason::RegistryUnauthorized,
        "disk_full" | "image_store_failed" => Reason::RootfsBuildFailed,
        _ => Reason::ImagePullFailed,
    };
    Refusal { reason, message: chain(error), retryable: error.retryable() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_in_use_and_the_last_few_others_are_kept() {
        let digest = |number: u32| format!("sha256:{number:064x}");
        let used: Vec<String> = (0..10).map(digest).collect();
        let in_use = [format!("example.com/app@{}", digest(0)), "no image".to_owned()];
        let keep: Vec<String> = kept(&in_use, &used).iter().map(Digest::to_string).collect();
        assert_eq!(keep, [0, 9, 8, 7, 6, 5].map(digest));
    }
}
