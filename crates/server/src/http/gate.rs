//! What every request passes: request id, proof of identity, the route's rule,
//! read-your-writes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use helix_model::api::{POSITION_HEADER, WAIT_POSITION_HEADER};
use helix_model::{Actor, AnyId, Code, Problem};
use http::{HeaderMap, HeaderValue, header};

use super::Api;
use super::access::{Caller, Power};
use super::problem::ApiProblem;
use super::routes::{Route, Rule};
use crate::engine::Origin;
use crate::entropy;
use crate::token::Token;

/// How long a read waits for a log position that is not there yet.
const POSITION_WAIT: Duration = Duration::from_secs(5);

/// Longest request id taken over from a caller.
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// The id of the request, put there by [`stamp`].
#[derive(Clone)]
pub(super) struct RequestId(pub String);

/// The request came without proof of who sends it; the problem to answer with
/// where that matters. The other case is a [`Caller`].
#[derive(Clone)]
pub(super) struct Anonymous(Problem);

/// Gives the request an id and the response the id and the log position.
pub(super) async fn stamp(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        !id.is_empty()
            && id.len() <= REQUEST_ID_LENGTH_MAX
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let id = given.filter(is_plain).map_or_else(entropy::request_id, str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    response = super::problem::with_request_id(response, &id);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    let position = api.engine.state().position;
    response.headers_mut().insert(POSITION_HEADER, HeaderValue::from(position));
    response
}

/// Finds out who asks; whether they may is for the rules to say. Then waits
/// until the state is as new as they want it.
pub(super) async fn identify(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    let source = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|it| it.0.ip());
    match caller(&api, request.headers(), request_id.unwrap_or_default(), source) {
        Ok(caller) => {
            // Only for who is known: a wait costs memory.
            if let Err(problem) = reach_position(&api, request.headers()).await {
                return ApiProblem(problem).into_response();
            }
            request.extensions_mut().insert(caller);
        }
        Err(problem) => {
            request.extensions_mut().insert(Anonymous(problem));
        }
    }
    next.run(request).await
}

/// Lets through whom the route's rule allows.
pub(super) async fn permit(
    State(route): State<&'static Route>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match (route.rule, known(&request)) {
        // The registry refuses in its own words.
        (Rule::Open | Rule::Repository(_), Err(_)) => return next.run(request).await,
        (_, Err(problem)) => return ApiProblem(problem).into_response(),
        (_, Ok(caller)) => caller,
    };
    let allowed = match route.rule {
        Rule::Open => Ok(None),
        Rule::Reads => caller.must_read_something().map(|()| None),
        Rule::Org(permission) => caller.must_have(permission).map(|()| Some(permission)),
        Rule::Repository(permission) => Ok(Some(permission)),
        Rule::Installation(permission) => {
            caller.must_run_installation(permission).map(|()| Some(permission))
        }
    };
    match allowed {
        Ok(need) => {
            request.extensions_mut().insert(Caller { need, ..caller });
            next.run(request).await
        }
        Err(problem) => ApiProblem(problem).into_response(),
    }
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
    let anonymous = request.extensions().get::<Anonymous>().cloned();
    Err(anonymous.map_or_else(|| Problem::new(Code::Unauthorized, "no token was sent"), |it| it.0))
}

fn caller(
    api: &Api,
    headers: &HeaderMap,
    request_id: String,
    source: Option<IpAddr>,
) -> Result<Caller, Problem> {
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::new(Code::Unauthorized, "no token was sent"));
    };
    let token = header.to_str().ok().and_then(token);
    if token.is_some_and(|token| api.token.matches(&token)) {
        let actor = Actor::Token("admin".to_owned());
        let power = Power::operator();
        let principal = "admin".to_owned();
        return Ok(Caller { actor, principal, power, request_id, source, need: None });
    }
    Err(Problem::new(Code::Unauthorized, "the token is not valid here"))
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
