//! The one file that speaks to `helix-image`: images for instances, and which
//! of them to keep.
//!
//! It turns the image crate's errors into reasons. It must not know instances.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use helix_image::{
    Auth, Collected, Digest, ImageConfig, ImageError, NoProgress, Pins, Puller, Reference, RootFs,
    Store, Trim, Trimmed, rootfs,
};
use helix_model::Reason;
use helix_model::api::OWN_REGISTRY;
use helix_model::link::PullLogin;
use helix_model::plan::NodePlan;
use helix_runtime::InstanceSpec;

use crate::config::{Config, OwnRegistry};
use crate::error::NodeError;
use crate::lifecycle::Refusal;
use crate::machine::chain;
use crate::shared::Shared;
use crate::{files, gone};

/// Uses remembered: far more than one machine runs at a time, since images in
/// use stand between the others in the list.
const USED_MAX: usize = 1024;

/// Younger content that leads nowhere stays while there is room: of an image whose
/// pull broke, the next attempt has use for the layers.
const COLLECT_AGE_MIN: Duration = Duration::from_secs(60 * 60);

/// The same where room is short but others push into the same store: what they
/// have uploaded is nobody's until its manifest is there.
const UPLOAD_AGE_MIN: Duration = Duration::from_secs(10 * 60);

/// What must stay: images by name, unpacked ones by the name of their directory.
#[derive(Default)]
pub(crate) struct InUse {
    images: Vec<String>,
    roots: Vec<String>,
}

impl InUse {
    /// What the plan wants, what is here of earlier ones, and what still runs
    /// although no plan knows it.
    pub(crate) fn of(shared: &Shared, plan: &NodePlan) -> InUse {
        let planned = plan.instances.iter().map(|instance| instance.image.clone());
        let live = shared.live();
        let images = planned.chain(live.values().map(|plan| plan.image.clone())).collect();
        drop(live);
        let found = gone::list(&shared.config.instances_dir()).into_iter();
        let root = |found: gone::Found| {
            let spec = InstanceSpec::load(&found.dir).ok()?;
            Some(spec.rootfs.parent()?.file_name()?.to_str()?.to_owned())
        };
        InUse { images, roots: found.filter_map(root).collect() }
    }
}

/// How much images may take.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) bytes_max: u64,
    /// The disk is full: what may be of use soon goes, too.
    pub(crate) urgent: bool,
}

/// An image ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Its unpacked root directory, shared and never written to.
    pub(crate) root: PathBuf,
    /// How it wants to be run.
    pub(crate) config: ImageConfig,
    /// Keep it here.
    pub(crate) _pins: Option<Pins>,
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
    /// The store is also that of a registry.
    with_registry: bool,
}

impl Images {
    pub(crate) fn open(config: &Config) -> Result<Images, NodeError> {
        let store = Store::open(&config.image_dir()).map_err(NodeError::Images)?;
        let own = config.own_registries.clone();
        let insecure = own.iter().filter(|own| own.plain_http).map(|own| own.host.clone());
        let mut transport = config.registries.clone();
        transport.insecure_registries.extend(insecure);
        let puller = Puller::new(&store, &transport).map_err(NodeError::Images)?;
        let used_path = config.images_used_path();
        let used = files::load(&used_path).ok().flatten().unwrap_or_default();
        let served = AtomicUsize::new(0);
        let (used, with_registry) = (Mutex::new(used), config.image_dir_is_registrys);
        Ok(Images { store, puller, own, served, used, used_path, with_registry })
    }

    /// Brings an image here and unpacks it. What is here already needs no
    /// network, and whoever wants the same meanwhile waits for it. Dropping the
    /// future ends the download.
    pub(crate) async fn fetch(
        &self,
        image: &str,
        login: impl Future<Output = Result<Option<PullLogin>, String>> + Send,
    ) -> Result<Image, Refusal> {
        let invalid = |source| ImageError::ReferenceInvalid { text: image.to_owned(), source };
        let reference: Reference =
            image.parse().map_err(invalid).map_err(|error| refusal(&error))?;
        if let Some(digest) = reference.digest() {
            self.note(&digest);
        }
        let unpacked = if reference.registry() == OWN_REGISTRY {
            self.unpacked_from_own(&reference).await
        } else {
            self.unpacked_from_elsewhere(&reference, login).await
        };
        let ready = unpacked.map_err(|error| refusal(&error))?;
        Ok(Image { root: ready.path, config: ready.config, _pins: Some(ready.pins) })
    }

