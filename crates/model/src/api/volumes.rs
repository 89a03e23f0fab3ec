//! Bodies of what makes volumes and lets them grow.

use serde::{Deserialize, Serialize};

use crate::Name;

/// `POST /v1/volumes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeRequest {
    pub name: Name,
    /// From 1 GiB to 16 TiB; with `from` that of the snapshot when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// A snapshot it is made from; empty when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
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

/// `POST /v1/volumes/{volume}/backups`: when it is backed up without anybody asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupsRequest {
    /// From one to the next; no longer at all when absent.
    #[serde(default)]
    pub every_seconds: Option<u64>,
    /// How many are kept, the newest; 14 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Refuse unless the volume is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/snapshots`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// Of which volume.
    pub volume: String,
    /// Unique in the org; `VOLUME-NUMBER` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// For how long writers may be made to wait, at most 10 minutes; 2000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_max_ms: Option<u64>,
    /// Whether it is to be kept in the installation's store of backups, not on the node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
}
