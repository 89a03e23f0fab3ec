//! Which certificate a host is served with: an immutable map that handshakes read and
//! the keeper swaps. A connection keeps what it began with.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use helix_certificate::{Bundle, CertificateError};
use helix_model::certificate::Pin;
use helix_model::host;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::ACME_TLS;

/// Hosts that are to be served over TLS, and the certificate each has if it has one.
pub(crate) type Wanted = BTreeMap<Arc<str>, Option<Pin>>;

/// What a plan wants, and which installation it is of.
#[derive(Debug, Default)]
pub(crate) struct Order {
    pub(crate) installation: Option<Ipv6Addr>,
    pub(crate) hosts: Wanted,
}

/// What the edge has.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    held: ArcSwap<HashMap<Arc<str>, Arc<Held>>>,
    /// Why what is wanted is not there.
    problems: ArcSwap<HashMap<Arc<str>, String>>,
}

/// One certificate in use.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) pin: Option<Pin>,
    key: Arc<CertifiedKey>,
    /// When another is to be made. One that an org brought is replaced by its plan.
    again_at: Option<SystemTime>,
    /// When it ends, milliseconds since the epoch.
    not_after_ms: i64,
}

impl Held {
    /// What was fetched, found good.
    pub(crate) fn read(
        pem: &[u8],
        pin: Option<Pin>,
        now: SystemTime,
    ) -> Result<Held, CertificateError> {
        let bundle = Bundle::from_pem(pem)?;
        let key = bundle.certified_key()?;
        let not_after_ms = bundle.not_after_ms()?;
        let again_at = match pin {
            Some(_) => None,
            None => Some(again_at(not_after_ms, now)),
        };
        Ok(Held { pin, key, again_at, not_after_ms })
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_valid(&self, now: SystemTime) -> bool {
        now < UNIX_EPOCH + Duration::from_millis(u64::try_from(self.not_after_ms).unwrap_or(0))
    }
}

/// With a third of the time left, so that a server may be away for long.
fn again_at(not_after_ms: i64, now: SystemTime) -> SystemTime {
    let end = UNIX_EPOCH + Duration::from_millis(u64::try_from(not_after_ms).unwrap_or(0));
    let left = end.duration_since(now).unwrap_or_default();
    now + left * 2 / 3
}

impl Certificates {
    /// The certificate of a host in lower case, or of a wildcard.
    pub(crate) fn host(&self, host: &str) -> Option<Arc<Held>> {
        self.held.load().get(host).cloned()
    }

    /// What a visitor of a host is served with: its own before that of a wildcard.
    fn visited(&self, host: &str) -> Option<Arc<Held>> {
        let held = self.held.load();
        found(&held, host).cloned()
    }

    /// Whether the certificate an org brought for a host is in use.
    pub(crate) fn serves(&self, host: &str, pin: Pin) -> bool {
        self.held.load().get(host).is_some_and(|held| held.pin == Some(pin))
    }

    /// Whether a connection for one host may carry requests for another: only if its
    /// certificate is the other's too.
    pub(crate) fn is_same(&self, one: &str, other: &str) -> bool {
        let held = self.held.load();
        match (found(&held, one), found(&held, other)) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one.key, &other.key),
            _ => false,
        }
    }

    /// Why the certificate that is wanted for a host is not there.
    pub(crate) fn problem(&self, host: &str) -> Option<String> {
        self.problems.load().get(host).cloned()
    }

    /// What is to be fetched, hosts with the same certificate together.
    pub(crate) fn missing(&self, wanted: &Wanted, now: SystemTime) -> Vec<Missing> {
        let held = self.held.load();
        let mut missing: Vec<Missing> = Vec::new();
        let mut by_pin: HashMap<Pin, usize> = HashMap::new();
        for (host, pin) in wanted {
            let is_there = held.get(host).is_some_and(|held| {
                held.pin == *pin && held.again_at.is_none_or(|again_at| now < again_at)
            });
            if is_there {
                continue;
            }
            let fresh = missing.len();
            match pin.map(|pin| *by_pin.entry(pin).or_insert(fresh)) {
                Some(place) if place < fresh => missing[place].hosts.push(Arc::clone(host)),
                _ => missing.push(Missing { pin: *pin, hosts: vec![Arc::clone(host)] }),
            }
        }
        missing
    }

    /// Takes in what was fetched, in one step; whether anything is new.
    pub(crate) fn take(&self, fetched: Vec<(Missing, Result<Held, String>)>) -> bool {
        let mut held = HashMap::clone(&self.held.load());
        let mut problems = HashMap::clone(&self.problems.load());
        let (mut has_more, mut tells_other) = (false, false);
        for (missing, outcome) in fetched {
            match outcome {
                Ok(one) => {
                    let one = Arc::new(one);
                    for host in missing.hosts {
                        tells_other |= problems.remove(&host).is_some();
                        held.insert(host, Arc::clone(&one));
                    }
                    has_more = true;
                }
                Err(why) => {
                    for host in missing.hosts {
                        let before = problems.insert(host, why.clone());
                        tells_other |= before.as_ref() != Some(&why);
                    }
                }
            }
        }
        if has_more {
            self.held.store(Arc::new(held));
        }
        if tells_other {
            self.problems.store(Arc::new(problems));
        }
        has_more || tells_other
    }

    /// Lets go of what no host needs any more.
    pub(crate) fn keep_only(&self, wanted: &Wanted) {
        let is_idle = |host: &Arc<str>| !wanted.contains_key(host);
        if self.held.load().keys().any(is_idle) {
            let mut held = HashMap::clone(&self.held.load());
            held.retain(|host, _| wanted.contains_key(host));
            self.held.store(Arc::new(held));
        }
        if self.problems.load().keys().any(is_idle) {
            let mut problems = HashMap::clone(&self.problems.load());
            problems.retain(|host, _| wanted.contains_key(host));
            self.problems.store(Arc::new(problems));
        }
    }
}

