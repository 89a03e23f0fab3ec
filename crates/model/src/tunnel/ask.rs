//! What may be asked of a tunnel.

use serde::{Deserialize, Serialize};

use super::{Attached, Key, Owner, Protocol, Seen};
use crate::edge::Linked;
use crate::{Edge, Id, Name, Org, Tunnel};

/// Command: something about tunnels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    Create(Create),
    /// Somebody wants one without a login. Only who has its recreate token knows the name of
    /// one that is there.
    CreateAnonymous {
        name: Option<Name>,
    },
    Set(Set),
    Observe(Observe),
    /// Take a name back that nobody has used for long (a reconciler's).
    Expire {
        tunnel: Id<Tunnel>,
    },
    /// An edge has not reported for long: nobody knows of an agent there any more (a
    /// reconciler's).
    Lose {
        edge: Id<Edge>,
    },
}

impl Ask {
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Ask::Create(_) | Ask::CreateAnonymous { .. } => "create_tunnel",
            Ask::Set(it) => it.operation(),
            Ask::Observe(_) => "observe_tunnel",
            Ask::Expire { .. } => "expire_tunnel",
            Ask::Lose { .. } => "lose_tunnels",
        }
    }
}

/// An owner wants a tunnel, or the one of theirs that has this name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub org: Id<Org>,
    pub owner: Owner,
    /// They may have what is another's of the same org.
    pub may_take_over: bool,
    pub protocol: Protocol,
    pub name: Option<Name>,
    /// A host of a domain of the org's own.
    pub hostname: Option<String>,
    pub port: Option<u16>,
    pub kept_for_seconds: u64,
}

/// Something about a tunnel is to be different.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub tunnel: Id<Tunnel>,
    pub change: Wish,
}

/// What is to be different.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Wish {
    /// The name is kept for good, or no longer.
    Reserve {
        reserved: bool,
    },
    /// Nothing goes through it, and nobody attaches.
    Disable {
        reason: String,
        by_operator: bool,
    },
    Enable {
        by_operator: bool,
    },
    /// No token that was given out before lets anybody in.
    Rotate,
    /// Its owner still wants it (an agent that refreshes its tokens).
    Keep {
        kept_for_seconds: u64,
    },
}

impl Set {
    fn operation(&self) -> &'static str {
        match self.change {
            Wish::Reserve { reserved: true } => "reserve_tunnel",
            Wish::Reserve { reserved: false } => "release_tunnel",
            Wish::Disable { .. } => "disable_tunnel",
            Wish::Enable { .. } => "enable_tunnel",
            Wish::Rotate => "rotate_tunnel",
            Wish::Keep { .. } => "keep_tunnel",
        }
    }
}

/// What an edge says of tunnels, as many of them as it has news of: an edge that starts
/// again has some of them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    pub from: Linked,
    pub told: Vec<Told>,
}

/// What an edge says of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub tunnel: Id<Tunnel>,
    pub seen: Seen,
    pub agent: Option<Attached>,
}

/// Command: tokens are signed by this key from now on, unless there is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetKey {
    pub key: Key,
}
