//! Deciding on certificates: whose they are, which takes whose place, and when it is
//! told that one ends.

use helix_model::certificate::{self, Of, PER_ORG_MAX, Phase, Source};
use helix_model::{AnyId, Certificate, Code, Command, Event, Id, Kind, Problem, State};

use super::{Draft, destroy};

/// Takes a certificate in, in place of the one of the same name.
pub(super) fn set(
    draft: &mut Draft<'_, '_>,
    command: &certificate::Set,
) -> Result<Option<AnyId>, Problem> {
    let certificate::Set { name, spec } = command.clone();
    let Some(org) = draft.state.orgs.get(spec.org) else {
        return Err(Problem::not_found(Kind::Org, &spec.org.to_string()));
    };
    destroy::refuse_going(&draft.state, org.id.any())?;
    if spec.phase_at(draft.context.now) == Phase::Expired {
        return Err(Problem::new(Code::InvalidArgument, "the certificate has expired"));
    }
    if let Some(known) = draft.state.certificates.named(Some(org.id.any()), &name) {
        let (id, of) = (known.id, Of::new(known));
        destroy::refuse_going(&draft.state, id.any())?;
        let fingerprint = |it: &Certificate| it.issued.as_ref().map(|it| it.fingerprint.clone());
        if fingerprint(&known.spec) != fingerprint(&spec) {
            draft.emit(Event::CertificateReplaced(certificate::Replaced { of, spec }));
        }
        age(draft, id);
        return Ok(Some(id.any()));
    }
    let there = draft.state.certificates.children(org.id.any());
    if there.filter(|it| it.spec.source == Source::Upload).count() >= PER_ORG_MAX {
        let detail = format!("org `{}` has {PER_ORG_MAX} certificates already", org.name);
        return Err(Problem::new(Code::QuotaExceeded, detail)
            .hint("destroy one that is not needed: `helix certificates destroy NAME`"));
    }
    let id = draft.fresh_id();
    draft.emit(Event::CertificateCreated(certificate::Created { id, name, spec }));
    age(draft, id);
    Ok(Some(id.any()))
}

/// Notes that another part of its life has begun, when one has.
pub(super) fn age(draft: &mut Draft<'_, '_>, id: Id<Certificate>) -> Option<AnyId> {
    let known = draft.state.certificates.get(id)?;
    let phase = known.spec.phase_at(draft.context.now);
    if phase != known.status.phase {
        let (of, issued) = (Of::new(known), known.spec.issued.as_ref());
        // What has not been issued has no age.
        let not_after = issued.map_or(draft.context.now, |issued| issued.not_after);
        let changed = certificate::StatusChanged { of, phase, not_after };
        draft.emit(Event::CertificateStatusChanged(changed));
    }
    Some(id.any())
}

/// Gives the installation an authority, if it has none.
pub(super) fn set_authority(
    draft: &mut Draft<'_, '_>,
    command: &certificate::SetAuthority,
) -> Option<AnyId> {
    if draft.state.authority.is_none() {
        let authority = command.authority.clone();
        draft.emit(Event::AuthoritySet(certificate::AuthoritySet { authority }));
    }
    None
}

/// What whoever brings a certificate should know.
pub(super) fn warnings(after: &State, command: &Command, subject: Option<AnyId>) -> Vec<String> {
    let Command::SetCertificate(_) = command else { return Vec::new() };
    let known = subject.and_then(AnyId::typed).and_then(|id| after.certificates.get(id));
    let Some(known) = known.filter(|it| it.status.phase == Phase::Expiring) else {
        return Vec::new();
    };
    let end = known.spec.issued.as_ref().map(|issued| issued.not_after.to_string());
    vec![format!("certificate `{}` expires at {}", known.name, end.unwrap_or_default())]
}
