//! The keys of certificates, sealed: those of orgs and that of the authority of the
//! installation; and what edges get of them. Start from
//! [`Shared::deliver_certificate`].
//!
//! A record is bound to its org, its certificate's fingerprint and the name it has in
//! the state, so that it does not open as another's. How TLS is served is not known
//! here.

use std::sync::Arc;
use std::time::Duration;

use helix_certificate::{Authority, Bundle, CertificateError, Facts};
use helix_model::audit::{Attempt, Decision};
use helix_model::bundle::VersionId;
use helix_model::certificate::{self, Issued, Pin};
use helix_model::{
    Actor, Certificate, Code, Command, Id, Kind, Name, Org, Problem, State, Timestamp, reference,
};
use zeroize::Zeroizing;

use crate::engine::{Engine, Origin};
use crate::secrets::Vault;
use crate::server::Shared;
use crate::{clock, entropy};

/// What the ids of the records begin with.
const RECORDS: &str = "certificates/";

/// The same of authorities' keys: one, unless two servers started at once.
const AUTHORITY: &str = "authority/";

/// How often what became of records is looked at. Whoever replaces a certificate
/// removes its record at once; this is for those that were destroyed, and for servers
/// that were killed in between.
const TEND_EVERY: Duration = Duration::from_secs(60);

/// Seals a chain and its key under a fresh name.
pub(crate) async fn seal(
    vault: &Vault,
    org: Id<Org>,
    fingerprint: &str,
    bundle: &Bundle,
) -> Result<VersionId, Problem> {
    let record = VersionId::new(clock::now(), entropy::for_ids());
    vault.put(&name(org, record), &bundle.to_pem(), &bound_to(org, fingerprint, record)).await?;
    Ok(record)
}

/// What is known of a certificate whose chain and key are in a record.
pub(crate) fn issued(facts: Facts, record: VersionId) -> Issued {
    Issued {
        issuer: facts.issuer,
        not_before: Timestamp(facts.not_before_ms),
        not_after: Timestamp(facts.not_after_ms),
        fingerprint: facts.fingerprint,
        record,
    }
}

/// Removes a record unless it is that of a certificate.
pub(crate) async fn remove_unused(vault: &Vault, state: &State, org: Id<Org>, record: VersionId) {
    if !is_in_use(state, org, record) {
        vault.remove(&name(org, record)).await;
    }
}

fn name(org: Id<Org>, record: VersionId) -> String {
    format!("{RECORDS}{org}/{record}")
}

fn bound_to(org: Id<Org>, fingerprint: &str, record: VersionId) -> Vec<u8> {
    format!("helix-certificate-v1|org:{org}|sha256:{fingerprint}|record:{record}").into_bytes()
}

fn authority_name(record: VersionId) -> String {
    format!("{AUTHORITY}{record}")
}

fn authority_bound_to(fingerprint: &str, record: VersionId) -> Vec<u8> {
    format!("helix-authority-v1|sha256:{fingerprint}|record:{record}").into_bytes()
}

fn is_in_use(state: &State, org: Id<Org>, record: VersionId) -> bool {
    let mut kept = state.certificates.children(org.any()).filter_map(|it| it.spec.issued.as_ref());
    kept.any(|it| it.record == record)
}

/// Removes records that no certificate leads to, for as long as it is not dropped.
pub(crate) async fn tend(engine: Engine, vault: Arc<Vault>) {
    loop {
        let state = engine.state();
        let is_in_use = |org, record| is_in_use(&state, org, record);
        if let Err(error) = vault.sweep_of_orgs(RECORDS, &state, is_in_use).await {
            tracing::warn!(%error, "keys that are not needed cannot be searched for");
        }
        drop(state);
        tokio::time::sleep(TEND_EVERY).await;
    }
}

/// Makes the authority of the installation at its first start. Without one, what has
/// no certificate is not served over TLS; everything else is.
pub(crate) async fn ensure_authority(engine: &Engine, vault: &Vault) {
    if engine.state().authority.is_some() {
        return;
    }
    if let Err(problem) = make_authority(engine, vault).await {
        tracing::error!(%problem, "the authority for local certificates cannot be made");
    }
}

