//! Tunnels without a login: whether the installation allows them, and what they are then.
//!
//! An operator settles it with `--anonymous-tunnels`. What is had so is in an org of its own,
//! whose quota bounds it; nobody is a member there, so only operators see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Owner;
use crate::event::{Actor, Apply};
use crate::state::{Change, State};
use crate::{Id, Org};

/// What their org is called, unless somebody has the name; and who asked for them.
pub const ANONYMOUS: &str = "anonymous";

/// How many there may be at first: enough for a try, too few to live on. `helix quotas set`
/// changes it.
pub const ANONYMOUS_MAX: u64 = 100;

/// How long such a name is kept without an agent: a lunch break.
pub const ANONYMOUS_KEPT_FOR: Duration = Duration::from_secs(60 * 60);

/// How it is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anonymous {
    pub allowed: bool,
    /// Where they are; absent until they were allowed for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Id<Org>>,
}

impl Anonymous {
    /// Where they are made, if they may be.
    pub fn open(self) -> Option<Id<Org>> {
        self.org.filter(|_| self.allowed)
    }
}

impl Owner {
    /// Whoever asked without a login: no two of them are told apart.
    pub fn anonymous() -> Owner {
        // Tokens of orgs have a `/` in their names, so that none is mistaken for it.
        Owner { actor: Actor::Token(ANONYMOUS.to_owned()), id: None }
    }
}

/// Command: they are allowed from now on, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAnonymous {
    pub allowed: bool,
}

/// Event: it was settled anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnonymousSet {
    #[serde(flatten)]
    pub settled: Anonymous,
}

impl Apply for AnonymousSet {
    fn apply(&self, state: &mut State, _change: Change) {
        state.anonymous_tunnels = self.settled;
    }
}
