//! `/v1/tokens`: making and revoking. A personal token is its user's business, a
//! service token that of who manages the org. Reading them is like reading any
//! other kind.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::access::{TokenReply, TokenRequest};
use helix_model::reference::Scope;
use helix_model::token::{LIFE_DAYS_DEFAULT, LIFE_DAYS_MAX, Owner};
use helix_model::{
    Code, Command, Id, Kind, Name, Permission, Problem, Receipt, Timestamp, Token, token,
};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};
use super::scale::request_hash;
use crate::clock;
use crate::engine::Origin;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Makes a token and shows it, this once.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(request): Body<TokenRequest>,
) -> Result<Json<TokenReply>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash("token", &request))?;
    let spec = spec(&api, &caller, &request)?;
    Ok(Json(issue(&api, origin, request.name, spec).await?))
}

/// Makes a token of what was checked already.
pub(super) async fn issue(
    api: &Api,
    origin: Origin,
    name: Name,
    spec: Token,
) -> Result<TokenReply, Problem> {
    let fresh = crate::token::Token::fresh();
    let (hash, expires_at) = (fresh.hash().model(), spec.expires_at);
    let command = Command::CreateToken(token::Create { name, spec, hash });
    let receipt = api.engine.submit(command, origin).await?;
    let made = receipt.subject.as_ref().map(|subject| subject.id);
    let known = api.engine.state().issued.get(&hash).map(|issued| issued.id.any());
    if known.is_none() || known != made {
        // A repeat of an earlier request: its receipt stands, its token was
        // shown then and cannot be shown again.
        let detail = "an earlier request with this key made the token and was shown it";
        return Err(Problem::new(Code::Conflict, detail)
            .hint("if it was lost, revoke it with `helix tokens revoke` and make another"));
    }
    Ok(TokenReply { receipt, token: fresh.reveal().to_owned(), expires_at })
}

/// When a token of so many days ends.
pub(super) fn expiry(days: Option<u32>) -> Result<Timestamp, Problem> {
    let days = days.unwrap_or(LIFE_DAYS_DEFAULT);
    if !(1..=LIFE_DAYS_MAX).contains(&days) {
        let detail = format!("a token lives for 1 to {LIFE_DAYS_MAX} days");
        return Err(
            Problem::new(Code::InvalidArgument, detail).field("expires_in_days", "out of range")
        );
    }
    Ok(Timestamp(clock::now().0 + i64::from(days) * DAY_MS))
}

fn spec(api: &Api, caller: &Caller, request: &TokenRequest) -> Result<Token, Problem> {
    let expires_at = expiry(request.expires_in_days)?;
    let state = api.engine.state();
    let scopes = request.scopes;
    if request.service {
        let missing = || {
            Problem::new(Code::InvalidArgument, "a service token belongs to an org")
                .field("org", "missing")
        };
        let name = request.org.as_ref().ok_or_else(missing)?;
        let org = caller.org_for(&state, name, Permission::OrgsAdmin)?;
        let wanted = scopes.unwrap_or_default();
        caller.must_hold_in(org, wanted)?;
        return Ok(Token { owner: Owner::Org(org), scopes: Some(wanted), org: None, expires_at });
    }
    let Some(user) = caller.user else {
        let detail = "a personal token belongs to a user, and no user is asking";
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint("log in with `helix auth login`, or make a service token of an org"));
    };
    caller.must_not_be_narrowed()?;
    let org = match &request.org {
        Some(name) => Some(caller.known_org(&state, name)?),
        None => None,
    };
    Ok(Token { owner: Owner::User(user), scopes, org, expires_at })
}

/// Ends a token at once, everywhere.
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash(&reference, &"revoke_token"))?;
    let id = revocable(&api, &caller, &reference, &scope)?;
    Ok(Json(api.engine.submit(Command::RevokeToken(id), origin).await?))
}

/// A token may always end itself; its user may end their others, who manages an
/// org the org's, operators all.
fn revocable(
    api: &Api,
    caller: &Caller,
    reference: &str,
    scope: &Scope,
) -> Result<Id<Token>, Problem> {
    let state = api.engine.state();
    let missing = || Problem::not_found(Kind::Token, reference);
    let own = caller.token.filter(|_| reference == "self");
    if let Some(own) = own {
        return Ok(own);
    }
    let id = caller.resolve(&state, Kind::Token, reference, scope)?;
    let token = id.typed::<Token>().and_then(|id| state.tokens.get(id)).ok_or_else(missing)?;
    if caller.token == Some(token.id) {
        return Ok(token.id);
    }
    match token.spec.owner {
        Owner::User(user) if caller.user == Some(user) => caller.must_not_be_narrowed()?,
        Owner::User(_) => {
            caller.must_run_installation(Permission::NodesAdmin).map_err(|_| missing())?;
        }
        Owner::Org(org) => caller.must_have_in(org, Permission::OrgsAdmin)?,
    }
    Ok(token.id)
}
