//! What every request passes: request id, proof of identity, read-your-writes.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use helix_model::api::{POSITION_HEADER, WAIT_POSITION_HEADER};
use helix_model::{Actor, AnyId, Code, Problem};
use http::{HeaderMap, HeaderValue, header};

use super::Api;
use super::problem::ApiProblem;
use crate::engine::{Idempotency, Origin};
use crate::entropy;
use crate::token::{Token, TokenHash};

/// How long a read waits for a log position that is not there yet.
const POSITION_WAIT: Duration = Duration::from_secs(5);

/// Longest request id taken over from a caller.
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// Bounds on an idempotency key, so that it is neither guessable nor a payload.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 8..=128;

/// The id of the request, put there by [`stamp`].
#[derive(Clone)]
pub(super) struct RequestId(pub String);

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

/// Lets through only who may, once the state is as new as they ask.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    if !is_authorized(request.headers(), &api.token) {
        let detail = if request.headers().contains_key(header::AUTHORIZATION) {
            "the token is not valid here"
        } else {
            "no token was sent"
        };
        return ApiProblem(Problem::new(Code::Unauthorized, detail)).into_response();
    }
    let wanted = request.headers().get(WAIT_POSITION_HEADER);
    if let Some(wanted) = wanted {
        let Some(position) = wanted.to_str().ok().and_then(|text| text.parse().ok()) else {
            let detail = format!("`{WAIT_POSITION_HEADER}` is not a log position");
            return ApiProblem(Problem::new(Code::InvalidArgument, detail)).into_response();
        };
        if !api.engine.reached(position, POSITION_WAIT).await {
            let detail = format!("log position {position} has not been reached");
            return ApiProblem(Problem::new(Code::TimedOut, detail)).into_response();
        }
    }
    next.run(request).await
}

/// Whether the headers carry the token: as bearer, or as the password of HTTP
/// Basic (what registry clients send).
pub(super) fn is_authorized(headers: &HeaderMap, expected: &TokenHash) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim().to_owned(),
        Some((scheme, pair)) if scheme.eq_ignore_ascii_case("basic") => {
            let decoded = BASE64_STANDARD.decode(pair.trim()).unwrap_or_default();
            let pair = String::from_utf8(decoded).unwrap_or_default();
            pair.split_once(':').map_or_else(String::new, |(_, password)| password.to_owned())
        }
        _ => return false,
    };
    expected.matches(&Token::from_text(&token))
}

/// Who asks, for the engine. `request_hash` covers all that the request says.
pub(super) fn origin(
    headers: &HeaderMap,
    id: &RequestId,
    request_hash: [u8; 32],
) -> Result<Origin, ApiProblem> {
    let idempotency = match headers.get("idempotency-key") {
        None => None,
        Some(key) => {
            let key = key.to_str().unwrap_or_default();
            if !KEY_LENGTH.contains(&key.len()) {
                let detail = "an idempotency key has 8 to 128 characters";
                return Err(ApiProblem(
                    Problem::new(Code::InvalidArgument, detail)
                        .field("Idempotency-Key", "wrong length"),
                ));
            }
            Some(Idempotency { key: format!("admin:{key}"), request_hash })
        }
    };
    let actor = Actor::Token("admin".to_owned());
    Ok(Origin { actor, request_id: id.0.clone(), idempotency, precondition: None })
}

/// The same for a change of what has to be the version its author saw.
pub(super) fn expecting(mut origin: Origin, id: AnyId, version: Option<u64>) -> Origin {
    origin.precondition = version.map(|version| (id, version));
    origin
}
