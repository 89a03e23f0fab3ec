//! Conditions: named yes-or-no facts about a resource, with a reason.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One fact about a resource, as shown by `describe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `Ready`, `Reconciling`, `Degraded` or `Destroying`.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    pub status: bool,
    /// A stable code, `snake_case`.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// When it last changed.
    pub since: Timestamp,
}

/// What a condition speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionKind {
    /// It does what it is for.
    Ready,
    /// What is current is on its way to what is desired.
    Reconciling,
    /// It works, but worse than asked for.
    Degraded,
    /// It is on its way out.
    Destroying,
}

impl Condition {
    /// A condition that has held since `since`.
    pub fn new(
        kind: ConditionKind,
        status: bool,
        reason: impl ToString,
        message: impl Into<String>,
        since: Timestamp,
    ) -> Condition {
        Condition { kind, status, reason: reason.to_string(), message: message.into(), since }
    }
}
