//! `/v1/users`: making people known, and letting them choose a password. Reading
//! them is like reading any other kind.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::access::{CreateUserRequest, OperatorRequest, SetupReply};
use helix_model::reference::Scope;
use helix_model::{Code, Command, Id, Kind, Problem, Receipt, Timestamp, User, user};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path};
use super::scale::request_hash;
use crate::auth::accounts::SETUP_LIFE_MS;
use crate::clock;

/// Where a setup code is used.
const SETUP_PATH: &str = "/setup";

/// Longest address there is (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;

/// Makes a user and a code with which they choose a password.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(request): Body<CreateUserRequest>,
) -> Result<Json<SetupReply>, ApiProblem> {
    if request.email.as_ref().is_some_and(|email| !is_address(email)) {
        let problem = Problem::new(Code::InvalidArgument, "this is not an e-mail address");
        return Err(problem.field("email", "not an address").into());
    }
    let origin = caller.origin(&headers, || request_hash("user", &request))?;
    let CreateUserRequest { name, operator, email } = request;
    let command = Command::CreateUser(user::Create { name, operator });
    let receipt = api.engine.submit(command, origin).await?;
    let id = receipt.subject.as_ref().and_then(|subject| subject.id.typed::<User>());
    let id = id.ok_or_else(|| Problem::new(Code::Internal, "no user was made"))?;
    if let Some(email) = email {
        api.accounts.set_email(id, email).await?;
    }
    with_setup_code(&api, Some(receipt), id).await
}

/// A fresh code, for who lost theirs or the password.
pub(super) async fn setup(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Result<Json<SetupReply>, ApiProblem> {
    let id = named(&api, &caller, &reference)?;
    caller.recorded(&api, "new_setup_code", id.any()).await?;
    with_setup_code(&api, None, id).await
}

/// Lets a user run the installation, or no longer.
pub(super) async fn operator(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    headers: HeaderMap,
    Body(request): Body<OperatorRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash(&reference, &request))?;
    let user = named(&api, &caller, &reference)?;
    let command = Command::SetUserOperator(user::SetOperator { user, operator: request.operator });
    Ok(Json(api.engine.submit(command, origin).await?))
}

/// Removes a user with their memberships, tokens and all that is kept of them.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash(&reference, &"remove_user"))?;
    let id = named(&api, &caller, &reference)?;
    let receipt = api.engine.submit(Command::RemoveUser(id), origin).await?;
    api.accounts.forget(id).await?;
    Ok(Json(receipt))
}

fn named(api: &Api, caller: &Caller, reference: &str) -> Result<Id<User>, Problem> {
    let state = api.engine.state();
    let id = caller.resolve(&state, Kind::User, reference, &Scope::default())?;
    id.typed().ok_or_else(|| Problem::not_found(Kind::User, reference))
}

async fn with_setup_code(
    api: &Api,
    receipt: Option<Receipt>,
    user: Id<User>,
) -> Result<Json<SetupReply>, ApiProblem> {
    let code = api.accounts.new_setup_code(user).await?;
    Ok(Json(SetupReply {
        receipt,
        setup_code: code.reveal().to_owned(),
        setup_path: SETUP_PATH.to_owned(),
        expires_at: Timestamp(clock::now().0 + SETUP_LIFE_MS),
    }))
}

/// Whether mail could be sent there; only sending tells.
fn is_address(text: &str) -> bool {
    let parts = text.split_once('@');
    text.len() <= EMAIL_BYTES_MAX
        && text.chars().all(|letter| !letter.is_control() && !letter.is_whitespace())
        && parts.is_some_and(|(local, host)| !local.is_empty() && !host.is_empty())
}
