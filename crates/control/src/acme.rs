//! Which hosts an authority is to be asked for now, and which certificates of its
//! nobody needs any more.
//!
//! Only where somebody has said which authority that is; so this is no part of what is
//! reconciled everywhere.

use std::collections::BTreeMap;

use helix_model::certificate::{Phase, Source};
use helix_model::endpoint::Exposure;
use helix_model::{AnyId, Certificate, Id, Org, Resource, State, Timestamp, acme, host, tunnel};

/// A host to order a certificate for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub org: Id<Org>,
    pub host: String,
    /// When it has become time.
    pub since: Timestamp,
}

type Managed<'s> = BTreeMap<(Id<Org>, &'s str), &'s Resource<Certificate>>;

/// Hosts of endpoints and tunnels that are without a certificate which lasts, the longest waiting
/// first; with wildcards where they can be had.
pub fn due(state: &State, now: Timestamp, wildcards: bool) -> Vec<Due> {
    let managed = managed(state);
    let wanted = wanted(state, now).filter(|(_, host)| wildcards || !host::is_wildcard(host));
    let hosts = wanted.filter_map(|(org, host)| {
        let since = match managed.get(&(org, host)) {
            None => now,
            Some(known) => time_of(state, known).filter(|time| *time <= now)?,
        };
        Some(Due { org, host: host.to_owned(), since })
    });
    let mut due: Vec<Due> = hosts.collect();
    due.sort_by_key(|it| it.since);
    due
}

/// Certificates for hosts that no endpoint and no tunnel has, once they have ended.
pub fn unneeded(state: &State, now: Timestamp) -> Vec<Id<Certificate>> {
    let mut managed = managed(state);
    for host in wanted(state, now) {
        managed.remove(&host);
    }
    let ended = managed.values().filter(|it| {
        matches!(it.status.phase, Phase::Expired | Phase::Pending)
            && state.destroying_since(it.id.any()).is_none()
    });
    ended.map(|it| it.id).collect()
}

/// When it is time to order one, or again. Never while it is being destroyed.
fn time_of(state: &State, known: &Resource<Certificate>) -> Option<Timestamp> {
    if state.destroying_since(known.id.any()).is_some() {
        return None;
    }
    let issued = known.spec.issued.as_ref();
    let renewal = issued.map(|it| Timestamp(it.not_after.0 - millis(it.renewal())));
    Some(known.status.order.again_at.or(renewal).unwrap_or(known.created_at))
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn managed(state: &State) -> Managed<'_> {
    let all = state.certificates.iter().filter(|it| it.spec.source == Source::Acme);
    let by_host = all.filter_map(|it| Some(((it.spec.org, it.spec.names.first()?.as_str()), it)));
    by_host.collect()
}

/// Hosts of endpoints and tunnels that an authority can be asked for, that are the org's, and that
/// it has not brought one for.
fn wanted(state: &State, now: Timestamp) -> impl Iterator<Item = (Id<Org>, &str)> {
    let issuable = state.hosts.iter().filter(|(host, _)| acme::is_issuable(host));
    issuable.filter_map(move |(host, id)| {
        let org = state.org_of_host(*id)?;
        // Of what is passed on untouched the program has the certificate.
        let is_wanted = is_decrypted(state, *id, host)
            && state.may_have(org, host)
            && !is_brought(state, org, host, now);
        is_wanted.then_some((org, host.as_str()))
    })
}

/// Whether edges serve an endpoint's or a tunnel's host over TLS themselves.
fn is_decrypted(state: &State, owner: AnyId, host: &str) -> bool {
    let is_served = |it: &Exposure| matches!(it, Exposure::Http { host: it } if it == host);
    let endpoint = owner.typed().and_then(|id| state.endpoints.get(id));
    let tunnel = owner.typed().and_then(|id| state.tunnels.get(id));
    endpoint.is_some_and(|it| it.spec.claims().any(is_served))
        || tunnel.is_some_and(|it| matches!(it.spec.exposure, tunnel::Exposure::Http { .. }))
}

/// Whether the org has brought one for the host, which is then its own affair.
fn is_brought(state: &State, org: Id<Org>, host: &str, now: Timestamp) -> bool {
    state.certificates.children(org.any()).any(|it| {
        it.spec.source == Source::Upload
            && it.spec.covers(host)
            && it.spec.phase_at(now) != Phase::Expired
    })
}
