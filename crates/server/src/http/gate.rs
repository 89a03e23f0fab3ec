//! What every request passes: request id, proof of identity, the route's rule,
//! read-your-writes.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use helix_model::api::{POSITION_HEADER, SecretText, WAIT_POSITION_HEADER};
use helix_model::audit::{Attempt, Decision};
use helix_model::{AnyId, Code, Permission, Problem, version};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::access::Caller;
use super::identity::{self, Guest, Refusal};
use super::problem::ApiProblem;
use super::routes::{Route, Rule};
use super::{Api, sender};
use crate::auth::buckets::Level;
use crate::engine::Origin;
use crate::entropy;
use crate::token::Token;

/// How long a read waits for a log position that is not there yet.
const POSITION_WAIT: Duration = Duration::from_secs(5);

/// A request body longer than this is refused: the largest is a manifest. Layers
/// of images stream past this limit.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The same of a body that has to be read before anyone knows who sends it.
const UNKNOWN_BODY_BYTES_MAX: usize = 16 * 1024;

pub(super) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
const POSITION: HeaderName = HeaderName::from_static(POSITION_HEADER);

/// Longest request id taken over from a caller.
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// The request came without proof of who sends it; the problem to answer with
/// where that matters. The other case is a [`Caller`].
#[derive(Clone)]
pub(super) struct Anonymous {
    problem: Problem,
    /// What to note when the request is refused for it.
    attempt: Attempt,
}

/// Why a request was refused that nobody signed.
const NO_TOKEN: &str = "no_token";

/// What a route's gate knows: whom it lets through to what. `None` is what stands
/// before no route.
pub(super) type Post = (Api, Option<&'static Route>);

/// Gives the request an id, finds out who asks, lets through whom the rule of the
/// route allows, and gives the response the id and the log position.
///
/// One layer and not one for each step: a layer costs several allocations, and
/// every request passes here.
pub(super) async fn pass(
    State((api, route)): State<Post>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        !id.is_empty()
            && id.len() <= REQUEST_ID_LENGTH_MAX
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let id = given.filter(is_plain);
    let request_id: Arc<str> = id.map_or_else(|| entropy::request_id().into(), Arc::from);
    let source = sender::read(request.headers(), &api.token, &request_id).unwrap_or_else(|| {
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|it| it.0.ip())
    });
    let guest = Guest { request_id: Arc::clone(&request_id), source };
    if !request.method().is_safe() {
        DefaultBodyLimit::max(BODY_BYTES_MAX).apply(&mut request);
    }
    let response = match version_problem(&api, &request) {
        Some(problem) => ApiProblem(problem).into_response(),
        None => identify(&api, route, guest, request, next).await,
    };
    stamp(&api, &request_id, response)
}

fn stamp(api: &Api, request_id: &str, response: Response) -> Response {
    let mut response = super::problem::with_request_id(response, request_id);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID_HEADER, id);
    }
    headers.insert(POSITION, HeaderValue::from(api.engine.present().position));
    response
}

/// Where a command line of any version learns which one answers.
const ANY_VERSION: [&str; 2] = ["/v1/version", "/v1/health"];

/// Refuses a command line that is too far from this server, before anything is
/// done that it would not understand the answer of.
fn version_problem(api: &Api, request: &Request) -> Option<Problem> {
    let sender = request.headers().get(header::USER_AGENT)?.to_str().ok()?;
    let client = sender.strip_prefix(version::USER_AGENT_PREFIX)?;
    if version::are_compatible(client, &api.version) || ANY_VERSION.contains(&request.uri().path())
    {
        return None;
    }
    let (server, window) = (&api.version, version::WINDOW_MINORS);
    let detail = format!(
        "this `helix` is version {client} and the server {server}; they may be {window} minor \
         versions of the same major version apart"
    );
    let hint = format!("use a `helix` of version {server}; `helix version` shows both");
    Some(Problem::new(Code::PreconditionFailed, detail).hint(hint))
}

