//! Orgs: the one tenant boundary.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Apply;
use crate::policy::Policy;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, registry};

/// The org that every installation begins with, and the name of its first
/// project: what commands mean that name none.
pub const FIRST_NAME: &str = "default";

/// An org owns everything a tenant has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Org {
    /// Where it logs in to pull images, by host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registries: BTreeMap<String, registry::Login>,
    /// What it demands of releases.
    #[serde(default, skip_serializing_if = "Policy::is_open")]
    pub policy: Policy,
}

impl Noun for Org {
    const KIND: Kind = Kind::Org;
    type Status = ();
}

/// Command: make an org.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub name: Name,
}

/// Event: an org was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Org>,
    pub name: Name,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        state.orgs.insert(change.create(self.id, self.name.clone(), None, Org::default()));
    }
}
