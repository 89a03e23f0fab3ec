//! `/v1/auth`: how a person's program gets a token, and who a token is.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::access::{
    DeviceStart, DeviceStartRequest, DeviceTokenRequest, OrgAccess, PasswordRequest, SetupRequest,
    TokenReply, WhoAmI,
};
use helix_model::audit::Decision;
use helix_model::name::NAME_LENGTH_MAX;
use helix_model::token::Owner;
use helix_model::{Actor, Code, Command, Id, Name, Problem, Receipt, Token, User};

use super::Api;
use super::access::Caller;
use super::identity::Guest;
use super::problem::{ApiProblem, Body};
use super::tokens;
use crate::auth::devices::{CLIENT_BYTES_MAX, LIFE_MS, POLL_INTERVAL, shown_user_code};

/// Where a person approves a login.
pub(super) const DEVICE_PATH: &str = "/device";

/// Names tried for a token when a machine logs in again: the plain one, then
/// numbered ones.
const TOKEN_NAMES_MAX: usize = 100;

/// Begins a login of a program without a browser.
pub(super) async fn device_start(
    State(api): State<Api>,
    Extension(guest): Extension<Guest>,
    Body(request): Body<DeviceStartRequest>,
) -> Result<Json<DeviceStart>, ApiProblem> {
    let printable = |letter: char| !letter.is_control();
    if request.client.len() > CLIENT_BYTES_MAX || !request.client.chars().all(printable) {
        let detail =
            format!("the name of a client has at most {CLIENT_BYTES_MAX} plain characters");
        return Err(Problem::new(Code::InvalidArgument, detail).field("client", "unusable").into());
    }
    api.limits.must_be_few_starts(guest.source)?;
    let started = api.devices.start(request.client, guest.source).await?;
    Ok(Json(DeviceStart {
        device_code: started.device_code.reveal().to_owned(),
        user_code: shown_user_code(&started.user_code),
        verification_path: DEVICE_PATH.to_owned(),
        expires_in_seconds: u64::try_from(LIFE_MS / 1000).unwrap_or_default(),
        poll_interval_seconds: POLL_INTERVAL.as_secs(),
    }))
}

/// Answers a poll: a token once somebody approved.
pub(super) async fn device_token(
    State(api): State<Api>,
    Extension(guest): Extension<Guest>,
    Body(request): Body<DeviceTokenRequest>,
) -> Result<Json<TokenReply>, ApiProblem> {
    api.limits.must_be_few_polls(guest.source)?;
    let approved = api.devices.poll(&request.device_code).await?;
    let state = api.engine.state();
    let user = state.users.get(approved.user);
    let user = user.ok_or_else(|| Problem::new(Code::AccessDenied, "the user is gone"))?;
    let actor = Actor::User(user.name.to_string());
    let name = free_name(&api, approved.user, &approved.client)?;
    let expires_at = tokens::expiry(None)?;
    let spec = Token { owner: Owner::User(approved.user), scopes: None, org: None, expires_at };
    Ok(Json(tokens::issue(&api, guest.origin(actor), name, spec).await?))
}

/// A name for the token of a machine, as close to what it calls itself as is free.
fn free_name(api: &Api, user: Id<User>, client: &str) -> Result<Name, Problem> {
    let state = api.engine.state();
    let plain = Name::derive(client).or_else(|| Name::derive("login"));
    let plain = plain.ok_or_else(|| Problem::new(Code::Internal, "no name can be made"))?;
    let numbered = (2..TOKEN_NAMES_MAX).filter_map(|number| {
        let number = number.to_string();
        let front: String =
            plain.as_str().chars().take(NAME_LENGTH_MAX - 1 - number.len()).collect();
        format!("{}-{number}", front.trim_end_matches('-')).parse().ok()
    });
    let mut names = std::iter::once(plain.clone()).chain(numbered);
    let free = names.find(|name| state.tokens.named(Some(user.any()), name).is_none());
    free.ok_or_else(|| Problem::new(Code::PreconditionFailed, "too many tokens have this name"))
}

