//! Deciding on users.

use helix_model::token::Owner;
use helix_model::{AnyId, Code, Event, Id, Kind, Problem, Resource, Role, User, user};

use super::{Draft, member, token};

/// Makes a user; the name is unique in the installation.
pub(super) fn create(
    draft: &mut Draft<'_, '_>,
    command: &user::Create,
) -> Result<Option<AnyId>, Problem> {
    if draft.state.users.named(None, &command.name).is_some() {
        let detail = format!("there is already a user `{}`", command.name);
        return Err(Problem::new(Code::NameTaken, detail));
    }
    let id = draft.fresh_id();
    let (name, operator) = (command.name.clone(), command.operator);
    draft.emit(Event::UserCreated(user::Created { id, name, operator }));
    Ok(Some(id.any()))
}

/// Lets a user run the installation, or no longer.
pub(super) fn set_operator(
    draft: &mut Draft<'_, '_>,
    command: &user::SetOperator,
) -> Result<Option<AnyId>, Problem> {
    let (id, operator) = (command.user, command.operator);
    if known(draft, id)?.spec.operator != operator {
        draft.emit(Event::UserOperatorChanged(user::OperatorChanged { id, operator }));
    }
    Ok(Some(id.any()))
}

/// A user chose a password.
pub(super) fn change_password(
    draft: &mut Draft<'_, '_>,
    id: Id<User>,
) -> Result<Option<AnyId>, Problem> {
    known(draft, id)?;
    draft.emit(Event::UserPasswordChanged(user::PasswordChanged { id }));
    Ok(Some(id.any()))
}

/// Removes a user with their memberships and tokens, unless an org would be left
/// without an owner.
pub(super) fn remove(draft: &mut Draft<'_, '_>, id: Id<User>) -> Result<Option<AnyId>, Problem> {
    let name = known(draft, id)?.name.clone();
    let memberships = draft.state.memberships.get(&id).cloned().unwrap_or_default();
    for (org, role) in &memberships {
        if *role == Role::Owner {
            member::must_not_be_last_owner(&draft.state, *org, id)?;
        }
    }
    for org in memberships.keys() {
        member::emit_removed(draft, *org, &name);
    }
    token::revoke_all(draft, Owner::User(id));
    draft.emit(Event::UserRemoved(user::Removed { id, name }));
    Ok(Some(id.any()))
}

fn known<'d>(draft: &'d Draft<'_, '_>, id: Id<User>) -> Result<&'d Resource<User>, Problem> {
    let known = draft.state.users.get(id);
    known.ok_or_else(|| Problem::not_found(Kind::User, &id.to_string()))
}
