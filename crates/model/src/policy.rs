//! What an org demands of the images it releases.

use serde::{Deserialize, Serialize};

use crate::api::OWN_REGISTRY;
use crate::event::Apply;
use crate::release::Image;
use crate::state::{Change, State};
use crate::{Id, Org};

/// Entries a list may have.
pub const REGISTRIES_MAX: usize = 50;

/// Longest entry: a host and a repository.
pub const ENTRY_BYTES_MAX: usize = 512;

/// Rules for releases. What was released before they were made stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Where images may come from, as `ghcr.io` or `ghcr.io/acme`; anywhere when
    /// empty. What was built or pushed here always may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_registries: Vec<String>,
    /// Whether images must be named by digest: a tag may stand for something else
    /// tomorrow.
    #[serde(default)]
    pub require_digest: bool,
}

/// A rule that a release breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    AllowedRegistries,
    RequireDigest,
}

impl Rule {
    /// The rule as the API names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rule::AllowedRegistries => "allowed_registries",
            Rule::RequireDigest => "require_digest",
        }
    }
}

impl Policy {
    /// Whether it demands nothing.
    pub fn is_open(&self) -> bool {
        *self == Policy::default()
    }

    /// The first rule that an image breaks. `by_digest` is how it was asked for.
    pub fn broken_by(&self, image: &Image, by_digest: bool) -> Option<Rule> {
        let repository = image.repository.as_str();
        let is_within = |entry: &str| {
            repository
                .strip_prefix(entry)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_allowed = self.allowed_registries.is_empty()
            || is_within(OWN_REGISTRY)
            || self.allowed_registries.iter().any(|entry| is_within(entry));
        match (is_allowed, by_digest || !self.require_digest) {
            (false, _) => Some(Rule::AllowedRegistries),
            (true, false) => Some(Rule::RequireDigest),
            (true, true) => None,
        }
    }
}

/// Command: an org demands this from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetPolicy {
    pub org: Id<Org>,
    pub policy: Policy,
}

/// Event: what an org demands of its releases changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySet {
    pub org: Id<Org>,
    pub policy: Policy,
}

impl Apply for PolicySet {
    fn apply(&self, state: &mut State, change: Change) {
        state.orgs.update(self.org, |org| {
            org.spec.policy = self.policy.clone();
            change.touch(org);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(entries: &[&str], repository: &str) -> Option<Rule> {
        let allowed_registries = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let policy = Policy { allowed_registries, require_digest: false };
        let image = Image { repository: repository.to_owned(), tag: None, digest: String::new() };
        policy.broken_by(&image, false)
    }

    #[test]
    fn an_entry_allows_what_is_below_it_and_no_namesake() {
        let rule = Some(Rule::AllowedRegistries);
        assert_eq!(broken(&[], "docker.io/library/nginx"), None);
        assert_eq!(broken(&["ghcr.io"], "ghcr.io/acme/app"), None);
        assert_eq!(broken(&["ghcr.io/acme"], "ghcr.io/acme/app"), None);
        assert_eq!(broken(&["ghcr.io/acme"], "ghcr.io/acme"), None);
        assert_eq!(broken(&["ghcr.io/acme"], "ghcr.io/acme-evil/app"), rule);
        assert_eq!(broken(&["ghcr.io"], "ghcr.io.evil.com/app"), rule);
        assert_eq!(broken(&["ghcr.io"], "docker.io/library/nginx"), rule);
        assert_eq!(broken(&["ghcr.io"], "helix.internal/acme/app"), None, "what is pushed here");
    }
}
