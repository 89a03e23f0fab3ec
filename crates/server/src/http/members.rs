//! `/v1/members`: who is what in an org. Reading them is like reading any other
//! kind.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::access::MemberRequest;
use helix_model::reference::Scope;
use helix_model::{Command, Kind, Member, Permission, Problem, Receipt, Role, member};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};
use super::scale::request_hash;

/// Makes a user a member, or gives a member another role.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(request): Body<MemberRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash("member", &request))?;
    let state = api.engine.state();
    let org = caller.org(&state, &request.org)?;
    let before = state.members.named(Some(org.any()), &request.user).map(|it| it.spec.role);
    if request.role == Role::Owner || before == Some(Role::Owner) {
        caller.must_have_in(org, Permission::OrgsOwn)?;
    }
    let user = state.users.named(None, &request.user);
    let user = user.ok_or_else(|| Problem::not_found(Kind::User, request.user.as_str()))?.id;
    drop(state);
    let command = Command::SetMember(member::Set { org, user, role: request.role });
    Ok(Json(api.engine.submit(command, origin).await?))
}

/// Takes a member out of the org.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash(&reference, &"remove_member"))?;
    let state = api.engine.state();
    let id = caller.resolve(&state, Kind::Member, &reference, &scope)?;
    let member = id.typed::<Member>().and_then(|id| state.members.get(id));
    let member = member.ok_or_else(|| Problem::not_found(Kind::Member, &reference))?;
    if member.spec.role == Role::Owner {
        caller.must_have_in(member.spec.org, Permission::OrgsOwn)?;
    }
    let command = Command::RemoveMember(member.id);
    drop(state);
    Ok(Json(api.engine.submit(command, origin).await?))
}
