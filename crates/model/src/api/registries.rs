//! Bodies of what an org logs in at registries with, and of what it demands of its
//! releases.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::policy::Policy;

/// `POST /v1/registries`.
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryRequest {
    /// The registry, as references name it: `ghcr.io`, `registry.internal:5000`.
    pub host: String,
    pub username: String,
    /// Kept sealed and never shown.
    pub password: String,
}

impl fmt::Debug for RegistryRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryRequest({}, {}, password hidden)", self.host, self.username)
    }
}

/// `GET /v1/registries`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RegistryReport {
    pub items: Vec<RegistryLogin>,
    pub position: u64,
}

/// A login, without its password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RegistryLogin {
    pub host: String,
    pub username: String,
}

/// `GET /v1/policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PolicyReport {
    pub policy: Policy,
    pub position: u64,
}
