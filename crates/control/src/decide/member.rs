//! Deciding on members: who is what in an org. Once an org has an owner, it
//! keeps at least one.

use helix_model::{
    AnyId, Code, Event, Id, Kind, Member, Name, Org, Problem, Role, State, User, member,
};

use super::Draft;

/// Makes a user a member, or gives a member another role.
pub(super) fn set(
    draft: &mut Draft<'_, '_>,
    command: &member::Set,
) -> Result<Option<AnyId>, Problem> {
    let member::Set { org, user, role } = *command;
    let state = &draft.state;
    if state.orgs.get(org).is_none() {
        return Err(Problem::not_found(Kind::Org, &org.to_string()));
    }
    let Some(name) = state.users.get(user).map(|user| user.name.clone()) else {
        return Err(Problem::not_found(Kind::User, &user.to_string()));
    };
    let Some(known) = state.members.named(Some(org.any()), &name) else {
        let id = draft.fresh_id();
        let spec = Member { org, user, role };
        draft.emit(Event::MemberAdded(member::Added { id, name, spec }));
        return Ok(Some(id.any()));
    };
    let (id, before) = (known.id, known.spec.role);
    if before == role {
        return Ok(Some(id.any()));
    }
    if before == Role::Owner {
        must_not_be_last_owner(state, org, user)?;
    }
    let of = member::Which { id, org, name };
    draft.emit(Event::MemberRoleChanged(member::RoleChanged { of, role }));
    Ok(Some(id.any()))
}

/// Takes a user out of an org.
pub(super) fn remove(draft: &mut Draft<'_, '_>, id: Id<Member>) -> Result<Option<AnyId>, Problem> {
    let Some(member) = draft.state.members.get(id) else {
        return Err(Problem::not_found(Kind::Member, &id.to_string()));
    };
    let (org, name) = (member.spec.org, member.name.clone());
    if member.spec.role == Role::Owner {
        must_not_be_last_owner(&draft.state, org, member.spec.user)?;
    }
    emit_removed(draft, org, &name);
    Ok(Some(id.any()))
}

/// The event alone, for who has asked everything else.
pub(super) fn emit_removed(draft: &mut Draft<'_, '_>, org: Id<Org>, name: &Name) {
    let Some(member) = draft.state.members.named(Some(org.any()), name) else {
        return;
    };
    let of = member::Which { id: member.id, org, name: name.clone() };
    draft.emit(Event::MemberRemoved(member::Removed { of }));
}

/// Refuses to leave an org without anyone who may make owners.
pub(super) fn must_not_be_last_owner(
    state: &State,
    org: Id<Org>,
    user: Id<User>,
) -> Result<(), Problem> {
    let mut owners = state.members.children(org.any());
    if owners.any(|it| it.spec.role == Role::Owner && it.spec.user != user) {
        return Ok(());
    }
    let org = state.orgs.get(org).map_or("the org", |org| org.name.as_str());
    let detail = format!("they are the last owner of `{org}`");
    Err(Problem::new(Code::PreconditionFailed, detail)
        .hint("make someone else an owner first: `helix members set NAME --role owner`"))
}
