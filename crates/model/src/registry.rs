//! Logins of orgs at registries: which there are, never with what password. Those
//! are sealed records, which events and the state name and do not have.

use serde::{Deserialize, Serialize};

use crate::bundle::VersionId;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Org};

/// Logins one org may have. Each is looked for at every release.
pub const LOGINS_MAX: usize = 20;

/// Longest host and port there is: a DNS name, a colon and a port.
pub const HOST_BYTES_MAX: usize = 261;

/// Longest user name and password: tokens of clouds reach some kilobytes.
pub const USERNAME_BYTES_MAX: usize = 1024;
pub const PASSWORD_BYTES_MAX: usize = 16 * 1024;

/// What is known of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub username: String,
    /// The sealed record with the password.
    pub record: VersionId,
}

/// Command: an org logs in at a registry with this from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetLogin {
    pub org: Id<Org>,
    pub host: String,
    pub login: Login,
}

/// Command: an org logs in there no longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoveLogin {
    pub org: Id<Org>,
    pub host: String,
}

/// Event: a login was set, in place of the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoginSet {
    pub org: Id<Org>,
    pub host: String,
    #[serde(flatten)]
    pub login: Login,
}

/// Event: a login was removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoginRemoved {
    pub org: Id<Org>,
    pub host: String,
}

impl Apply for LoginSet {
    fn apply(&self, state: &mut State, change: Change) {
        state.orgs.update(self.org, |org| {
            org.spec.registries.insert(self.host.clone(), self.login.clone());
            change.touch(org);
        });
    }
}

impl Apply for LoginRemoved {
    fn apply(&self, state: &mut State, change: Change) {
        state.orgs.update(self.org, |org| {
            org.spec.registries.remove(&self.host);
            change.touch(org);
        });
    }
}

/// Whether it is a host as image references name one: `ghcr.io`,
/// `registry.internal:5000`, `[fd00::1]:5000`.
pub fn is_host(text: &str) -> bool {
    let known =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    !text.is_empty() && text.len() <= HOST_BYTES_MAX && text.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_as_references_name_them() {
        for host in ["ghcr.io", "localhost:5000", "[fd00::1]:5000", "docker.io"] {
            assert!(is_host(host), "{host}");
        }
        for text in ["", "https://ghcr.io", "ghcr.io/acme", "GHCR.io", "a b", &"a".repeat(300)] {
            assert!(!is_host(text), "{text}");
        }
    }
}
