//! This machine's volumes: made, made larger, mounted, removed. Start at
//! [`Volumes`]; [`keep`] follows the plan.
//!
//! ```text
//! <data>/volumes/<id>/disk.img     the file system, with the loop driver; with lvm-thin
//!                                  it is in the operator's pool
//! <data>/volumes/<id>/mount/       where it is mounted while an instance has it
//! <data>/volumes/<id>/data/        what is in it, with the directory driver
//! <data>/volumes/<id>/volume.json  how large it was made
//! ```
//! Snapshots of them are taken by [`snapshots`].
//! Each step can be repeated, and is, after the agent was killed in the middle of
//! it. Data goes only when a plan names the volume as one to remove. It must not
//! know instances beyond who has a volume.

mod backup;
mod copy;
mod directory;
mod ext4;
mod keep;
mod loop_file;
mod lvm_thin;
mod mounts;
mod place;
mod pool;
mod snapshot;
mod snapshots;
mod tool;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use helix_model::node::VolumeFacts;
use helix_model::plan::{NodePlan, VolumePlan};
use helix_model::volume::{Observed, Phase};
use helix_model::{Id, Instance, Reason, Snapshot, Volume};
use helix_runtime::{InstanceSpec, Isolation};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::Config;
use crate::disk::{DiskLimits, Space};
use crate::error::NodeError;
use crate::files;
use crate::machine::chain;
use backup::Backups;
use place::Place;
use pool::Pool;
use snapshots::Snapshots;

pub(crate) use backup::Keeper;
pub use backup::{BackupKeeper, BackupRefusal};
pub(crate) use keep::keep;
pub(crate) use snapshots::keep_snapshots;

/// How volumes are kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// An ext4 file system in a thin volume each, in a pool of LVM.
    LvmThin(Pool),
    /// An ext4 file system in a file each.
    Loop,
    /// A directory each, whose size nobody limits.
    Directory,
}

impl Driver {
    fn as_str(&self) -> &'static str {
        match self {
            Driver::LvmThin(_) => "lvm-thin",
            Driver::Loop => "loop",
            Driver::Directory => "directory",
        }
    }

    /// Whether more than its size does not fit into a volume.
    fn enforces_size(&self) -> bool {
        !matches!(self, Driver::Directory)
    }
}

/// Why something could not be done with a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct VolumeFailure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl VolumeFailure {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> VolumeFailure {
        VolumeFailure { reason, message: message.into() }
    }

    /// What becomes of errors while something is done with a path.
    pub(crate) fn at<'p>(
        reason: Reason,
        verb: &'static str,
        path: &'p Path,
    ) -> impl Fn(&dyn std::fmt::Display) -> VolumeFailure + 'p {
        move |error| VolumeFailure::new(reason, format!("{verb} {}: {error}", path.display()))
    }
}

/// What is remembered of a volume beside its data.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Made {
    size_bytes: u64,
}

/// A snapshot that a volume is made from.
struct Source {
    snapshot: Id<Snapshot>,
    dir: PathBuf,
    sha256: String,
    /// Where it is to be had, when it is not on this machine.
    backups: Option<Arc<Backups>>,
}

impl Source {
    /// Writes what is in it to a new file. For a thread that may block.
    fn write_to(&self, file: &File) -> Result<(), VolumeFailure> {
        match &self.backups {
            None => snapshot::restore(&self.dir, &self.sha256, file),
            Some(backups) => tokio::runtime::Handle::current().block_on(backups.fetch(
                self.snapshot,
                &self.sha256,
                file,
            )),
        }
    }
}

/// The volumes of this machine.
pub(crate) struct Volumes {
    dir: PathBuf,
    /// `None` where no instance could see one.
    driver: Option<Driver>,
    /// Why this driver.
    why: String,
    /// How much of the disk may be used.
    limits: DiskLimits,
    plans: Mutex<HashMap<Id<Volume>, VolumePlan>>,
    /// Who has which: one at a time.
    users: Mutex<HashMap<Id<Volume>, Id<Instance>>>,
    /// Held while something is done with a volume.
    locks: Mutex<HashMap<Id<Volume>, Arc<tokio::sync::Mutex<()>>>>,
    board: watch::Sender<BTreeMap<Id<Volume>, Observed>>,
    snapshots: Snapshots,
    backups: Arc<Backups>,
}

