//! Permissions: what a caller may do, written as scopes such as `deploys:write`.
//!
//! [`Permission`] is the closed list, [`Permissions`] a set of them, [`Role`]
//! the named sets that members have. One parser serves the API, the command
//! line and the state. That an org bounds them all is not known here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Kind;

macro_rules! permissions {
    ($($variant:ident = $text:literal, $meaning:literal;)*) => {
        /// One thing that may be allowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission {
            $(#[doc = $meaning] $variant,)*
        }

        impl Permission {
            /// Every permission.
            pub const ALL: &'static [Permission] = &[$(Permission::$variant,)*];

            /// The scope as people write it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Permission::$variant => $text,)* }
            }

            /// What it allows, in a few words.
            pub const fn meaning(self) -> &'static str {
                match self { $(Permission::$variant => $meaning,)* }
            }
        }
    };
}

permissions! {
    OrgsRead = "orgs:read", "see the org, its members and its service tokens";
    OrgsAdmin = "orgs:admin", "manage members and service tokens";
    OrgsOwn = "orgs:own", "make and remove owners, destroy the org";
    AppsRead = "apps:read", "see projects and apps";
    AppsWrite = "apps:write", "make and destroy projects and apps";
    EnvsRead = "envs:read", "see envs, deploys and instances";
    EnvsWrite = "envs:write", "make, scale and destroy envs";
    ReleasesRead = "releases:read", "see releases and pull their images";
    ReleasesWrite = "releases:write", "push images";
    DeploysWrite = "deploys:write", "deploy";
    RollbacksWrite = "rollbacks:write", "roll back";
    EndpointsRead = "endpoints:read", "see endpoints, certificates and domains";
    EndpointsWrite = "endpoints:write", "change what is reachable, and its certificates and domains";
    TunnelsRead = "tunnels:read", "see tunnels";
    TunnelsWrite = "tunnels:write", "offer programs by tunnels, reserve and destroy tunnels";
    TunnelsAdmin = "tunnels:admin", "take tunnels out of use, and take those of others over";
    VolumesRead = "volumes:read", "see volumes";
    VolumesWrite = "volumes:write", "change volumes";
    SecretsReadMetadata = "secrets:read-metadata", "see which secrets there are";
    SecretsWrite = "secrets:write", "set secrets";
    SecretsReadMaterial = "secrets:read-material", "read secrets; in no role";
    LogsRead = "logs:read", "read what programs print";
    ExecWrite = "exec:write", "run commands inside instances";
    AuditRead = "audit:read", "read the org's audit trail";
    BillingRead = "billing:read", "see usage and quotas";
    BillingWrite = "billing:write", "change what is paid for";
    NodesLink = "nodes:link", "link nodes and edges, which pull the images of every org";
    NodesAdmin = "nodes:admin", "run the installation; operators only";
}

/// Longest scope there is, with room to grow: what is longer is not looked at.
const SCOPE_BYTES_MAX: usize = 64;

impl Permission {
    /// What one needs to see a resource of this kind.
    pub const fn to_read(kind: Kind) -> Permission {
        match kind {
            Kind::Org | Kind::Member | Kind::Token => Permission::OrgsRead,
            Kind::Project | Kind::App => Permission::AppsRead,
            Kind::Env | Kind::Deploy | Kind::Instance => Permission::EnvsRead,
            Kind::Release => Permission::ReleasesRead,
            Kind::Endpoint | Kind::Certificate | Kind::Domain => Permission::EndpointsRead,
            Kind::Tunnel => Permission::TunnelsRead,
            Kind::Bundle => Permission::SecretsReadMetadata,
            Kind::Volume | Kind::Snapshot => Permission::VolumesRead,
            // Members and owners see their own in any case.
            Kind::Node | Kind::Edge | Kind::User => Permission::NodesAdmin,
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scope: scopes look like `deploys:write`")]
pub struct PermissionError(pub String);

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, PermissionError> {
        let known = (text.len() <= SCOPE_BYTES_MAX)
            .then(|| Permission::ALL.iter().find(|known| known.as_str() == text))
            .flatten();
        known.copied().ok_or_else(|| PermissionError(text.chars().take(SCOPE_BYTES_MAX).collect()))
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u64);

impl Permissions {
    /// Nothing.
    pub const NONE: Permissions = Permissions(0);
    /// Everything, also what no role has.
    pub const ALL: Permissions = Permissions::of(Permission::ALL);

    /// The set of these.
    pub const fn of(list: &[Permission]) -> Permissions {
        let mut bits = 0;
        let mut index = 0;
        while index < list.len() {
            bits |= 1 << list[index] as u64;
            index += 1;
        }
        Permissions(bits)
    }

    /// Whether this one is in it.
    pub const fn contains(self, one: Permission) -> bool {
        self.0 & (1 << one as u64) != 0
    }

    /// Those of either.
    #[must_use]
    pub const fn union(self, other: Permissions) -> Permissions {
        Permissions(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub const fn intersection(self, other: Permissions) -> Permissions {
        Permissions(self.0 & other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the other has all of these.
    pub const fn is_within(self, other: Permissions) -> bool {
        self.0 & !other.0 == 0
    }

    /// Each of them, in the order of the list.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |one| self.contains(*one))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<T: IntoIterator<Item = Permission>>(iter: T) -> Self {
        iter.into_iter().fold(Permissions::NONE, |set, one| set.union(Permissions::of(&[one])))
    }
}

/// As a list of scopes.
impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Permission::as_str))
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| text.parse::<Permission>())
            .collect::<Result<_, _>>()
            .map_err(de::Error::custom)
    }
}

/// What a member of an org is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Readonly,
    Developer,
    Admin,
    Owner,
}

