//! Conditions: named yes-or-no facts about a resource, with a reason.
//!
//! Whether a fact holds is kept in the state ([`Standing`]) together with when
//! that last changed; reasons and messages are worked out when someone looks.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One fact about a resource, as shown by `describe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Condition {
    /// `Ready`, `Reconciling`, `Degraded`, `Connected`, `DiskPressure` or `Destroying`.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    pub status: bool,
    /// A stable code, `snake_case`.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// When the status last changed.
    pub since: Timestamp,
}

/// What a condition speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum ConditionKind {
    /// It does what it is for.
    Ready,
    /// What is current is on its way to what is desired.
    Reconciling,
    /// It works, but worse than asked for.
    Degraded,
    /// An agent is attached. Only of tunnels.
    Connected,
    /// Its disk takes nothing new. Only of nodes.
    DiskPressure,
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

/// Which facts hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub ready: bool,
    pub reconciling: bool,
    pub degraded: bool,
}

impl Facts {
    /// Of what is all it can be as soon as it exists.
    pub const EXISTS: Facts = Facts { ready: true, reconciling: false, degraded: false };
}

/// Which facts hold, and since when each has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    #[serde(flatten)]
    facts: Facts,
    ready_since: Timestamp,
    reconciling_since: Timestamp,
    degraded_since: Timestamp,
}

impl Standing {
    /// Of something made at `at`.
    pub fn new(facts: Facts, at: Timestamp) -> Standing {
        Standing { facts, ready_since: at, reconciling_since: at, degraded_since: at }
    }

    /// Takes note of what holds now.
    pub fn note(&mut self, facts: Facts, at: Timestamp) {
        let before = std::mem::replace(&mut self.facts, facts);
        for (was, is, since) in [
            (before.ready, facts.ready, &mut self.ready_since),
            (before.reconciling, facts.reconciling, &mut self.reconciling_since),
            (before.degraded, facts.degraded, &mut self.degraded_since),
        ] {
            if was != is {
                *since = at;
            }
        }
    }

    /// Since when it has, or has not, been ready.
    pub fn ready_since(&self) -> Timestamp {
        self.ready_since
    }

    /// Which facts hold.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// The fact as a condition, with why it does or does not hold.
    pub fn condition(
        &self,
        kind: ConditionKind,
        reason: impl ToString,
        message: impl Into<String>,
    ) -> Condition {
        let (status, since) = match kind {
            // Of a tunnel these are one.
            ConditionKind::Ready | ConditionKind::Connected => (self.facts.ready, self.ready_since),
            ConditionKind::Reconciling => (self.facts.reconciling, self.reconciling_since),
            // A node knows no other way to be degraded.
            ConditionKind::Degraded | ConditionKind::DiskPressure => {
                (self.facts.degraded, self.degraded_since)
            }
            // Of what stands here this is never so; `destroy` tells when it is.
            ConditionKind::Destroying => (false, self.ready_since),
        };
        Condition::new(kind, status, reason, message, since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_keeps_the_time_of_its_own_last_change() {
        let mut standing =
            Standing::new(Facts { reconciling: true, ..Facts::default() }, Timestamp(1));
        standing.note(Facts { ready: true, reconciling: true, degraded: false }, Timestamp(2));
        standing.note(Facts { ready: true, reconciling: true, degraded: false }, Timestamp(3));
        standing.note(Facts { ready: true, reconciling: false, degraded: false }, Timestamp(4));
        let since = |kind| standing.condition(kind, "", "").since;
        assert_eq!(since(ConditionKind::Ready), Timestamp(2));
        assert_eq!(since(ConditionKind::Reconciling), Timestamp(4));
        assert_eq!(since(ConditionKind::Degraded), Timestamp(1));
    }
}
