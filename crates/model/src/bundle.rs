//! Bundles: the secrets of an env, as far as they are no secret.
//!
//! A bundle has immutable versions; of each the state knows its keys, how long
//! the values are and a keyed hash of them. The values themselves are in the
//! sealed table, under the version's id, and never in an event.
//!
//! ```text
//!            set ──► desired ──► a deploy brings it to the instances
//! set --stage ──► staged ──► desired, by `apply` or with the next release
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

use crate::event::Apply;
use crate::secret_file::Key;
use crate::state::{Change, State};
use crate::token::Hash;
use crate::{Env, Id, Kind, Name, Noun, Org, Resource, Timestamp, env};

/// There is one bundle in an env, of this name.
pub const NAME: &str = "secrets";

/// How many versions can be gone back to. Those in use are kept in any case.
pub const VERSIONS_KEPT: usize = 10;

/// What is desired of an env's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub org: Id<Org>,
    pub env: Id<Env>,
    /// The number of the version that instances should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<u64>,
    /// The one that waits for the next deploy of a release, or for being applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<u64>,
    /// Somebody said that this env needs none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed_none: bool,
}

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The number of the last version there was.
    pub latest: u64,
    /// Those that are kept, the oldest first.
    pub versions: Vec<Version>,
}

impl Noun for Bundle {
    const KIND: Kind = Kind::Bundle;
    type Status = Status;
}

impl Resource<Bundle> {
    /// A version by its number, if it is kept.
    pub fn version_of(&self, number: u64) -> Option<&Version> {
        self.status.versions.iter().find(|version| version.pin.number == number)
    }

    /// The version that instances should have.
    pub fn desired(&self) -> Option<&Version> {
        self.version_of(self.spec.desired?)
    }

    /// The version that waits.
    pub fn staged(&self) -> Option<&Version> {
        self.version_of(self.spec.staged?)
    }
}

/// The bundle of an env.
pub fn of(state: &State, env: Id<Env>) -> Option<&Resource<Bundle>> {
    state.bundles.children(env.any()).next()
}

/// The id of one version, under which its values are sealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(Ulid);

/// What the ids of versions begin with.
const PREFIX: &str = "sec_";

impl VersionId {
    /// An id of this moment.
    pub fn new(at: Timestamp, entropy: u128) -> VersionId {
        VersionId(Ulid::from_parts(u64::try_from(at.0).unwrap_or(0), entropy))
    }

    /// When it was made, by the clock of whoever did.
    pub fn made_at(self) -> Timestamp {
        Timestamp(i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no id of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the id of a version of secrets")]
pub struct VersionIdError;

impl FromStr for VersionId {
    type Err = VersionIdError;

    fn from_str(text: &str) -> Result<Self, VersionIdError> {
        let ulid = text.strip_prefix(PREFIX).and_then(|rest| Ulid::from_string(rest).ok());
        // One value, one spelling: ids name records.
        ulid.map(VersionId).filter(|id| id.to_string() == text).ok_or(VersionIdError)
    }
}

impl Serialize for VersionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VersionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Which version something has: a deploy that brings it, an instance that runs
/// with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub number: u64,
    pub id: VersionId,
    /// Of the canonical file, under a key of the installation: two versions with
    /// the same are the same, and nobody can try out guesses against it.
    pub hash: Hash,
}

/// Whether instances that have one of these need not be replaced for the other.
pub fn is_same(one: Option<&Pin>, other: Option<&Pin>) -> bool {
    one.map(|pin| pin.hash) == other.map(|pin| pin.hash)
}

/// One version, without what it keeps secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    #[serde(flatten)]
    pub pin: Pin,
    /// How long each value is.
    pub keys: BTreeMap<Key, u64>,
    /// How long the canonical file is.
    pub bytes: u64,
    pub made_at: Timestamp,
    /// The version whose values it has, where it was made by going back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<u64>,
}

/// A version before it has a number. Its values are sealed already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    pub id: VersionId,
    pub hash: Hash,
    pub keys: BTreeMap<Key, u64>,
    pub bytes: u64,
}

/// Command: what becomes of the secrets of an env without another version of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", content = "env", rename_all = "snake_case")]
pub enum Step {
    /// The version that waits is desired.
    Apply(Id<Env>),
    /// The version that waits is given up.
    Discard(Id<Env>),
    /// The env needs none.
    ConfirmNone(Id<Env>),
}

