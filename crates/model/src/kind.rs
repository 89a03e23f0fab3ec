//! The resource kinds, declared in one place.
//!
//! [`Kind`] is the closed list; [`Noun`] ties a Rust type to its kind. What a
//! kind is called in ids, paths, routes and commands follows from the table
//! here, so that list, describe, events and wait need no code per kind.

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Resource;
use crate::condition::Facts;

/// A resource kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Org,
    Project,
    App,
    Env,
    Release,
    Deploy,
    Instance,
    Endpoint,
    Node,
    User,
    Member,
    Token,
    Bundle,
    Volume,
    Snapshot,
    Certificate,
    Edge,
    Domain,
    Tunnel,
}

impl Kind {
    /// Every kind, parents before children.
    pub const ALL: [Kind; 19] = [
        Kind::Org,
        Kind::Project,
        Kind::App,
        Kind::Env,
        Kind::Release,
        Kind::Deploy,
        Kind::Instance,
        Kind::Endpoint,
        Kind::Node,
        Kind::User,
        Kind::Member,
        Kind::Token,
        Kind::Bundle,
        Kind::Volume,
        Kind::Snapshot,
        Kind::Certificate,
        Kind::Edge,
        Kind::Domain,
        Kind::Tunnel,
    ];

    /// The singular noun, as in `helix describe app/hello`.
    pub const fn singular(self) -> &'static str {
        self.words().0
    }

    /// The plural noun, as in `helix apps list` and `/v1/apps`.
    pub const fn plural(self) -> &'static str {
        self.words().1
    }

    /// What ids of this kind begin with, before the underscore.
    pub const fn prefix(self) -> &'static str {
        self.words().2
    }

    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::Org => ("org", "orgs", "org"),
            Kind::Project => ("project", "projects", "prj"),
            Kind::App => ("app", "apps", "app"),
            Kind::Env => ("env", "envs", "env"),
            Kind::Release => ("release", "releases", "rel"),
            Kind::Deploy => ("deploy", "deploys", "dep"),
            Kind::Instance => ("instance", "instances", "ins"),
            Kind::Endpoint => ("endpoint", "endpoints", "end"),
            Kind::Node => ("node", "nodes", "nod"),
            Kind::User => ("user", "users", "usr"),
            Kind::Member => ("member", "members", "mem"),
            Kind::Token => ("token", "tokens", "tok"),
            Kind::Bundle => ("bundle", "bundles", "bun"),
            Kind::Volume => ("volume", "volumes", "vol"),
            Kind::Snapshot => ("snapshot", "snapshots", "snp"),
            Kind::Certificate => ("certificate", "certificates", "crt"),
            Kind::Edge => ("edge", "edges", "edg"),
            Kind::Domain => ("domain", "domains", "dom"),
            Kind::Tunnel => ("tunnel", "tunnels", "tun"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.singular())
    }
}

/// The text names no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a kind: use one of org, project, app, env, release, deploy, instance, endpoint, node, user, member, token, bundle, volume, snapshot, certificate, edge, domain, tunnel"
)]
pub struct KindError(pub String);

impl FromStr for Kind {
    type Err = KindError;

    /// Accepts the singular and the plural.
    fn from_str(text: &str) -> Result<Self, KindError> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.singular() == text || kind.plural() == text)
            .ok_or_else(|| KindError(text.chars().take(64).collect()))
    }
}

/// A resource type: what is desired of it, and what is known of it.
///
/// The type itself is the desired part (its spec); `Status` is the current
/// part, written only by observations.
pub trait Noun: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + 'static {
    /// The kind this type is.
    const KIND: Kind;
    /// What is currently known, as opposed to desired.
    type Status: Clone + fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned;

    /// The facts that follow from the resource alone. `None` for kinds whose
    /// facts follow from others; those are noted where the others change.
    fn facts(_resource: &Resource<Self>) -> Option<Facts> {
        Some(Facts::EXISTS)
    }
}