impl Volumes {
    /// Finds out how volumes can be kept here.
    ///
    /// # Errors
    /// When they are to be kept in a pool that cannot be used.
    pub(crate) fn detect(config: &Config, isolation: Isolation) -> Result<Volumes, NodeError> {
        let pool = config.volume_pool.as_deref();
        let pool = pool.map(|named| pool_of(named, config.disk, isolation)).transpose()?;
        let (driver, why) = match isolation {
            _ if pool.is_some() => (pool.map(Driver::LvmThin), "a pool is named for it".to_owned()),
            Isolation::Process => (None, "a plain process sees no volume at a path".to_owned()),
            Isolation::ContainerRootless => {
                let why = "mounting a file system of its own needs root".to_owned();
                (Some(Driver::Directory), why)
            }
            Isolation::Container => match loop_file::unavailable() {
                None => (Some(Driver::Loop), "root, loop devices and e2fsprogs".to_owned()),
                Some(why) => (Some(Driver::Directory), why),
            },
        };
        let data_dir = &config.data_dir;
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.clone());
        Ok(Volumes {
            dir: data_dir.join("volumes"),
            snapshots: Snapshots::new(&data_dir),
            backups: Arc::new(Backups::new()),
            driver,
            why,
            limits: config.disk,
            plans: Mutex::default(),
            users: Mutex::default(),
            locks: Mutex::default(),
            board: watch::channel(BTreeMap::new()).0,
        })
    }

    /// What this machine says of its volumes.
    pub(crate) fn facts(&self) -> Option<VolumeFacts> {
        let driver = self.driver.as_ref()?;
        Some(VolumeFacts {
            driver: driver.as_str().to_owned(),
            size_enforced: driver.enforces_size(),
            reason: self.why.clone(),
            capacity_bytes: self.capacity_bytes(),
        })
    }

    /// What volumes have here already, and what more they may take.
    fn capacity_bytes(&self) -> u64 {
        if let Some(Driver::LvmThin(pool)) = &self.driver {
            return pool.capacity_bytes();
        }
        let place = self.dir.ancestors().find(|path| path.is_dir());
        let Some(space) = place.and_then(Space::of) else { return 0 };
        let more = self.limits.volume_bytes(space);
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let taken: u64 = entries.map(|entry| loop_file::allocated_bytes(&entry.path())).sum();
        more.saturating_add(taken)
    }

    /// What is seen of every volume, and changes of it.
    pub(crate) fn observations(&self) -> watch::Receiver<BTreeMap<Id<Volume>, Observed>> {
        self.board.subscribe()
    }

    /// Takes note of a plan, before anything is started for it.
    pub(crate) fn planned(&self, plan: &NodePlan) {
        let plans = plan.volumes.iter().map(|volume| (volume.id, volume.clone())).collect();
        *lock(&self.plans) = plans;
    }

    /// Notes that an instance which is here already has a volume.
    pub(crate) fn hold(&self, id: Id<Volume>, user: Id<Instance>) {
        lock(&self.users).insert(id, user);
    }

    /// Makes a volume ready for an instance; where what is in it can be found.
    pub(crate) async fn open(
        self: &Arc<Self>,
        id: Id<Volume>,
        user: Id<Instance>,
    ) -> Result<PathBuf, VolumeFailure> {
        let failed = |message: String| VolumeFailure::new(Reason::VolumeAttachFailed, message);
        let plan = lock(&self.plans).get(&id).cloned();
        let plan = plan.ok_or_else(|| failed(format!("volume {id} is not on this node")))?;
        if let Some(other) = lock(&self.users).get(&id).filter(|other| **other != user) {
            let message = format!("instance {other} has volume {id}");
            return Err(VolumeFailure::new(Reason::VolumeInUse, message));
        }
        self.hold(id, user);
        let from = self.source(&plan);
        self.with(id, move |driver, place| {
            match make(driver, place, &plan, from.as_ref()) {
                // The keeper says so, and tries again.
                Err(failure) if is_made(driver, place) && cannot_grow(&failure) => {
                    tracing::warn!(volume = %id, error = %failure, "used as large as it is");
                }
                made => made?,
            }
            match driver {
                Driver::LvmThin(pool) => lvm_thin::mount(place, pool),
                Driver::Loop => loop_file::mount(place),
                Driver::Directory => Ok(directory::data(place.dir())),
            }
        })
        .await
    }

    /// Gives a volume back that an instance had.
    pub(crate) async fn close(self: &Arc<Self>, id: Id<Volume>, user: Id<Instance>) {
        if lock(&self.users).get(&id).is_some_and(|other| *other != user) {
            return;
        }
        let closed = self
            .with(id, |driver, place| match driver {
                Driver::LvmThin(_) | Driver::Loop => ext4::unmount(place.dir()),
                Driver::Directory => Ok(()),
            })
            .await;
        if let Err(error) = closed {
            tracing::error!(volume = %id, %error, "cannot unmount a volume");
        }
        lock(&self.users).remove(&id);
    }

    /// Gives all of them back; for when the instances are stopped with the agent.
    pub(crate) async fn close_all(self: &Arc<Self>) {
        let all: Vec<_> = lock(&self.users).iter().map(|(id, user)| (*id, *user)).collect();
        for (id, user) in all {
            self.close(id, user).await;
        }
    }

    /// Makes a volume or makes it larger, and says how it is.
    async fn settle(self: &Arc<Self>, plan: VolumePlan) -> bool {
        let id = plan.id;
        let size_bytes = plan.size_bytes;
        if !plan.made && !self.board.borrow().contains_key(&id) {
            self.report(id, self.observed(id, Phase::Creating, None, None));
        }
        let from = self.source(&plan);
        let make = move |driver: &Driver, place: &Place| make(driver, place, &plan, from.as_ref());
        let made = self.with(id, make).await;
        match made {
            Ok(()) => self.report(id, self.observed(id, Phase::Available, Some(size_bytes), None)),
            Err(failure) => {
                tracing::warn!(volume = %id, error = %failure, "cannot make a volume");
                let made = self.board.borrow().get(&id).and_then(|known| known.size_bytes);
                // One that could not be made larger is what it was.
                let phase = match (failure.reason, made) {
                    (Reason::VolumeCreateFailed, Some(_)) => Phase::Available,
                    _ => Phase::Failed,
                };
                // The snapshot will be no better the next time.
                let is_final = failure.reason == Reason::IntegrityCheckFailed;
                self.report(id, self.observed(id, phase, made, Some(failure)));
                return is_final;
            }
        }
        true
    }

    /// Where the snapshot is that a volume is made from.
    fn source(&self, plan: &VolumePlan) -> Option<Source> {
        let source = plan.source.as_ref()?;
        Some(Source {
            snapshot: source.snapshot,
            dir: self.snapshots.place(source.snapshot),
            sha256: source.sha256.clone(),
            backups: source.backup.then(|| Arc::clone(&self.backups)),
        })
    }

    /// Removes a volume with what is in it.
    async fn remove(self: &Arc<Self>, id: Id<Volume>) -> bool {
        if lock(&self.users).contains_key(&id) {
            return false;
        }
        let removed = self
            .with(id, |driver, place| {
                let dir = place.dir();
                if *driver != Driver::Directory {
                    ext4::unmount(dir)?;
                }
                if let Driver::LvmThin(pool) = driver {
                    lvm_thin::remove(place, pool)?;
                }
                place.forget();
                match std::fs::remove_dir_all(dir) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        let message = format!("remove {}: {error}", dir.display());
                        Err(VolumeFailure::new(Reason::VolumeAttachFailed, message))
                    }
                    _ => Ok(()),
                }
            })
            .await;
        match removed {
            Ok(()) => {
                self.report(id, Observed { phase: Phase::Removed, ..Observed::default() });
                true
            }
            Err(failure) => {
                tracing::error!(volume = %id, error = %failure, "cannot remove a volume");
                let size = self.board.borrow().get(&id).and_then(|known| known.size_bytes);
                self.report(id, self.observed(id, Phase::Failed, size, Some(failure)));
                false
            }
        }
    }

    fn observed(
        &self,
        id: Id<Volume>,
        phase: Phase,
        size_bytes: Option<u64>,
        failure: Option<VolumeFailure>,
    ) -> Observed {
        let driver = self.driver_of(&self.place_of(id));
        Observed {
            phase,
            reason: failure.as_ref().map(|failure| failure.reason),
            message: failure.map(|failure| failure.message),
            driver: driver.as_ref().map(|driver| driver.as_str().to_owned()),
            size_enforced: driver.is_some_and(|driver| driver.enforces_size()),
            size_bytes,
        }
    }

    fn place_of(&self, id: Id<Volume>) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// How one volume is kept: one that is in a file already stays there when a pool is
    /// named later.
    fn driver_of(&self, dir: &Path) -> Option<Driver> {
        match &self.driver {
            Some(Driver::LvmThin(_)) if loop_file::exists(dir) => Some(Driver::Loop),
            driver => driver.clone(),
        }
    }

    fn report(&self, id: Id<Volume>, observed: Observed) {
        self.board.send_if_modified(|board| {
            let is_news = board.get(&id) != Some(&observed);
            board.insert(id, observed);
            is_news
        });
    }

    /// Does something slow with a volume, one thing at a time.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        id: Id<Volume>,
        work: impl FnOnce(&Driver, &Place) -> Result<T, VolumeFailure> + Send + 'static,
    ) -> Result<T, VolumeFailure> {
        let failed = |message: &str| VolumeFailure::new(Reason::VolumeAttachFailed, message);
        let dir = self.place_of(id);
        let driver = self.driver_of(&dir).ok_or_else(|| failed(&self.why))?;
        let held = Arc::clone(lock(&self.locks).entry(id).or_default());
        let _held = held.lock().await;
        let working = tokio::task::spawn_blocking(move || {
            let place = Place::hold(dir).map_err(|error| {
                let message = format!("lock the place of the volume: {error}");
                VolumeFailure::new(Reason::VolumeAttachFailed, message)
            })?;
            work(&driver, &place)
        });
        working.await.map_err(|error| failed(&error.to_string()))?
    }
}