/// Finds out who asks; whether they may is for the rules to say. Then waits
/// until the state is as new as they want it.
async fn identify(
    api: &Api,
    route: Option<&'static Route>,
    guest: Guest,
    mut request: Request,
    next: Next,
) -> Response {
    if matches!(route, Some(Route { rule: Rule::OrgOrAnyone(_), .. })) {
        request = match with_token_of_body(request).await {
            Ok(request) => request,
            Err(problem) => return ApiProblem(problem).into_response(),
        };
    }
    let caller = match caller(api, request.headers(), &guest) {
        Ok(caller) => {
            // Only for who is known: a wait costs memory.
            if let Err(problem) = reach_position(api, request.headers()).await {
                return ApiProblem(problem).into_response();
            }
            Ok(caller)
        }
        Err(anonymous) => Err(anonymous),
    };
    let Some(route) = route else {
        match caller {
            Ok(caller) => request.extensions_mut().insert(caller).map(drop),
            Err(anonymous) => request.extensions_mut().insert(*anonymous).map(drop),
        };
        return next.run(request).await;
    };
    if route.rule == Rule::Open {
        request.extensions_mut().insert(guest);
        return next.run(request).await;
    }
    match caller {
        Ok(caller) => permit(api, route, caller, request, next).await,
        Err(anonymous) if is_let_in(api, route, &anonymous) => {
            request.extensions_mut().insert(guest);
            next.run(request).await
        }
        Err(anonymous) => refuse(api, route, *anonymous, request, next).await,
    }
}

/// Whether who sent no token at all may ask for this. One that is no good is not as if
/// there were none: whoever sends it takes themselves for somebody.
fn is_let_in(api: &Api, route: &Route, anonymous: &Anonymous) -> bool {
    matches!(route.rule, Rule::OrgOrAnyone(_))
        && anonymous.attempt.reason == NO_TOKEN
        && api.engine.state().anonymous_tunnels.open().is_some()
}