fn found<'h>(held: &'h HashMap<Arc<str>, Arc<Held>>, host: &str) -> Option<&'h Arc<Held>> {
    held.get(host).or_else(|| held.get(host::wildcard_of(host)?.as_str()))
}

/// One thing to fetch, and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) pin: Option<Pin>,
    pub(crate) hosts: Vec<Arc<str>>,
}

/// Answers handshakes. Who names no host, or one that is not here, gets no
/// certificate: any would be of somebody else.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Arc<crate::shared::Shared>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        let lower = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        // Only an authority speaks that, and nothing else with it (RFC 8737 §3).
        let mut spoken = hello.alpn().into_iter().flatten();
        if spoken.next() == Some(ACME_TLS) && spoken.next().is_none() {
            return self.0.table.load().shown(&lower).cloned();
        }
        let held = self.0.certificates.visited(&lower);
        held.map(|held| Arc::clone(&held.key))
    }
}

#[cfg(test)]
mod tests {
    use helix_certificate::Authority;
    use helix_model::bundle::VersionId;
    use helix_model::{Id, Timestamp};

    use super::*;

    const NOW_MS: i64 = 1_767_225_600_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_767_225_600_000)
    }

    fn pin(number: u128) -> Pin {
        let at = Timestamp(1);
        Pin { certificate: Id::new(at, number), record: VersionId::new(at, number) }
    }

    fn held(pin: Option<Pin>) -> Result<Held, String> {
        let authority = Authority::create("test", NOW_MS).unwrap();
        let bundle = authority.issue("a.example", NOW_MS).unwrap();
        Ok(Held::read(&bundle.to_pem(), pin, now()).unwrap())
    }

    fn wanted(hosts: &[(&str, Option<Pin>)]) -> Wanted {
        hosts.iter().map(|(host, pin)| (Arc::from(*host), *pin)).collect()
    }

    #[test]
    fn hosts_of_one_certificate_are_fetched_once_and_served_together() {
        let certificates = Certificates::default();
        let wanted = wanted(&[("a", Some(pin(1))), ("b", None), ("c", Some(pin(1)))]);
        let missing = certificates.missing(&wanted, now());
        assert_eq!(missing.len(), 2);
        assert_eq!(missing[0].hosts, [Arc::from("a"), Arc::from("c")]);
        let fetched = missing.into_iter().map(|it| (it.clone(), held(it.pin))).collect();
        assert!(certificates.take(fetched));
        assert!(certificates.missing(&wanted, now()).is_empty());
        assert!(certificates.serves("c", pin(1)) && !certificates.serves("b", pin(1)));
        assert!(certificates.is_same("a", "c") && !certificates.is_same("a", "b"));
    }

    #[test]
    fn what_was_made_here_is_made_again_before_its_end_and_another_pin_at_once() {
        let certificates = Certificates::default();
        let both = wanted(&[("a", Some(pin(1))), ("b", None)]);
        let missing = certificates.missing(&both, now());
        certificates.take(missing.into_iter().map(|it| (it.clone(), held(it.pin))).collect());
        let later = now() + Duration::from_secs(61 * 86_400);
        let again = certificates.missing(&both, later);
        assert_eq!(again, [Missing { pin: None, hosts: vec![Arc::from("b")] }]);
        let other = wanted(&[("a", Some(pin(2))), ("b", None)]);
        assert_eq!(certificates.missing(&other, now()).len(), 1);
        assert!(certificates.host("a").is_some(), "the one before serves until then");
        certificates.keep_only(&wanted(&[("b", None)]));
        assert!(certificates.host("a").is_none());
    }

    #[test]
    fn a_failure_is_told_once_and_forgotten_with_the_next_success() {
        let certificates = Certificates::default();
        let wanted = wanted(&[("a", Some(pin(1)))]);
        let failing = || {
            let missing = certificates.missing(&wanted, now());
            certificates.take(missing.into_iter().map(|it| (it, Err("no".to_owned()))).collect())
        };
        assert!(failing());
        assert!(!failing(), "nothing is new");
        assert_eq!(certificates.problem("a").as_deref(), Some("no"));
        let missing = certificates.missing(&wanted, now());
        certificates.take(missing.into_iter().map(|it| (it.clone(), held(it.pin))).collect());
        assert_eq!(certificates.problem("a"), None);
    }
}
