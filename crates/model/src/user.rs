//! Users: people, known to the whole installation by one name.
//!
//! What proves that someone is a user (the hash of a password) and how to reach
//! them are personal and never here: they are in the sealed table.

use serde::{Deserialize, Serialize};

use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, Timestamp};

/// What is desired of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Whether they run the installation: every org, every node.
    pub operator: bool,
}

/// What is known of a user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// When they last chose a password; without one nobody can log in as them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_set_at: Option<Timestamp>,
}

impl Noun for User {
    const KIND: Kind = Kind::User;
    type Status = Status;
}

/// Command: make a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub name: Name,
    pub operator: bool,
}

/// Command: let a user run the installation, or no longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetOperator {
    pub user: Id<User>,
    pub operator: bool,
}

/// Event: a user was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<User>,
    pub name: Name,
    pub operator: bool,
}

/// Event: a user may run the installation, or no longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorChanged {
    pub id: Id<User>,
    pub operator: bool,
}

/// Event: a user chose a password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PasswordChanged {
    pub id: Id<User>,
}

/// Event: a user is gone; their memberships and tokens went before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    pub id: Id<User>,
    pub name: Name,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let spec = User { operator: self.operator };
        state.users.insert(change.create(self.id, self.name.clone(), None, spec));
    }
}

impl Apply for OperatorChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.users.update(self.id, |user| {
            user.spec.operator = self.operator;
            change.touch(user);
        });
    }
}

impl Apply for PasswordChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.users.update(self.id, |user| {
            user.status.password_set_at = Some(change.at);
            change.touch(user);
        });
    }
}

impl Apply for Removed {
    fn apply(&self, state: &mut State, _change: Change) {
        state.users.remove(self.id);
    }
}
