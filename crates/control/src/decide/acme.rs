//! Deciding on orders: for which hosts certificates are asked for, what edges answer
//! meanwhile, and when it is tried again.

use std::time::Duration;

use helix_model::acme::{self, PAUSE_MAX, PAUSE_MIN, RETRY_AFTER_MAX};
use helix_model::certificate::{self, Of, Source};
use helix_model::{AnyId, Certificate, Code, Event, Id, Kind, Name, Org, Problem, State};

use super::{Draft, destroy};

/// Stands in for the name of a host of which no letter can be in a name.
const NAMELESS: &str = "host";

/// Pauses are up to a quarter shorter or longer, so that many do not end at once.
const JITTER_DIVISOR: u32 = 4;

/// Has a certificate asked for from now on.
pub(super) fn ask(
    draft: &mut Draft<'_, '_>,
    command: &acme::Ask,
) -> Result<Option<AnyId>, Problem> {
    let acme::Ask { org, host } = command;
    if draft.state.orgs.get(*org).is_none() {
        return Err(Problem::not_found(Kind::Org, &org.to_string()));
    }
    destroy::refuse_going(&draft.state, org.any())?;
    if !acme::is_issuable(host) {
        let detail = format!("no authority can be asked for `{host}`");
        return Err(Problem::new(Code::InvalidArgument, detail));
    }
    if let Some(known) = managed(&draft.state, *org, host) {
        destroy::refuse_going(&draft.state, known.any())?;
        return Ok(Some(known.any()));
    }
    let is_unused = |name: &Name| draft.state.certificates.named(Some(org.any()), name).is_none();
    let name = Name::unused(&host.replace("*.", "any-"), NAMELESS, is_unused);
    let name = name.ok_or_else(|| Problem::new(Code::Internal, "no name is left for it"))?;
    let spec =
        Certificate { org: *org, names: vec![host.clone()], source: Source::Acme, issued: None };
    let id = draft.fresh_id();
    draft.emit(Event::CertificateCreated(certificate::Created { id, name, spec }));
    Ok(Some(id.any()))
}

/// The certificate that is asked for a host of an org.
fn managed(state: &State, org: Id<Org>, host: &str) -> Option<Id<Certificate>> {
    let mut known = state.certificates.children(org.any());
    let is_it = |it: &Certificate| it.source == Source::Acme && it.names == [host];
    known.find(|it| is_it(&it.spec)).map(|it| it.id)
}

/// Has edges answer these challenges.
pub(super) fn offer(draft: &mut Draft<'_, '_>, command: &acme::Offer) -> Option<AnyId> {
    let known = draft.state.certificates.get(command.certificate)?;
    let id = known.id.any();
    if known.status.order.challenges != command.challenges {
        let (of, challenges) = (Of::new(known), command.challenges.clone());
        draft.emit(Event::CertificateChallenged(acme::Challenged { of, challenges }));
    }
    Some(id)
}

/// Notes which of them an edge answers.
pub(super) fn observe(draft: &mut Draft<'_, '_>, command: &acme::Observe) -> Option<AnyId> {
    let edge = command.from.edge;
    if !command.from.is_current(&draft.state) {
        return None;
    }
    let news = draft.state.certificates.iter().filter(|it| {
        let order = &it.status.order;
        let answers = |it: &acme::Challenge| command.tokens.contains(&it.token);
        !order.challenges.is_empty()
            && !order.answered_by.contains(&edge)
            && order.challenges.iter().all(answers)
    });
    for of in news.map(Of::new).collect::<Vec<_>>() {
        draft.emit(Event::CertificateAnswered(acme::Answered { of, edge }));
    }
    Some(edge.any())
}

/// Notes that an order came to nothing, and when it is tried again.
pub(super) fn fail(draft: &mut Draft<'_, '_>, command: &acme::Fail) -> Option<AnyId> {
    let known = draft.state.certificates.get(command.certificate)?;
    let (id, of) = (known.id.any(), Of::new(known));
    let failures = known.status.order.failures.saturating_add(1);
    let asked_for = command.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
    let pause = pause(failures, (draft.context.entropy)()).max(asked_for);
    let again_at = draft.context.now.plus(pause);
    let message = command.message.clone();
    draft.emit(Event::CertificateOrderFailed(acme::Failed { of, message, failures, again_at }));
    Some(id)
}

/// The pause after so many failures in a row.
fn pause(failures: u32, entropy: u128) -> Duration {
    let doublings = failures.saturating_sub(1).min(u32::BITS - 1);
    let usual = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
    let span = usual / JITTER_DIVISOR;
    // Of a thousand steps between the shortest and the longest.
    let steps = u32::try_from(entropy % 1000).unwrap_or(0);
    usual - span + span * 2 * steps / 1000
}

/// Takes in what was issued, in place of what was before.
pub(super) fn issue(draft: &mut Draft<'_, '_>, command: &acme::Issue) -> Option<AnyId> {
    let known = draft.state.certificates.get(command.certificate)?;
    let id = known.id.any();
    // Somebody may have brought one of the same name, or given it up meanwhile.
    if known.spec.source == Source::Acme && draft.state.destroying_since(id).is_none() {
        let spec = Certificate { issued: Some(command.issued.clone()), ..known.spec.clone() };
        let of = Of::new(known);
        draft.emit(Event::CertificateReplaced(certificate::Replaced { of, spec }));
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_day_and_differ() {
        let around =
            |failures: u32| (pause(failures, 0), pause(failures, 500), pause(failures, 999));
        let (shortest, usual, longest) = around(1);
        assert_eq!((shortest.as_secs(), usual.as_secs()), (45, 60));
        assert!(longest > usual && longest < Duration::from_secs(75));
        assert_eq!(around(3).1.as_secs(), 240);
        for failures in [11, 12, 40, u32::MAX] {
            assert!(around(failures).1 <= PAUSE_MAX && around(failures).1 > PAUSE_MAX / 2);
        }
    }
}
