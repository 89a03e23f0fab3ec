//! The bodies of the API about secrets. Values go in and never come out.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::Timestamp;

/// Text that is secret: shown by nothing, wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text itself. Keep it as briefly as its use allows.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> SecretText {
        SecretText(Zeroizing::new(text))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(hidden)")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(SecretText::from)
    }
}

/// `PATCH /v1/envs/{env}/secrets`: what to change, all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretsRequest {
    /// Text by key; bytes that are no text are given in `file`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub values: BTreeMap<String, SecretText>,
    /// A whole file of secrets, as docs/secrets.md describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub file: Option<SecretText>,
    /// Keys to take out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    /// Nothing that is not named stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// Wait for the next release, or for being applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stage: bool,
    /// Refuse unless the bundle is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/envs/{env}/secrets/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretsRollbackRequest {
    /// The version to go back to; the last one with other values when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Refuse unless the bundle is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/envs/{env}/secrets/apply`, `…/discard` and `…/confirm-none`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretsStepRequest {
    /// Refuse unless the bundle is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `GET /v1/envs/{env}/secrets`: what there is, without a single value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecretsReport {
    /// The env's path.
    pub env: String,
    /// What `expected_version` compares with; absent before anything was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Somebody said that the env needs none.
    pub confirmed_none: bool,
    /// The number of the version that instances should have.
    pub desired: Option<u64>,
    /// The one that the last successful deploy gave them.
    pub applied: Option<u64>,
    /// The one that waits.
    pub staged: Option<u64>,
    /// Why instances do not have what is desired, in a sentence; absent when they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
    /// Those that are kept, the newest first.
    pub versions: Vec<SecretsVersion>,
    pub position: u64,
}

/// One version of an env's secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecretsVersion {
    pub number: u64,
    pub id: String,
    /// Of the values, under a key of the installation: the same for the same values
    /// in the same env.
    pub hash: String,
    /// How many bytes each value has.
    pub keys: BTreeMap<String, u64>,
    /// How many bytes the whole file has.
    pub bytes: u64,
    pub made_at: Timestamp,
    /// The version whose values it has, where it was made by going back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<u64>,
}

impl SecretsReport {
    /// A version by its number, if it is kept.
    pub fn version_of(&self, number: u64) -> Option<&SecretsVersion> {
        self.versions.iter().find(|version| version.number == number)
    }
}
