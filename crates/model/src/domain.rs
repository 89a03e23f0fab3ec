//! Domains: which org a DNS name belongs to, and how that was shown.
//!
//! Any number of orgs may add a domain, and one can have it: the one that made the TXT
//! record asked of it, or that an operator vouches for. Who has one may use it and
//! every name below it as a host, except what is below a longer one that another org
//! has. Start from [`State::may_have`]. Must not know how DNS is asked.

use serde::{Deserialize, Serialize};

use crate::condition::Facts;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{AnyId, Id, Kind, Name, Noun, Org, Reason, Resource, host};

/// Domains one org may have. Those without proof are looked up again and again.
pub const PER_ORG_MAX: usize = 1000;

/// The label below a domain where its record is looked for.
const RECORD_LABEL: &str = "_helix";

/// Longest domain: the record's name must be one, too.
pub const LENGTH_MAX: usize = host::LENGTH_MAX - RECORD_LABEL.len() - 1;

/// What is on the visitor's own machine (RFC 6761 §6.3), and so belongs to nobody.
pub const LOCAL: &str = "localhost";

/// What is desired of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub org: Id<Org>,
    /// In lower case, without a final dot.
    pub domain: String,
}

/// What is known of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How it was shown to be the org's; absent until it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// What the last look at its record found wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Trouble>,
}

/// How a domain was shown to be an org's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// By a record that only who runs the domain can make.
    Record,
    /// An operator of the installation says so.
    Operator,
}

/// What is wrong with a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub reason: Reason,
    /// A sentence for a person.
    pub message: String,
}

impl Domain {
    /// The name of the record that proves it.
    pub fn record_name(&self) -> String {
        format!("{RECORD_LABEL}.{}", self.domain)
    }
}

/// What the record of a domain has to say.
pub fn record_value(id: Id<Domain>) -> String {
    format!("helix-domain={id}")
}

impl Noun for Domain {
    const KIND: Kind = Kind::Domain;
    type Status = Status;

    fn facts(domain: &Resource<Domain>) -> Option<Facts> {
        let Status { proof, problem } = &domain.status;
        let ready = proof.is_some();
        Some(Facts { ready, reconciling: !ready, degraded: ready && problem.is_some() })
    }
}

/// Command: an org says that a domain is its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Add {
    pub org: Id<Org>,
    pub domain: String,
}

/// Command: what a look at a domain's record found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    pub domain: Id<Domain>,
    pub seen: Seen,
}

/// What a look at a domain's record found. Messages are sentences for people, and the
/// same for the same finding: each other one is an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Seen {
    /// It is there and says what it should.
    Record,
    /// It is not, or says something else.
    Missing { message: String },
    /// That could not be found out.
    Unknown { message: String },
}

/// Command: endpoints without a host get one below this domain, and names below it
/// belong to whoever comes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetApp {
    pub domain: String,
}

/// Event: an org added a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Domain>,
    pub name: Name,
    pub spec: Domain,
}

/// Which domain an event is about, in words that still tell when it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Of {
    pub id: Id<Domain>,
    pub name: Name,
    pub org: Id<Org>,
    pub domain: String,
}

impl Of {
    /// The words for a domain.
    pub fn new(known: &Resource<Domain>) -> Of {
        let Domain { org, domain } = known.spec.clone();
        Of { id: known.id, name: known.name.clone(), org, domain }
    }
}

/// Event: a domain was shown to be the org's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proven {
    #[serde(flatten)]
    pub of: Of,
    pub proof: Proof,
}

/// Event: a look at its record found something else than the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    #[serde(flatten)]
    pub of: Of,
    /// Absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Trouble>,
}

/// Event: where endpoints without a host get theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppSet {
    pub domain: String,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let parent = Some(self.spec.org.any());
        state.domains.insert(change.create(self.id, self.name.clone(), parent, self.spec.clone()));
    }
}

impl Apply for Proven {
    fn apply(&self, state: &mut State, change: Change) {
        state.domains.update(self.of.id, |domain| {
            domain.status = Status { proof: Some(self.proof), problem: None };
            change.touch(domain);
        });
        if let Some(domain) = state.domains.get(self.of.id) {
            state.index.domain(domain);
        }
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.domains.update(self.of.id, |domain| {
            domain.status.problem = self.problem.clone();
            change.touch(domain);
        });
    }
}

impl Apply for AppSet {
    fn apply(&self, state: &mut State, _change: Change) {
        state.app_domain = Some(self.domain.clone());
    }
}

/// A domain is gone.
pub(crate) fn forget(state: &mut State, id: Id<Domain>) {
    if let Some(domain) = state.domains.get(id) {
        state.index.without_domain(domain);
    }
    state.domains.remove(id);
}

impl State {
    /// Where endpoints without a host get theirs.
    pub fn app_domain(&self) -> &str {
        self.app_domain.as_deref().unwrap_or(LOCAL)
    }

    /// Whether a host belongs to whoever comes first. A wildcard right below what all
    /// share does not: it would stand for names of everybody.
    pub fn is_free(&self, host: &str) -> bool {
        let exact = host::exact_part(host);
        let is_shared = |above| host::is_below(exact, above);
        host == LOCAL || is_shared(LOCAL) || is_shared(self.app_domain())
    }

    /// Those who have shown that a host is theirs, the one that counts first.
    pub fn proven<'s>(&'s self, host: &'s str) -> impl Iterator<Item = &'s Resource<Domain>> {
        let known = host::upwards(host).filter_map(|domain| self.index.proven(domain));
        known
            .filter(|id| self.destroying_since(id.any()).is_none())
            .filter_map(|id| self.domains.get(id))
    }

    /// Whether endpoints and tunnels of an org may have a host.
    pub fn may_have(&self, org: Id<Org>, host: &str) -> bool {
        self.is_free(host) || self.proven(host).next().is_some_and(|it| it.spec.org == org)
    }

    /// The org of an endpoint or a tunnel that has a host.
    pub fn org_of_host(&self, owner: AnyId) -> Option<Id<Org>> {
        let endpoint = owner.typed().and_then(|id| self.endpoints.get(id)).map(|it| it.spec.org);
        let tunnel = || owner.typed().and_then(|id| self.tunnels.get(id)).map(|it| it.spec.org);
        endpoint.or_else(tunnel)
    }

    /// The hosts that endpoints and tunnels of its org may have by this domain alone.
    pub fn hosts_by(&self, domain: &Resource<Domain>) -> Vec<&str> {
        let needs = |host: &&str| {
            let mut proven = self.proven(host);
            let is_first = proven.next().is_some_and(|it| it.id == domain.id);
            let is_only = proven.next().is_none_or(|next| next.spec.org != domain.spec.org);
            !self.is_free(host) && is_first && is_only
        };
        let of_org = |id: AnyId| self.org_of_host(id) == Some(domain.spec.org);
        let hosts = self.hosts.iter().filter(|(_, id)| of_org(**id));
        hosts.map(|(host, _)| host.as_str()).filter(needs).collect()
    }
}