/// The volumes that the instance of a directory was started with.
pub(crate) fn of_instance(dir: &Path) -> Vec<Id<Volume>> {
    let mounts = InstanceSpec::load(dir).map(|spec| spec.mounts).unwrap_or_default();
    // `<data>/volumes/<id>/…`: no other part of the path is an id.
    let id = |mount: &helix_runtime::Mount| {
        mount.source.components().rev().find_map(|part| part.as_os_str().to_str()?.parse().ok())
    };
    mounts.iter().filter_map(id).collect()
}

/// Whether there is a volume, however large.
fn is_made(driver: &Driver, place: &Place) -> bool {
    let known = files::load::<Made>(&place.dir().join("volume.json"));
    driver.enforces_size()
        && exists(driver, place.dir()).unwrap_or_default()
        && matches!(known, Ok(Some(_)))
}

fn exists(driver: &Driver, dir: &Path) -> Result<bool, VolumeFailure> {
    match driver {
        Driver::LvmThin(pool) => lvm_thin::exists(pool, dir),
        Driver::Loop => Ok(loop_file::exists(dir)),
        Driver::Directory => Ok(directory::exists(dir)),
    }
}

/// Whether it was only not made larger: its program must not wait for that.
fn cannot_grow(failure: &VolumeFailure) -> bool {
    failure.reason == Reason::VolumeCreateFailed
}

