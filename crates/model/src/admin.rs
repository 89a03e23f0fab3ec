//! What an operator asks of a whole installation, and its answers on the wire.
//!
//! Start anywhere: each type is the answer of one route. They say nothing of how
//! logs and keys are stored.

use serde::{Deserialize, Serialize};

/// `GET /v1/audit/verify`: whether both logs are as they were written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditVerdict {
    /// Both are.
    pub intact: bool,
    pub events: LogVerdict,
    pub audit: LogVerdict,
}

/// Whether one log's hash chain holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogVerdict {
    pub intact: bool,
    /// The last position; the first broken one when not intact.
    pub position: u64,
    /// The last entry's hash, lower-case hex. Keep it elsewhere: the chain alone
    /// cannot show that newest entries were cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    pub message: String,
}

/// `GET /v1/admin/verify-state`: whether the state is what the log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StateVerdict {
    pub same: bool,
    pub position: u64,
    pub message: String,
}

/// `POST /v1/admin/keys/rotate` and `POST /v1/admin/keys/retire`: which keys the
/// sealed records are under now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyChange {
    /// The id of the key that seals.
    pub active: String,
    /// How many records were put under it.
    pub rewrapped: u64,
    /// Ids of the keys that were removed from the key file: nothing is under
    /// them any more.
    pub retired: Vec<String>,
    /// Ids of older keys that are still in the file.
    pub kept: Vec<String>,
}

/// `GET /v1/admin/retention`: how long history is kept in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Retention {
    /// `None`: for ever.
    pub keep_events_seconds: Option<u64>,
    pub keep_audit_seconds: Option<u64>,
    /// The last position of the event log that is in the archive; 0 when none.
    pub events_archived: u64,
    pub audit_archived: u64,
}

/// `POST /v1/admin/retention`: what one run moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RetentionRun {
    pub events_archived: u64,
    pub audit_archived: u64,
    pub receipts_forgotten: u64,
}

/// What `helix admin import` brought into an installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub events: u64,
    /// Entries of the audit log.
    pub audit: u64,
    pub receipts: u64,
    pub sealed: u64,
}
