//! Deciding on logins at registries.

use helix_model::api::OWN_REGISTRY;
use helix_model::registry::{
    HOST_BYTES_MAX, LOGINS_MAX, LoginRemoved, LoginSet, RemoveLogin, SetLogin, USERNAME_BYTES_MAX,
    is_host,
};
use helix_model::{AnyId, Code, Event, Kind, Problem};

use super::{Draft, destroy};

/// Sets a login, in place of the one before.
pub(super) fn set(draft: &mut Draft<'_, '_>, command: &SetLogin) -> Result<Option<AnyId>, Problem> {
    let SetLogin { org, host, login } = command.clone();
    let Some(known) = draft.state.orgs.get(org) else {
        return Err(Problem::not_found(Kind::Org, &org.to_string()));
    };
    destroy::refuse_going(&draft.state, org.any())?;
    check_host(&host)?;
    let length = login.username.len();
    if length == 0 || length > USERNAME_BYTES_MAX || login.username.chars().any(char::is_control) {
        let detail =
            format!("a user name has 1 to {USERNAME_BYTES_MAX} bytes, all of them visible");
        return Err(Problem::new(Code::InvalidArgument, detail).field("username", "invalid"));
    }
    if !known.spec.registries.contains_key(&host) && known.spec.registries.len() >= LOGINS_MAX {
        let detail = format!("org `{}` has logins at {LOGINS_MAX} registries already", known.name);
        return Err(Problem::new(Code::QuotaExceeded, detail)
            .hint("remove one that is not needed: `helix registries remove HOST`"));
    }
    draft.emit(Event::OrgRegistrySet(LoginSet { org, host, login }));
    Ok(Some(org.any()))
}

/// Removes a login.
pub(super) fn remove(
    draft: &mut Draft<'_, '_>,
    command: &RemoveLogin,
) -> Result<Option<AnyId>, Problem> {
    let RemoveLogin { org, host } = command.clone();
    let Some(known) = draft.state.orgs.get(org) else {
        return Err(Problem::not_found(Kind::Org, &org.to_string()));
    };
    if !known.spec.registries.contains_key(&host) {
        let detail = format!("org `{}` has no login at `{host}`", known.name);
        return Err(
            Problem::new(Code::NotFound, detail).hint("`helix registries list` shows where it has")
        );
    }
    draft.emit(Event::OrgRegistryRemoved(LoginRemoved { org, host }));
    Ok(Some(org.any()))
}

fn check_host(host: &str) -> Result<(), Problem> {
    let detail = match host {
        OWN_REGISTRY => "the built-in registry knows its users by their tokens".to_owned(),
        host if !is_host(host) => {
            format!(
                "`{}` is not the host of a registry",
                host.chars().take(HOST_BYTES_MAX).collect::<String>()
            )
        }
        _ => return Ok(()),
    };
    Err(Problem::new(Code::InvalidArgument, detail)
        .hint("write it as in a reference: ghcr.io, registry.internal:5000")
        .field("host", "invalid"))
}
