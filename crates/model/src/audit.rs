//! The audit trail: who asked for what, and whether it was allowed.
//!
//! Changes are in the event log already; what is not a change (refusals, logins,
//! reads of what is sensitive) is an [`Attempt`], kept in a log of its own.
//! [`AuditLine`] is how both are shown, in one order.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Actor, Id, Org, Timestamp, Token};

/// Something that was asked for and changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Timestamp,
    /// Nobody knows who, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Id<Token>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    pub request_id: String,
    /// What was asked for, by the name of the operation.
    pub operation: String,
    /// Whose it is that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Id<Org>>,
    /// What was asked for: a path, or what was sent instead of one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What it was in particular, such as the command that was run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    pub decision: Decision,
    /// A stable code: of the problem it was refused with, or why it is here.
    pub reason: String,
    /// How often, when many alike were taken together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
}

fn one() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

/// Whether it was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Allow,
    Deny,
}

/// One line of the trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditLine {
    /// Always `audit`.
    #[serde(rename = "type")]
    pub kind: String,
    pub ts: Timestamp,
    /// Which log it is in, and where.
    pub log: AuditSource,
    pub position: u64,
    pub actor: Option<Actor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub token: Option<Id<Token>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub source: Option<IpAddr>,
    pub request_id: String,
    /// The operation that was asked for, or the event that came of it.
    pub operation: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What it was in particular, such as the command that was run, as JSON words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    pub decision: Decision,
    pub reason: String,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
}

/// Where a line of the trail comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditSource {
    /// A change, from the event log.
    Events,
    /// Anything else, from the audit log.
    Audit,
}

/// `GET /v1/audit`: the newest lines first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditPage {
    pub items: Vec<AuditLine>,
    /// Pass as `cursor` for what was before; `None` at the beginning.
    pub next_cursor: Option<String>,
}
