//! Orders: what is under way to have an authority issue a certificate (ACME, RFC 8555),
//! and again before its end.
//!
//! An order is a part of its certificate's status. Edges answer the authority's
//! challenges, which are no secret: anybody may ask for them. Must not know how an
//! authority is spoken to.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::certificate::{Issued, Of};
use crate::edge::Linked;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Certificate, Edge, Id, Org, Resource, Timestamp, domain, host};

/// Pauses after failures, at first and at most; each is twice the one before.
/// Authorities count failures per host and hour, and stop listening to who has many.
pub const PAUSE_MIN: Duration = Duration::from_secs(60);
pub const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest pause an authority may ask for: more is a slip of theirs.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How far it is with having a certificate issued.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What edges answer for it now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<Challenge>,
    /// The edges that do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub answered_by: BTreeSet<Id<Edge>>,
    /// Why it failed last, as far as the authority says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How often it has failed in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// It is not tried again before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<Timestamp>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What an authority asks for to see who has a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    pub host: String,
    #[serde(default, skip_serializing_if = "Way::is_http")]
    pub way: Way,
    pub token: String,
    /// What was agreed on: the whole body of an answer over HTTP, and what the hash in one
    /// over TLS is of.
    pub answer: String,
}

/// How an authority comes to see who has a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// By a request on port 80 (RFC 8555 §8.3).
    #[default]
    Http,
    /// By a handshake on port 443 (RFC 8737).
    Tls,
}

impl Way {
    fn is_http(&self) -> bool {
        *self == Way::Http
    }
}

impl Order {
    /// Whether nothing is under way and nothing went wrong.
    pub fn is_quiet(&self) -> bool {
        *self == Order::default()
    }
}

/// Command: have a certificate issued for a host of an org, and renewed by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub org: Id<Org>,
    pub host: String,
}

/// Command: have edges answer these, in place of those before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    pub certificate: Id<Certificate>,
    pub challenges: Vec<Challenge>,
}

/// Command: which tokens an edge answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    pub from: Linked,
    pub tokens: BTreeSet<String>,
}

/// Command: an order came to nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fail {
    pub certificate: Id<Certificate>,
    /// A sentence for a person.
    pub message: String,
    /// When the authority wants to hear of it again, if it says so.
    pub retry_after: Option<Duration>,
}

/// Command: it was issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issue {
    pub certificate: Id<Certificate>,
    pub issued: Issued,
}

/// Event: edges are to answer for an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Challenged {
    #[serde(flatten)]
    pub of: Of,
    pub challenges: Vec<Challenge>,
}

/// Event: an edge does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    #[serde(flatten)]
    pub of: Of,
    pub edge: Id<Edge>,
}

/// Event: an order came to nothing, and is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    #[serde(flatten)]
    pub of: Of,
    pub message: String,
    /// In a row.
    pub failures: u32,
    pub again_at: Timestamp,
}

impl Apply for Challenged {
    fn apply(&self, state: &mut State, change: Change) {
        state.certificates.update(self.of.id, |certificate| {
            certificate.status.order.challenges = self.challenges.clone();
            certificate.status.order.answered_by = BTreeSet::new();
            change.touch(certificate);
        });
    }
}

impl Apply for Answered {
    fn apply(&self, state: &mut State, change: Change) {
        state.certificates.update(self.of.id, |certificate| {
            certificate.status.order.answered_by.insert(self.edge);
            change.touch(certificate);
        });
    }
}

impl Apply for Failed {
    fn apply(&self, state: &mut State, change: Change) {
        state.certificates.update(self.of.id, |certificate| {
            certificate.status.order = Order {
                problem: Some(self.message.clone()),
                failures: self.failures,
                again_at: Some(self.again_at),
                ..Order::default()
            };
            change.touch(certificate);
        });
    }
}

/// Whether an authority can be asked for a host: not for what is on the visitor's own
/// machine, and not for what no public DNS knows.
pub fn is_issuable(host: &str) -> bool {
    let exact = host::exact_part(host);
    let is_local = exact == domain::LOCAL || host::is_below(exact, domain::LOCAL);
    exact.contains('.') && !is_local
}

impl State {
    /// The edges that are to answer and do not yet.
    pub fn unanswering(&self, certificate: &Resource<Certificate>) -> Vec<&Resource<Edge>> {
        let answered = &certificate.status.order.answered_by;
        let connected = self.edges.iter().filter(|edge| edge.status.connected);
        connected.filter(|edge| !answered.contains(&edge.id)).collect()
    }
}
