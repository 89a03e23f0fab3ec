//! Members: which user is what in which org.

use serde::{Deserialize, Serialize};

use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, Org, Role, User};

/// A user in an org.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub org: Id<Org>,
    pub user: Id<User>,
    pub role: Role,
}

impl Noun for Member {
    const KIND: Kind = Kind::Member;
    type Status = ();
}

/// Command: make a user a member, or give a member another role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub org: Id<Org>,
    pub user: Id<User>,
    pub role: Role,
}

/// Event: a user became a member. The member goes by the user's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Added {
    pub id: Id<Member>,
    pub name: Name,
    #[serde(flatten)]
    pub spec: Member,
}

/// Which member an event is about; they come and go, so it says where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Which {
    pub id: Id<Member>,
    pub org: Id<Org>,
    pub name: Name,
}

/// Event: a member has another role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleChanged {
    #[serde(flatten)]
    pub of: Which,
    pub role: Role,
}

/// Event: a user is no longer a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    #[serde(flatten)]
    pub of: Which,
}

impl Apply for Added {
    fn apply(&self, state: &mut State, change: Change) {
        let Member { org, user, role } = self.spec;
        state.memberships.entry(user).or_default().insert(org, role);
        let parent = Some(org.any());
        state.members.insert(change.create(self.id, self.name.clone(), parent, self.spec.clone()));
    }
}

impl Apply for RoleChanged {
    fn apply(&self, state: &mut State, change: Change) {
        let Some(user) = state.members.get(self.of.id).map(|member| member.spec.user) else {
            return;
        };
        state.memberships.entry(user).or_default().insert(self.of.org, self.role);
        state.members.update(self.of.id, |member| {
            member.spec.role = self.role;
            change.touch(member);
        });
    }
}

impl Apply for Removed {
    fn apply(&self, state: &mut State, _change: Change) {
        let Some(user) = state.members.get(self.of.id).map(|member| member.spec.user) else {
            return;
        };
        let left = state.memberships.entry(user).or_default();
        left.remove(&self.of.org);
        if left.is_empty() {
            state.memberships.remove(&user);
        }
        state.members.remove(self.of.id);
    }
}