    async fn unpacked(&self, reference: &Reference, auth: &Auth) -> Result<RootFs, ImageError> {
        // Pinned until it is unpacked.
        let pulled = self.puller.pull(reference, auth, &NoProgress).await?;
        rootfs(&self.store, &pulled.manifest_digest).await
    }

    /// With a login, unless it is here already. One that cannot be had is told when
    /// it turns out to have been needed.
    async fn unpacked_from_elsewhere(
        &self,
        reference: &Reference,
        login: impl Future<Output = Result<Option<PullLogin>, String>> + Send,
    ) -> Result<RootFs, ImageError> {
        if self.puller.has(reference) {
            return self.unpacked(reference, &Auth::Anonymous).await;
        }
        let (auth, why) = match login.await {
            Ok(Some(PullLogin { username: user, password })) => {
                (Auth::Basic { user, password }, None)
            }
            Ok(None) => (Auth::Anonymous, None),
            Err(why) => (Auth::Anonymous, Some(why)),
        };
        match (self.unpacked(reference, &auth).await, why) {
            (Err(ImageError::Unauthorized { registry, repository }), Some(why)) => {
                tracing::warn!(registry, repository, why, "pulled as nobody");
                Err(ImageError::Unauthorized { registry, repository })
            }
            (unpacked, _) => unpacked,
        }
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

    /// Removes what there is no room for and nothing uses, the longest unused
    /// first; says what images take then.
    pub(crate) async fn trim(&self, in_use: InUse, room: Room) -> Option<u64> {
        let trim = Trim {
            in_use: in_use.images.iter().filter_map(|image| digest_of(image)).collect(),
            roots_in_use: in_use.roots,
            used: self.last_used(),
            bytes_max: room.bytes_max,
            age_min: match (room.urgent, self.with_registry) {
                (false, _) => COLLECT_AGE_MIN,
                (true, true) => UPLOAD_AGE_MIN,
                (true, false) => Duration::ZERO,
            },
            with_registry: self.with_registry,
        };
        match self.store.trim(trim).await {
            Ok(Trimmed { removed, bytes }) => {
                if removed != Collected::default() {
                    tracing::info!(?removed, bytes, "removed images");
                }
                Some(bytes)
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot remove unused images");
                None
            }
        }
    }

    /// What images take on this machine.
    pub(crate) async fn cache_bytes(&self) -> Option<u64> {
        let (store, with_registry) = (self.store.clone(), self.with_registry);
        tokio::task::spawn_blocking(move || store.cache_bytes(with_registry)).await.ok()?.ok()
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

    fn last_used(&self) -> Vec<Digest> {
        let used = self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        used.iter().filter_map(|digest| digest.parse().ok()).collect()
    }
}

/// Where an image is today, and how to get in.
fn located(own: &OwnRegistry, reference: &Reference) -> Result<(Reference, Auth), ImageError> {
    let (repository, tag) = (reference.repository(), reference.tag());
    let here = Reference::new(&own.host, repository, tag, reference.digest())
        .map_err(|source| ImageError::ReferenceInvalid { text: reference.to_string(), source })?;
    Ok((here, Auth::Basic { user: "node".to_owned(), password: own.token.clone() }))
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
        "disk_full" => Reason::DiskFull,
        "image_store_failed" => Reason::RootfsBuildFailed,
        _ => Reason::ImagePullFailed,
    };
    // Somebody may give the org another login.
    let retryable = error.retryable() || reason == Reason::RegistryUnauthorized;
    Refusal { reason, message: chain(error), retryable }
}
