//! `/v1/certificates` and `/v1/authority`: certificates orgs bring, and what clients
//! trust for everything else. Reading and destroying certificates is like any other
//! kind.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};
use helix_certificate::{CertificateError, Upload};
use helix_model::api::{AuthorityReport, CertificateRequest};
use helix_model::bundle::VersionId;
use helix_model::certificate::{self, Certificate, Source};
use helix_model::reference::Scope;
use helix_model::{Code, Command, Id, Name, Org, Problem, Receipt};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Query};
use crate::{certificates, clock};

/// Takes a certificate in, in place of the one of the same name.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Receipt>, ApiProblem> {
    let body = body.map_err(ApiProblem::from)?;
    let org = caller.named_org(&api.engine.state(), &scope)?;
    let id = org.to_string();
    // Keyed, as everything is that is made of a secret.
    let hash = api.vault.request_hash(&[b"certificate", id.as_bytes(), &body]).await?;
    let origin = caller.origin(&headers, || hash)?;
    let request = parsed(&body)?;
    let read = helix_certificate::read(
        request.certificate.as_bytes(),
        request.key.as_bytes(),
        clock::now().0,
    );
    let Upload { bundle, facts } = read.map_err(|error| refused(&error))?;
    let lacks_issuer = facts.lacks_issuer;
    let name = name(request.name, &facts.names)?;
    let before = record_of(&api, org, &name);
    let record = certificates::seal(&api.vault, org, &facts.fingerprint, &bundle).await?;
    let spec = Certificate {
        org,
        names: facts.names.clone(),
        source: Source::Upload,
        issued: Some(certificates::issued(facts, record)),
    };
    let set = Command::SetCertificate(Box::new(certificate::Set { name, spec }));
    let made = api.engine.submit(set, origin).await;
    // Whether a certificate came of it is not known while the log cannot be read.
    if !made.as_ref().is_err_and(|problem| problem.code == Code::Unavailable) {
        for record in [Some(record), before].into_iter().flatten() {
            certificates::remove_unused(&api.vault, &api.engine.state(), org, record).await;
        }
    }
    let mut receipt = made?;
    if lacks_issuer {
        receipt.warnings.push(
            "the file has no issuers: clients that do not know the issuer refuse the certificate"
                .to_owned(),
        );
    }
    Ok(Json(receipt))
}

/// What clients are to trust for hosts without a certificate of their own.
pub(super) async fn authority(State(api): State<Api>) -> Result<Json<AuthorityReport>, ApiProblem> {
    let state = api.engine.state();
    let Some(authority) = &state.authority else {
        return Err(Problem::new(Code::Unavailable, "this installation has no authority")
            .hint("the operator finds the cause in the server's output")
            .into());
    };
    Ok(Json(AuthorityReport {
        certificate: authority.certificate.clone(),
        fingerprint: authority.fingerprint.clone(),
        not_after: authority.not_after,
        position: state.position,
    }))
}

/// The name that was given, or one made of the first host.
fn name(given: Option<Name>, hosts: &[String]) -> Result<Name, Problem> {
    let derived = || {
        let first = hosts.first()?;
        Name::derive(&first.replace("*.", "any-"))
    };
    given.or_else(derived).ok_or_else(|| {
        Problem::new(Code::InvalidArgument, "no name can be made of the certificate's hosts")
            .hint("give it one: `--name NAME`")
            .field("name", "missing")
    })
}

fn record_of(api: &Api, org: Id<Org>, name: &Name) -> Option<VersionId> {
    let state = api.engine.state();
    let known = state.certificates.named(Some(org.any()), name)?;
    known.spec.issued.as_ref().map(|it| it.record)
}

fn refused(error: &CertificateError) -> Problem {
    let field = if error.is_about_key() { "key" } else { "certificate" };
    Problem::new(Code::InvalidArgument, error.to_string())
        .hint(error.hint())
        .field(field, error.to_string())
}

/// The body, read. What is wrong with one that cannot be is told by place alone: any
/// word of it may be of the key.
fn parsed(body: &[u8]) -> Result<CertificateRequest, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let detail = format!("the request cannot be read at line {line}, column {column}");
        Problem::new(Code::InvalidArgument, detail).hint("docs/api.md describes the body")
    })
}