impl Step {
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Step::Apply(_) => "apply_secrets",
            Step::Discard(_) => "discard_secrets",
            Step::ConfirmNone(_) => "confirm_no_secrets",
        }
    }
}

/// Command: give an env another version of its secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub env: Id<Env>,
    /// The last version there was when the draft was made from it; 0 for none.
    /// With another meanwhile the draft would undo what that one changed.
    pub base: u64,
    pub draft: Draft,
    /// Let it wait.
    pub stage: bool,
    pub restored_from: Option<u64>,
}

impl Set {
    pub(crate) fn operation(&self) -> &'static str {
        if self.restored_from.is_some() { "rollback_secrets" } else { "set_secrets" }
    }
}

/// Which bundle an event is about; it goes with its env, so it says where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    pub id: Id<Bundle>,
    pub name: Name,
    pub env: Id<Env>,
}

impl Of {
    /// The words for a bundle.
    pub fn new(bundle: &Resource<Bundle>) -> Of {
        Of { id: bundle.id, name: bundle.name.clone(), env: bundle.spec.env }
    }
}

/// Event: an env has a bundle from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Bundle>,
    pub name: Name,
    pub org: Id<Org>,
    pub env: Id<Env>,
}

/// Event: there is another version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionAdded {
    #[serde(flatten)]
    pub of: Of,
    pub version: Version,
    /// It waits; otherwise it is desired from now on.
    pub staged: bool,
    /// Versions that are not kept any longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<u64>,
}

/// Event: the version that waited is desired from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    #[serde(flatten)]
    pub of: Of,
    pub number: u64,
}

/// Event: the version that waited will not be waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discarded {
    #[serde(flatten)]
    pub of: Of,
    pub number: u64,
}

/// Event: somebody said that the env needs no secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfirmedNone {
    #[serde(flatten)]
    pub of: Of,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let Created { id, org, env, .. } = *self;
        let spec = Bundle { org, env, desired: None, staged: None, confirmed_none: false };
        let bundle = change.create(id, self.name.clone(), Some(env.any()), spec);
        state.bundles.insert(bundle);
    }
}

impl Apply for VersionAdded {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, &self.of, change, |bundle| {
            let number = self.version.pin.number;
            bundle.status.latest = number;
            bundle.status.versions.retain(|kept| !self.dropped.contains(&kept.pin.number));
            bundle.status.versions.push(self.version.clone());
            match self.staged {
                true => bundle.spec.staged = Some(number),
                false => desire(bundle, number),
            }
        });
    }
}

impl Apply for Applied {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, &self.of, change, |bundle| {
            bundle.spec.staged = None;
            desire(bundle, self.number);
        });
    }
}

impl Apply for Discarded {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, &self.of, change, |bundle| {
            bundle.spec.staged = None;
            bundle.status.versions.retain(|kept| kept.pin.number != self.number);
        });
    }
}

impl Apply for ConfirmedNone {
    fn apply(&self, state: &mut State, change: Change) {
        update(state, &self.of, change, |bundle| bundle.spec.confirmed_none = true);
    }
}

/// What was said of an env without secrets does not hold for one with some.
fn desire(bundle: &mut Resource<Bundle>, number: u64) {
    bundle.spec.desired = Some(number);
    if bundle.desired().is_some_and(|version| !version.keys.is_empty()) {
        bundle.spec.confirmed_none = false;
    }
}

fn update(state: &mut State, of: &Of, change: Change, what: impl FnOnce(&mut Resource<Bundle>)) {
    state.bundles.update(of.id, |bundle| {
        what(bundle);
        change.touch(bundle);
    });
    env::settle(state, of.env, change);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_version_has_one_spelling_and_tells_its_time() {
        let id = VersionId::new(Timestamp(1_700_000_000_123), 7);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.made_at(), Timestamp(1_700_000_000_123));
        for bad in ["", "sec_", "tok_01ARZ3NDEKTSV4RRFFQ69G5FAV", "sec_01arz3ndektsv4rrffq69g5fav"]
        {
            assert_eq!(bad.parse::<VersionId>(), Err(VersionIdError), "{bad}");
        }
    }
}
