//! Envs: where an app runs (production, staging, a preview).
//!
//! An env owns an address, desires one release and says how many instances each
//! process should have.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::event::Apply;
use crate::state::{Change, State};
use crate::{App, Deploy, Id, Kind, Name, Noun, Org, Release};

/// What is desired of an env.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Env {
    pub org: Id<Org>,
    pub app: Id<App>,
    /// The env's own IPv6 address; endpoints bind any port on it.
    pub address: Ipv6Addr,
    /// The release the last deploy asked for. A failed deploy leaves it here,
    /// so that desired and current can be seen to differ.
    pub release: Option<Id<Release>>,
    /// The deploy that is still rolling, if any.
    pub rolling: Option<Id<Deploy>>,
    /// Instance counts that a person set; they win over the manifest's.
    pub scale: BTreeMap<Name, u32>,
}

/// What is known of an env.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The release of the last deploy that succeeded: what should be serving.
    pub release: Option<Id<Release>>,
    /// How many deploys there have been.
    pub deploys: u64,
    /// How many instances there have been, per process.
    pub instances: BTreeMap<Name, u64>,
}

impl Noun for Env {
    const KIND: Kind = Kind::Env;
    type Status = Status;
}

/// Command: make an env.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub app: Id<App>,
    pub name: Name,
}

/// Command: set how many instances processes should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    pub env: Id<Env>,
    pub processes: BTreeMap<Name, u32>,
}

/// Event: an env was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Env>,
    pub org: Id<Org>,
    pub app: Id<App>,
    pub name: Name,
    pub address: Ipv6Addr,
}

/// Event: instance counts were set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    pub id: Id<Env>,
    pub processes: BTreeMap<Name, u32>,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let spec = Env {
            org: self.org,
            app: self.app,
            address: self.address,
            release: None,
            rolling: None,
            scale: BTreeMap::new(),
        };
        state.envs_created += 1;
        let parent = Some(self.app.any());
        state.envs.insert(change.create(self.id, self.name.clone(), parent, spec));
    }
}

impl Apply for Scaled {
    fn apply(&self, state: &mut State, change: Change) {
        state.envs.update(self.id, |env| {
            env.spec.scale.extend(self.processes.clone());
            change.touch(env);
        });
    }
}