/// Makes a volume, or makes it as large as it should be.
fn make(
    driver: &Driver,
    place: &Place,
    plan: &VolumePlan,
    from: Option<&Source>,
) -> Result<(), VolumeFailure> {
    let dir = place.dir();
    let failed = |error: &dyn std::fmt::Display| {
        VolumeFailure::new(Reason::VolumeCreateFailed, error.to_string())
    };
    let exists = exists(driver, dir)?;
    if !exists && plan.made {
        // A fresh one in its place would pass for the data that was there.
        let place = match driver {
            Driver::LvmThin(pool) => format!("in the pool {}", pool.path()),
            _ => format!("at {}", dir.display()),
        };
        let message = format!("what was in it is not {place} any more");
        return Err(VolumeFailure::new(Reason::VolumeDamaged, message));
    }
    let path = dir.join("volume.json");
    let made: Option<Made> = files::load(&path).map_err(|error| failed(&chain(&error)))?;
    if exists && made.is_some_and(|made| made.size_bytes >= plan.size_bytes) {
        return Ok(());
    }
    files::make_dir(dir).map_err(|error| failed(&chain(&error)))?;
    match (driver, from) {
        (Driver::LvmThin(pool), _) if exists => lvm_thin::grow(place, pool, plan.size_bytes)?,
        (Driver::LvmThin(pool), from) => {
            let write = from.map(|from| |file: &File| from.write_to(file));
            lvm_thin::create(place, pool, plan.size_bytes, write)?;
        }
        (Driver::Loop, _) if exists => loop_file::grow(place, plan.size_bytes)?,
        (Driver::Loop, None) => loop_file::create(place, plan.size_bytes)?,
        (Driver::Loop, Some(from)) => {
            loop_file::create_from(place, plan.size_bytes, |file| from.write_to(file))?;
        }
        (Driver::Directory, Some(_)) if !exists => {
            return Err(failed(&"a volume that is a plain directory is not made from a snapshot"));
        }
        (Driver::Directory, _) => directory::create(dir)?,
    }
    files::store(&path, &Made { size_bytes: plan.size_bytes })
        .map_err(|error| failed(&chain(&error)))
}

/// The pool that an operator has named.
fn pool_of(named: &str, limits: DiskLimits, isolation: Isolation) -> Result<Pool, NodeError> {
    if isolation != Isolation::Container {
        let reason = "mounting what is in it needs root and isolation `container`".to_owned();
        return Err(NodeError::Pool { pool: named.to_owned(), reason });
    }
    Pool::open(named, limits)
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
