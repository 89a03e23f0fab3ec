//! Certificates: what proves to clients that a host is who it says. Those an org
//! brought, those an authority issues by itself, and the authority of the installation
//! for all other hosts.
//!
//! A certificate serves hosts of its own org and of nobody else. Its key and chain
//! are a sealed record, which events and the state name and do not have. Must not
//! know how one is read, or how an edge serves it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::acme::Order;
use crate::bundle::VersionId;
use crate::condition::Facts;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, Org, Resource, Timestamp, host};

/// Certificates one org may have brought. Each is looked at for every host of the org
/// whenever anything changes.
pub const PER_ORG_MAX: usize = 100;

/// Before its end it is time to bring another: a third of its life, as is usual for
/// renewal, and never more than this.
const EXPIRING_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is desired of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub org: Id<Org>,
    /// Hosts in lower case; `*.example.com` stands for all one level below.
    pub names: Vec<String>,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Source::is_upload")]
    pub source: Source,
    /// Absent as long as nobody has issued it.
    #[serde(flatten)]
    pub issued: Option<Issued>,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An org brought it, and has to bring the next.
    #[default]
    Upload,
    /// An authority issues it, again and again.
    Acme,
}

impl Source {
    fn is_upload(&self) -> bool {
        *self == Source::Upload
    }
}

/// What somebody has issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Who, in their own words.
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Lower-case hex sha256 of it.
    pub fingerprint: String,
    /// The sealed record with its chain and key.
    pub record: VersionId,
}

/// What is known of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub phase: Phase,
    /// What is under way to have it issued.
    #[serde(default, skip_serializing_if = "Order::is_quiet")]
    pub order: Order,
}

/// How much of its life is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Valid,
    /// It has not been issued yet.
    Pending,
    /// It is time to bring another.
    Expiring,
    /// Clients refuse it.
    Expired,
}

impl Certificate {
    /// Whether clients take it for a host.
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = host::wildcard_of(host);
        self.names.iter().any(|name| name == host || Some(name) == wildcard.as_ref())
    }

    /// How much of its life is left at a moment.
    pub fn phase_at(&self, now: Timestamp) -> Phase {
        let Some(issued) = &self.issued else { return Phase::Pending };
        let warning = match self.source {
            Source::Upload => issued.renewal(),
            // It has been tried for as long by itself.
            Source::Acme => issued.renewal() / 2,
        };
        if now >= issued.not_after {
            Phase::Expired
        } else if issued.not_after.since(now) <= warning {
            Phase::Expiring
        } else {
            Phase::Valid
        }
    }
}

impl Issued {
    /// How long before its end it is time for another.
    pub fn renewal(&self) -> Duration {
        (self.not_after.since(self.not_before) / 3).min(EXPIRING_MAX)
    }
}

impl Noun for Certificate {
    const KIND: Kind = Kind::Certificate;
    type Status = Status;

    fn facts(certificate: &Resource<Certificate>) -> Option<Facts> {
        let Status { phase, order } = &certificate.status;
        Some(Facts {
            ready: matches!(phase, Phase::Valid | Phase::Expiring),
            reconciling: *phase == Phase::Pending,
            degraded: !matches!(phase, Phase::Valid | Phase::Pending) || order.problem.is_some(),
        })
    }
}

/// Which certificate serves a host, and which record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pin {
    pub certificate: Id<Certificate>,
    pub record: VersionId,
}

/// Command: an org has this certificate, in place of the one of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub name: Name,
    pub spec: Certificate,
}

/// Command: the installation vouches for hosts with this authority, unless it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetAuthority {
    pub authority: Authority,
}

/// Event: an org brought a certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Certificate>,
    pub name: Name,
    pub spec: Certificate,
}

/// Which certificate an event is about, in words that still tell when it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Of {
    pub id: Id<Certificate>,
    pub name: Name,
    pub org: Id<Org>,
}

impl Of {
    /// The words for a certificate.
    pub fn new(certificate: &Resource<Certificate>) -> Of {
        Of { id: certificate.id, name: certificate.name.clone(), org: certificate.spec.org }
    }
}

/// Event: another took the place of the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    #[serde(flatten)]
    pub of: Of,
    pub spec: Certificate,
}

/// Event: time went by, and another part of its life began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    #[serde(flatten)]
    pub of: Of,
    pub phase: Phase,
    pub not_after: Timestamp,
}

/// The authority of the installation. Its key is a sealed record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// What clients are to trust, in PEM.
    pub certificate: String,
    /// Lower-case hex sha256 of it.
    pub fingerprint: String,
    pub not_after: Timestamp,
    /// The sealed record with its key.
    pub record: VersionId,
}

