//! Requests about endpoints.

use serde::{Deserialize, Serialize};

use crate::manifest::AskedEndpoint;

/// `POST /v1/envs/{env}/endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExposeRequest {
    /// As in `[[endpoints]]` of a manifest.
    pub endpoint: AskedEndpoint,
    /// Change the one of this name instead of making one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// Refuse unless the env is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}