const READONLY: Permissions = Permissions::of(&[
    Permission::OrgsRead,
    Permission::AppsRead,
    Permission::EnvsRead,
    Permission::ReleasesRead,
    Permission::EndpointsRead,
    Permission::TunnelsRead,
    Permission::VolumesRead,
    Permission::SecretsReadMetadata,
    Permission::LogsRead,
    Permission::BillingRead,
]);

const DEVELOPER: Permissions = READONLY.union(Permissions::of(&[
    Permission::AppsWrite,
    Permission::EnvsWrite,
    Permission::ReleasesWrite,
    Permission::DeploysWrite,
    Permission::RollbacksWrite,
    Permission::EndpointsWrite,
    Permission::TunnelsWrite,
    Permission::VolumesWrite,
    Permission::SecretsWrite,
    Permission::ExecWrite,
]));

const ADMIN: Permissions = DEVELOPER.union(Permissions::of(&[
    Permission::OrgsAdmin,
    Permission::TunnelsAdmin,
    Permission::AuditRead,
    Permission::BillingWrite,
]));

const OWNER: Permissions = ADMIN.union(Permissions::of(&[Permission::OrgsOwn]));

impl Role {
    /// Every role, the weakest first.
    pub const ALL: [Role; 4] = [Role::Readonly, Role::Developer, Role::Admin, Role::Owner];

    /// The role as people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Readonly => "readonly",
            Role::Developer => "developer",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }

    /// What it allows in its org.
    pub const fn permissions(self) -> Permissions {
        match self {
            Role::Readonly => READONLY,
            Role::Developer => DEVELOPER,
            Role::Admin => ADMIN,
            Role::Owner => OWNER,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role: use one of readonly, developer, admin, owner")]
pub struct RoleError(pub String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let known = Role::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| RoleError(text.chars().take(SCOPE_BYTES_MAX).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_round_trips_and_nothing_else_is_one() {
        for one in Permission::ALL {
            assert_eq!(one.as_str().parse::<Permission>().unwrap(), *one);
        }
        for bad in ["", "deploys", "deploys:", "Deploys:write", "deploys:write ", "*", "admin"] {
            assert!(bad.parse::<Permission>().is_err(), "{bad}");
        }
        let all = serde_json::to_string(&Permissions::ALL).unwrap();
        assert_eq!(serde_json::from_str::<Permissions>(&all).unwrap(), Permissions::ALL);
    }

    #[test]
    fn each_role_has_all_of_the_one_below_and_none_reads_secrets_or_runs_the_installation() {
        for pair in Role::ALL.windows(2) {
            assert!(pair[0].permissions().is_within(pair[1].permissions()));
            assert_ne!(pair[0].permissions(), pair[1].permissions());
        }
        let owner = Role::Owner.permissions();
        assert!(!owner.contains(Permission::SecretsReadMaterial));
        assert!(!owner.contains(Permission::NodesAdmin) && !owner.contains(Permission::NodesLink));
        assert!(!Role::Readonly.permissions().contains(Permission::ExecWrite));
    }
}