async fn make_authority(engine: &Engine, vault: &Vault) -> Result<(), Problem> {
    let record = VersionId::new(clock::now(), entropy::for_ids());
    // Told apart in the list of a browser by the installation's own prefix.
    let name = format!("HelixStack local authority {}", engine.state().network);
    let made = Authority::create(&name, clock::now().0).map_err(|error| failed(&error))?;
    let fingerprint = made.fingerprint();
    let bound_to = authority_bound_to(&fingerprint, record);
    vault.put(&authority_name(record), made.key_pem().as_bytes(), &bound_to).await?;
    let authority = certificate::Authority {
        certificate: made.certificate_pem(),
        fingerprint,
        not_after: Timestamp(made.not_after_ms().map_err(|error| failed(&error))?),
        record,
    };
    let command = Command::SetAuthority(Box::new(certificate::SetAuthority { authority }));
    let origin = Origin::system("bootstrap", entropy::request_id());
    engine.submit(command, origin).await?;
    // Another server that starts at the same moment may have been first.
    if engine.state().authority.as_ref().is_some_and(|it| it.record != record) {
        vault.remove(&authority_name(record)).await;
    }
    Ok(())
}

fn failed(error: &CertificateError) -> Problem {
    tracing::error!(%error, "a certificate cannot be made");
    Problem::new(Code::Internal, error.to_string()).hint(error.hint())
}

impl Shared {
    /// What an edge serves a host with: the certificate it was told of, or else one
    /// made for it here. The former is in the audit log, or it does not happen.
    pub(crate) async fn deliver_certificate(
        &self,
        edge: &str,
        host: &str,
        pin: Option<Pin>,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let state = self.engine.state();
        let org = state.hosts.get(host).and_then(|owner| state.org_of_host(*owner));
        let Some(pin) = pin else {
            let is_known = org.is_some() || is_of_edge(&state, edge, host);
            drop(state);
            return if is_known { self.issue(host).await } else { Err(nobodys(host)) };
        };
        let org = org.ok_or_else(|| nobodys(host))?;
        let certificate = state
            .certificates
            .get(pin.certificate)
            .filter(|it| it.spec.org == org && it.spec.covers(host));
        let target = reference::path(&state, pin.certificate.any());
        let attempt = attempt(edge, org, target, host);
        let issued = certificate.and_then(|it| it.spec.issued.as_ref());
        let issued = issued.filter(|it| it.record == pin.record);
        let (Some(certificate), Some(issued)) = (certificate, issued) else {
            let reason = "not_assigned".to_owned();
            self.audit.note(Attempt { decision: Decision::Deny, reason, ..attempt });
            let id = pin.certificate.to_string();
            return Err(Problem::not_found(Kind::Certificate, &id));
        };
        let bound_to = bound_to(org, &issued.fingerprint, pin.record);
        self.audit.record(attempt).await?;
        let opened = self.vault.get(&name(org, pin.record), &bound_to).await?;
        opened.ok_or_else(|| lost(&certificate.spec))
    }

    /// A fresh certificate for a host, of the installation's own authority.
    async fn issue(&self, host: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let known = self.engine.state().authority.clone();
        let missing = || Problem::new(Code::Unavailable, "this installation has no authority");
        let known = known.ok_or_else(missing)?;
        let bound_to = authority_bound_to(&known.fingerprint, known.record);
        let key = self.vault.get(&authority_name(known.record), &bound_to).await?;
        let key = key.ok_or_else(missing)?;
        let issued = Authority::load(&known.certificate, &key)
            .and_then(|authority| authority.issue(host, clock::now().0));
        Ok(issued.map_err(|error| failed(&error))?.to_pem())
    }
}

/// Whether agents of tunnels reach an edge by this host.
fn is_of_edge(state: &State, edge: &str, host: &str) -> bool {
    let edge = edge.parse::<Name>().ok().and_then(|name| state.edges.named(None, &name));
    let facts = edge.and_then(|edge| edge.status.facts.as_ref());
    let mut agents = facts.into_iter().flat_map(|facts| &facts.agents);
    agents.any(|agent| agent.host().as_deref() == Some(host))
}

fn nobodys(host: &str) -> Problem {
    Problem::new(Code::NotFound, format!("no endpoint and no tunnel here is `{host}`"))
}

fn attempt(edge: &str, org: Id<Org>, target: String, host: &str) -> Attempt {
    Attempt {
        at: clock::now(),
        actor: Some(Actor::Machine(edge.to_owned())),
        token: None,
        source: None,
        request_id: entropy::request_id(),
        operation: "deliver_certificate".to_owned(),
        org: Some(org),
        target,
        detail: host.to_owned(),
        decision: Decision::Allow,
        reason: "allowed".to_owned(),
        count: 1,
    }
}

fn lost(certificate: &Certificate) -> Problem {
    let names = certificate.names.join(", ");
    Problem::new(Code::Unavailable, format!("the key for {names} is not kept any more"))
        .hint("add the certificate again: `helix certificates add --cert FILE --key FILE`")
}
