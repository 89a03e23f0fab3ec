//! `slot.json`: what the agent must remember of an instance while it is not
//! running itself, and what logs are labelled with once the instance is gone.

use std::path::Path;

use helix_model::Name;
use helix_model::instance::Exit;
use helix_model::plan::InstancePlan;
use serde::{Deserialize, Serialize};

use crate::error::NodeError;
use crate::files;

/// File name inside an instance directory.
const FILE: &str = "slot.json";

/// The agent's memory of one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// The instance's name.
    pub(crate) name: Name,
    /// The process it runs.
    pub(crate) process: Name,
    /// Its number among the machine's private IPv4 addresses; `None` where
    /// isolation gives it none.
    #[serde(default)]
    pub(crate) ipv4_slot: Option<u16>,
    /// How often its program was started again.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// How its program last ended.
    #[serde(default)]
    pub(crate) exit: Option<Exit>,
    /// Whether it was serving.
    #[serde(default)]
    pub(crate) ready: bool,
    /// When it was stopped for good, Unix milliseconds. Its directory is then
    /// kept for its logs only.
    #[serde(default)]
    pub(crate) gone_at_ms: Option<i64>,
}

impl Slot {
    pub(crate) fn new(plan: &InstancePlan) -> Slot {
        Slot {
            name: plan.name.clone(),
            process: plan.process.clone(),
            ipv4_slot: None,
            restarts: 0,
            exit: None,
            ready: false,
            gone_at_ms: None,
        }
    }

    /// Reads the slot of the instance in `dir`. A garbled one is as good as
    /// none: everything in it can be had anew.
    pub(crate) fn load(dir: &Path) -> Option<Slot> {
        files::load(&dir.join(FILE)).unwrap_or_else(|error| {
            tracing::warn!(dir = %dir.display(), %error, "ignoring an unreadable slot");
            None
        })
    }

    pub(crate) fn store(&self, dir: &Path) -> Result<(), NodeError> {
        files::store(&dir.join(FILE), self)
    }
}
