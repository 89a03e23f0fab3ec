//! Bodies of what makes volumes and lets them grow.

use serde::{Deserialize, Serialize};

use crate::Name;

/// `POST /v1/volumes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeRequest {
    pub name: Name,
    /// From 1 GiB to 16 TiB.
    pub size_bytes: u64,
    /// The node that is to have it; only operators name one. Chosen with its first
    /// instance when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// `POST /v1/volumes/{volume}/resize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeRequest {
    /// No less than it has.
    pub size_bytes: u64,
    /// Refuse unless the volume is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}
