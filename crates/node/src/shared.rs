//! What all actors of one agent share. Each part guards itself; nothing here
//! decides.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use helix_model::plan::InstancePlan;
use helix_model::{Id, Instance, Timestamp};
use tokio::time::Instant;

use crate::address::Slots;
use crate::board::Board;
use crate::config::Config;
use crate::disk::Disk;
use crate::egress::Egress;
use crate::images::Images;
use crate::lifecycle::Moment;
use crate::machine::Machine;
use crate::peers::Peers;
use crate::secrets::Secrets;
use crate::volume::Volumes;

/// Shared by the supervisor and every actor.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) images: Images,
    pub(crate) disk: Disk,
    pub(crate) board: Board,
    pub(crate) egress: Egress,
    pub(crate) peers: Peers,
    pub(crate) secrets: Secrets,
    pub(crate) volumes: Arc<Volumes>,
    slots: Mutex<Slots>,
    /// Plans of instances that exist here, those being stopped included.
    live: Mutex<HashMap<Id<Instance>, Arc<InstancePlan>>>,
    born: Instant,
}

/// What an actor is told to strive for; the latest counts.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    /// Make it run as planned, in the installation of this block.
    Run(Arc<InstancePlan>, Ipv6Addr),
    /// Stop and forget it.
    Stop,
    /// Stop it without a word: the agent is leaving and will start it again
    /// when it comes back.
    Rest,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        machine: Machine,
        images: Images,
        egress: Egress,
        peers: Peers,
        volumes: Volumes,
    ) -> Shared {
        let (secrets, disk) = (Secrets::of(&config.data_dir), Disk::of(&config));
        Shared {
            config,
            machine,
            images,
            disk,
            board: Board::new(),
            egress,
            peers,
            secrets,
            volumes: Arc::new(volumes),
            slots: Mutex::default(),
            live: Mutex::default(),
            born: Instant::now(),
        }
    }

    /// Time as the state machines count it.
    pub(crate) fn moment(&self) -> Moment {
        self.born.elapsed()
    }

    /// When a moment is, for the timer.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        self.born + moment
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, HashMap<Id<Instance>, Arc<InstancePlan>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id for one boot: sorts by time, and is never used twice.
    pub(crate) fn boot_id(&self) -> String {
        let at = u64::try_from(now().0).unwrap_or(0);
        ulid::Ulid::from_parts(at, (self.config.entropy)()).to_string()
    }
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(0).plus(since.unwrap_or(Duration::ZERO))
}
