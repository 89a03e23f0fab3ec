//! Deciding on tunnels without a login: whether there may be any, and where they are.

use std::collections::BTreeMap;

use helix_model::quota::{Dimension, QuotaSet};
use helix_model::tunnel::{
    ANONYMOUS, ANONYMOUS_KEPT_FOR, ANONYMOUS_MAX, Anonymous, AnonymousSet, Create, Owner, Protocol,
    SetAnonymous,
};
use helix_model::{AnyId, Code, Event, Id, Name, Org, Problem, org};

use super::{Draft, org as decide_org};

/// Allows them or does so no longer. What there is goes on either way, until its time is over.
pub(super) fn settle(
    draft: &mut Draft<'_, '_>,
    command: SetAnonymous,
) -> Result<Option<AnyId>, Problem> {
    let SetAnonymous { allowed } = command;
    let before = draft.state.anonymous_tunnels;
    let org = before.org.filter(|org| draft.state.orgs.get(*org).is_some());
    let org = match org {
        None if allowed => Some(make_org(draft)?),
        org => org,
    };
    let settled = Anonymous { allowed, org };
    if settled != before {
        draft.emit(Event::AnonymousTunnelsSet(AnonymousSet { settled }));
    }
    Ok(None)
}

/// An org that nobody is a member of.
fn make_org(draft: &mut Draft<'_, '_>) -> Result<Id<Org>, Problem> {
    let is_unused = |name: &Name| draft.state.orgs.named(None, name).is_none();
    let name = Name::unused(ANONYMOUS, ANONYMOUS, is_unused);
    let nameless = || Problem::new(Code::Internal, "no name is left for the org of tunnels");
    let made = decide_org::create(draft, &org::Create { name: name.ok_or_else(nameless)? })?;
    let org = made.and_then(AnyId::typed).ok_or_else(nameless)?;
    let limits = BTreeMap::from([(Dimension::Tunnels, Some(ANONYMOUS_MAX))]);
    draft.emit(Event::QuotaSet(QuotaSet { org: Some(org), limits }));
    Ok(org)
}

/// What is asked for in the name of whoever has no login.
pub(super) fn wish(draft: &Draft<'_, '_>, name: Option<&Name>) -> Result<Create, Problem> {
    let Some(org) = draft.state.anonymous_tunnels.open() else {
        let detail = "this installation has no tunnels without a login";
        return Err(Problem::new(Code::Unauthorized, detail));
    };
    Ok(Create {
        org,
        owner: Owner::anonymous(),
        may_take_over: false,
        protocol: Protocol::Http,
        name: name.cloned(),
        hostname: None,
        port: None,
        kept_for_seconds: ANONYMOUS_KEPT_FOR.as_secs(),
    })
}
