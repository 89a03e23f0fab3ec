//! What an agent is told when it starts, and where its files are.
//!
//! ```text
//! <data>/plan.json           the last plan
//! <data>/images/             image store, unless told otherwise
//! <data>/images-used.json    which images were last needed
//! <data>/instances/<id>/     one instance: slot.json and the runtime's files
//! <data>/volumes/<id>/       one volume
//! <data>/snapshots/<id>/     one snapshot
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use helix_image::pull::Transport;
use helix_model::{Id, Instance};
use helix_runtime::Isolation;

use crate::disk::DiskLimits;

/// A source of 128 random bits; injected so that tests can replay.
pub type Entropy = Arc<dyn Fn() -> u128 + Send + Sync>;

/// Settings of one agent.
#[derive(Clone)]
pub struct Config {
    /// Directory of the agent's files; made when missing.
    pub data_dir: PathBuf,
    /// The `helix` executable, which shims are re-executions of.
    pub helix_exe: PathBuf,
    /// Forces an isolation level; the strongest that works here when `None`.
    pub isolation: Option<Isolation>,
    /// Where images of [`helix_model::api::OWN_REGISTRY`] are: with each server.
    /// They are asked in turn, beginning with the one that served last.
    pub own_registries: Vec<OwnRegistry>,
    /// Directory of the image store; `<data_dir>/images` when `None`. An agent
    /// in the same process as the registry shares its store, and so pulls
    /// nothing twice.
    pub image_dir: Option<PathBuf>,
    /// The store is also that of a registry, whose contents are others' business:
    /// the agent removes only what the registry does not serve.
    pub image_dir_is_registrys: bool,
    /// How other people's registries are reached.
    pub registries: Transport,
    /// How much of the disk may be used.
    pub disk: DiskLimits,
    /// The thin pool of LVM that volumes are kept in, as `VG/POOL`; in files below
    /// `data_dir` when `None`.
    pub volume_pool: Option<String>,
    /// Source of boot ids.
    pub entropy: Entropy,
}

/// The platform's own registry as seen from this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnRegistry {
    /// Host and port, e.g. `127.0.0.1:7420`.
    pub host: String,
    /// Password it takes. Never printed.
    pub token: String,
    /// It is spoken to without TLS although it is not on loopback.
    pub plain_http: bool,
}

impl fmt::Debug for OwnRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnRegistry({}, token hidden)", self.host)
    }
}

impl Config {
    /// Settings with nothing special: own image store, cleaned by the agent,
    /// strongest isolation.
    pub fn new(data_dir: PathBuf, helix_exe: PathBuf, own_registries: Vec<OwnRegistry>) -> Config {
        Config {
            data_dir,
            helix_exe,
            isolation: None,
            own_registries,
            image_dir: None,
            image_dir_is_registrys: false,
            registries: Transport::default(),
            disk: DiskLimits::default(),
            volume_pool: None,
            entropy: Arc::new(|| ulid::Ulid::new().random()),
        }
    }

    pub(crate) fn image_dir(&self) -> PathBuf {
        self.image_dir.clone().unwrap_or_else(|| self.data_dir.join("images"))
    }

    pub(crate) fn plan_path(&self) -> PathBuf {
        self.data_dir.join("plan.json")
    }

    pub(crate) fn images_used_path(&self) -> PathBuf {
        self.data_dir.join("images-used.json")
    }

    pub(crate) fn instances_dir(&self) -> PathBuf {
        self.data_dir.join("instances")
    }

    pub(crate) fn instance_dir(&self, id: Id<Instance>) -> PathBuf {
        self.instances_dir().join(id.to_string())
    }
}