/// Who the token is.
pub(super) async fn whoami(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Json<WhoAmI> {
    let state = api.engine.state();
    let token = caller.token.and_then(|id| state.tokens.get(id));
    let orgs = caller.power.orgs.iter().filter_map(|(org, scopes)| {
        Some(OrgAccess { org: state.orgs.get(*org)?.name.clone(), scopes: *scopes })
    });
    Json(WhoAmI {
        actor: caller.actor.clone(),
        token: token.map(|token| token.name.to_string()),
        expires_at: token.map(|token| token.spec.expires_at),
        everywhere: caller.power.everywhere,
        orgs: orgs.collect(),
    })
}

/// A user chooses a password with the code they were given.
pub(super) async fn setup(
    State(api): State<Api>,
    Extension(guest): Extension<Guest>,
    Body(request): Body<SetupRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    Ok(Json(choose_password(&api, &guest, request).await?))
}

/// The same for the page.
pub(super) async fn choose_password(
    api: &Api,
    guest: &Guest,
    request: SetupRequest,
) -> Result<Receipt, Problem> {
    api.limits.must_be_few_failures(guest.source, request.user.as_str())?;
    let known = api.engine.state().users.named(None, &request.user).map(|user| user.id);
    let fits = match known {
        Some(user) => api.accounts.is_setup_code(user, &request.setup_code).await?,
        None => false,
    };
    let Some(user) = known.filter(|_| fits) else {
        api.limits.failed(guest.source, request.user.as_str());
        guest.note(api, "choose_password", request.user.as_str(), "setup_code_refused");
        return Err(Problem::new(
            Code::AccessDenied,
            "the setup code is not known, or not any more",
        )
        .hint("ask an operator for another: `helix users setup NAME`"));
    };
    api.accounts.set_password(user, request.password).await?;
    let origin = guest.origin(Actor::User(request.user.to_string()));
    api.engine.submit(Command::ChangeUserPassword(user), origin).await
}

/// A user changes their password.
pub(super) async fn password(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<PasswordRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let Some(user) = caller.user else {
        let detail = "only users have a password, and no user is asking";
        return Err(Problem::new(Code::PreconditionFailed, detail).into());
    };
    caller.must_not_be_narrowed()?;
    let name = api.engine.state().users.get(user).map(|user| user.name.clone());
    let name = name.ok_or_else(|| Problem::new(Code::AccessDenied, "the user is gone"))?;
    authenticate(&api, &caller.guest, &name, request.current, "change_password").await?;
    api.accounts.set_password(user, request.new).await?;
    let origin = caller.guest.origin(caller.actor.clone());
    Ok(Json(api.engine.submit(Command::ChangeUserPassword(user), origin).await?))
}

/// The user of this name, if this is their password. Takes as long for a user
/// that is not there, and is recorded either way.
pub(super) async fn authenticate(
    api: &Api,
    guest: &Guest,
    name: &Name,
    password: String,
    operation: &str,
) -> Result<Id<User>, Problem> {
    api.limits.must_be_few_failures(guest.source, name.as_str())?;
    let user = api.engine.state().users.named(None, name).map(|user| user.id);
    let fits = api.accounts.fits(user, password).await?;
    let Some(user) = user.filter(|_| fits) else {
        api.limits.failed(guest.source, name.as_str());
        guest.note(api, operation, name.as_str(), "wrong_password");
        return Err(Problem::new(Code::AccessDenied, "the name or the password is wrong")
            .hint("an operator gives out a new setup code: `helix users setup NAME`"));
    };
    let actor = Some(Actor::User(name.to_string()));
    let attempt = guest.attempt(operation, name.as_str(), Decision::Allow, "password");
    api.audit.record(helix_model::audit::Attempt { actor, ..attempt }).await?;
    Ok(user)
}
