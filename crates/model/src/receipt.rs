//! Receipts: what every mutation answers with.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Actor, AnyId, Kind, Timestamp};

/// Proof that a change was accepted and is in the log.
///
/// It never claims that the change has taken effect; `next` names what to wait
/// for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Receipt {
    /// `rcpt_` and the log position, so it can be found again.
    pub id: String,
    pub operation: String,
    /// The log position of the last event of the change.
    pub position: u64,
    pub at: Timestamp,
    pub actor: Actor,
    pub request_id: String,
    /// What the change is chiefly about.
    pub subject: Option<Affected>,
    /// Everything made or changed.
    pub affected: Vec<Affected>,
    /// What is now desired of the subject.
    pub desired: Value,
    /// What is known of it so far.
    pub current: Value,
    /// What the change has brought near a limit, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Commands that make sense next.
    pub next: Vec<String>,
}

/// A resource named in a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Affected {
    pub kind: Kind,
    pub id: AnyId,
    pub path: String,
}