/// Where it has no Authorization header, the request with the one that its body stands
/// for.
async fn with_token_of_body(request: Request) -> Result<Request, Problem> {
    #[derive(Deserialize)]
    struct Sent {
        management_token: Option<SecretText>,
    }
    if request.headers().contains_key(header::AUTHORIZATION) {
        return Ok(request);
    }
    let (mut parts, body) = request.into_parts();
    let read = axum::body::to_bytes(body, UNKNOWN_BODY_BYTES_MAX).await;
    let bytes = read.map_err(|error| {
        let detail = format!("the body of a request without Authorization cannot be read: {error}");
        Problem::new(Code::PayloadTooLarge, detail)
    })?;
    let sent = serde_json::from_slice::<Sent>(&bytes).ok();
    if let Some(token) = sent.and_then(|sent| sent.management_token) {
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        if let Ok(mut value) = HeaderValue::from_str(&bearer) {
            value.set_sensitive(true);
            parts.headers.insert(header::AUTHORIZATION, value);
        }
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Notes a request that nobody knows the sender of, and refuses it.
async fn refuse(
    api: &Api,
    route: &'static Route,
    anonymous: Anonymous,
    request: Request,
    next: Next,
) -> Response {
    let Anonymous { problem, attempt } = anonymous;
    api.audit.note(Attempt { operation: route.operation.to_owned(), ..attempt });
    match route.rule {
        // The registry refuses in its own words.
        Rule::Repository(_) => next.run(request).await,
        _ => ApiProblem(problem).into_response(),
    }
}

/// Lets through whom the route's rule allows, and notes whom it, or the handler,
/// refuses.
async fn permit(
    api: &Api,
    route: &'static Route,
    caller: Caller,
    mut request: Request,
    next: Next,
) -> Response {
    let level = match limit(api, &caller, request.method()) {
        Ok(level) => level,
        Err((level, problem)) => {
            return with_level(ApiProblem(problem).into_response(), Some(level));
        }
    };
    let response = match allow(route.rule, &caller) {
        Ok(need) => {
            request.extensions_mut().insert(caller.clone().asking(need));
            next.run(request).await
        }
        Err(problem) => ApiProblem(problem).into_response(),
    };
    note_refusal(api, route, &caller, &response);
    with_level(response, level)
}

/// Whether the rule lets a caller as far as the handler, which is told the
/// permission to ask for once it knows what is meant.
fn allow(rule: Rule, caller: &Caller) -> Result<Option<Permission>, Problem> {
    match rule {
        Rule::Open | Rule::SignedIn => Ok(None),
        Rule::Reads => caller.must_read_something().map(|()| None),
        Rule::Org(permission) | Rule::OrgOrAnyone(permission) => {
            caller.must_have(permission).map(|()| Some(permission))
        }
        Rule::Repository(permission) => Ok(Some(permission)),
        Rule::Installation(permission) => {
            caller.must_run_installation(permission).map(|()| Some(permission))
        }
    }
}

/// Counts the request, unless the caller runs the installation.
fn limit(api: &Api, caller: &Caller, method: &Method) -> Result<Option<Level>, (Level, Problem)> {
    match caller.token {
        Some(token) if caller.power.everywhere.is_empty() => {
            api.limits.request(token, caller.power.only_org(), method.is_safe()).map(Some)
        }
        _ => Ok(None),
    }
}

fn with_level(mut response: Response, level: Option<Level>) -> Response {
    let Some(level) = level else { return response };
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(level.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(level.remaining));
    headers.insert("x-ratelimit-reset", HeaderValue::from(level.wait.as_secs() + 1));
    response
}

/// Notes what was refused for want of a right, also when it was answered as if
/// there were no such thing.
fn note_refusal(api: &Api, route: &Route, caller: &Caller, response: &Response) {
    let refused = caller.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
    let status = response.status();
    if refused.is_none() && !matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) {
        return;
    }
    let hidden = status == StatusCode::NOT_FOUND;
    let reason = if hidden { "other_org" } else { "forbidden" };
    let attempt = caller.attempt(route.operation, Decision::Deny, reason);
    let (org, target) = refused.map_or((None, String::new()), |it| (it.org, it.target));
    // Whose it was is told to that org: it is who should know.
    api.audit.note(Attempt { org: org.or(caller.power.only_org()), target, ..attempt });
}

/// An origin for a change of what has to be the version its author saw.
pub(super) fn expecting(mut origin: Origin, id: AnyId, version: Option<u64>) -> Origin {
    origin.precondition = version.map(|version| (id, version));
    origin
}

/// Who asks, or the problem that nobody knows.
pub(super) fn known(request: &Request) -> Result<Caller, Problem> {
    if let Some(caller) = request.extensions().get::<Caller>() {
        return Ok(caller.clone());
    }
    let anonymous = request.extensions().get::<Anonymous>();
    let problem = anonymous.map(|anonymous| anonymous.problem.clone());
    Err(problem.unwrap_or_else(|| Problem::new(Code::Unauthorized, "no token was sent")))
}

fn caller(api: &Api, headers: &HeaderMap, guest: &Guest) -> Result<Caller, Box<Anonymous>> {
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        let problem = Problem::new(Code::Unauthorized, "no token was sent");
        let attempt = guest.attempt("", "", Decision::Deny, NO_TOKEN);
        return Err(Box::new(Anonymous { problem, attempt }));
    };
    let sent = header.to_str().ok().and_then(token).map(|token| token.hash());
    let refusal = match sent {
        Some(sent) => match identity::caller(api, &sent, guest) {
            Ok(caller) => return Ok(caller),
            Err(refusal) => refusal,
        },
        None => Refusal {
            problem: Box::new(Problem::new(
                Code::Unauthorized,
                "no token can be read from the header",
            )),
            reason: "unknown_token",
            was: None,
        },
    };
    let problem = guest.failed(api, *refusal.problem);
    let mut attempt = guest.attempt("", "", Decision::Deny, refusal.reason);
    if let Some((actor, token, org)) = refusal.was {
        attempt = Attempt { actor: Some(actor), token: Some(token), org, ..attempt };
    }
    Err(Box::new(Anonymous { problem, attempt }))
}

/// The token in an authorization header: as bearer, or as the password of HTTP
/// Basic (what registry clients send).
fn token(header: &str) -> Option<Token> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Token::from_text(rest.trim()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| Token::from_text(password))
}

async fn reach_position(api: &Api, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(wanted) = headers.get(WAIT_POSITION_HEADER) else { return Ok(()) };
    let Some(position) = wanted.to_str().ok().and_then(|text| text.parse().ok()) else {
        let detail = format!("`{WAIT_POSITION_HEADER}` is not a log position");
        return Err(Problem::new(Code::InvalidArgument, detail));
    };
    if api.engine.reached(position, POSITION_WAIT).await {
        return Ok(());
    }
    let detail = format!("log position {position} has not been reached");
    Err(Problem::new(Code::TimedOut, detail))
}