/// Event: the installation has an authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthoritySet {
    #[serde(flatten)]
    pub authority: Authority,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let parent = Some(self.spec.org.any());
        let mut certificate = change.create(self.id, self.name.clone(), parent, self.spec.clone());
        if self.spec.issued.is_none() {
            certificate.status.phase = Phase::Pending;
            change.touch(&mut certificate);
        }
        state.certificates.insert(certificate);
    }
}

impl Apply for Replaced {
    fn apply(&self, state: &mut State, change: Change) {
        state.certificates.update(self.of.id, |certificate| {
            certificate.spec = self.spec.clone();
            certificate.status = Status::default();
            change.touch(certificate);
        });
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.certificates.update(self.of.id, |certificate| {
            certificate.status.phase = self.phase;
            change.touch(certificate);
        });
    }
}

impl Apply for AuthoritySet {
    fn apply(&self, state: &mut State, _change: Change) {
        state.authority = Some(self.authority.clone());
    }
}

/// A certificate, and what was issued as it.
type One<'s> = (&'s Issued, Id<Certificate>);

/// Which certificate serves which host, over all orgs.
#[derive(Debug)]
pub struct Serving<'s> {
    best: BTreeMap<(Id<Org>, &'s str), One<'s>>,
}

impl<'s> Serving<'s> {
    /// As it is in this state. Of several for a name the one that lasts longest serves.
    pub fn of(state: &'s State) -> Serving<'s> {
        let mut best: BTreeMap<_, One<'_>> = BTreeMap::new();
        let there = state.certificates.iter();
        for certificate in there.filter(|it| state.destroying_since(it.id.any()).is_none()) {
            let Some(issued) = &certificate.spec.issued else { continue };
            for name in &certificate.spec.names {
                let one = (issued, certificate.id);
                let place = best.entry((certificate.spec.org, name.as_str())).or_insert(one);
                if place.0.not_after < issued.not_after {
                    *place = one;
                }
            }
        }
        Serving { best }
    }

    /// The one for a host of an org: its own name before a wildcard.
    pub fn host(&self, org: Id<Org>, host: &str) -> Option<Pin> {
        let wildcard = host::wildcard_of(host);
        let exact = self.best.get(&(org, host));
        let found = exact.or_else(|| self.best.get(&(org, wildcard.as_deref()?)))?;
        let (issued, certificate) = found;
        Some(Pin { certificate: *certificate, record: issued.record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(days: i64) -> Certificate {
        Certificate {
            org: Id::new(Timestamp(1), 1),
            names: vec!["a.example".to_owned()],
            source: Source::Upload,
            issued: Some(Issued {
                issuer: "test".to_owned(),
                not_before: Timestamp(0),
                not_after: Timestamp(days * 86_400_000),
                fingerprint: String::new(),
                record: VersionId::new(Timestamp(1), 1),
            }),
        }
    }

    #[test]
    fn it_is_told_in_time_that_a_certificate_ends() {
        let at =
            |certificate: &Certificate, day: i64| certificate.phase_at(Timestamp(day * 86_400_000));
        let quarter = lasting(90);
        assert_eq!(at(&quarter, 59), Phase::Valid);
        assert_eq!(at(&quarter, 60), Phase::Expiring);
        assert_eq!(at(&quarter, 89), Phase::Expiring);
        assert_eq!(at(&quarter, 90), Phase::Expired);
        let week = lasting(6);
        assert_eq!(at(&week, 3), Phase::Valid);
        assert_eq!(at(&week, 4), Phase::Expiring);
        assert_eq!(at(&lasting(3650), 3619), Phase::Valid);
    }

    #[test]
    fn one_that_renews_itself_is_told_of_only_when_that_has_not_worked_for_long() {
        let at = |source: Source, day: i64| {
            let certificate = Certificate { source, ..lasting(90) };
            certificate.phase_at(Timestamp(day * 86_400_000))
        };
        assert_eq!((at(Source::Upload, 61), at(Source::Acme, 61)), (Phase::Expiring, Phase::Valid));
        assert_eq!(at(Source::Acme, 76), Phase::Expiring);
        let pending = Certificate { issued: None, source: Source::Acme, ..lasting(90) };
        assert_eq!(pending.phase_at(Timestamp(0)), Phase::Pending);
    }

    #[test]
    fn what_was_recorded_before_certificates_had_a_source_is_read() {
        let before = serde_json::to_value(lasting(90)).unwrap();
        assert!(before.get("source").is_none() && before["issuer"] == "test", "{before}");
        assert_eq!(serde_json::from_value::<Certificate>(before).unwrap(), lasting(90));
        let pending = Certificate { issued: None, source: Source::Acme, ..lasting(90) };
        let written = serde_json::to_value(&pending).unwrap();
        assert_eq!(written["source"], "acme");
        assert_eq!(serde_json::from_value::<Certificate>(written).unwrap(), pending);
    }
}
