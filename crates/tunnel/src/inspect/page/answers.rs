//! Answers of the page, with what keeps it to itself in a browser.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Nothing but what comes from here, and nothing inline: bodies of requests are shown,
/// and whoever sent them is not trusted.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// A part of the page.
pub(super) fn fixed(content_type: &'static str, text: &'static str) -> Response<Body> {
    of(StatusCode::OK, content_type, Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync())
}

pub(super) fn document(status: StatusCode, document: &Value) -> Response<Body> {
    let text = format!("{document}\n");
    of(status, "application/json", Full::new(Bytes::from(text)).boxed_unsync())
}

/// Lines, one document each.
pub(super) fn lines(body: Body) -> Response<Body> {
    of(StatusCode::OK, "application/x-ndjson", body)
}

/// Why not (RFC 9457).
pub(super) fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Body> {
    let problem = json!({
        "title": status.canonical_reason(), "status": status.as_u16(),
        "code": code, "detail": detail,
    });
    let text = format!("{problem}\n");
    of(status, "application/problem+json", Full::new(Bytes::from(text)).boxed_unsync())
}

fn of(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE.as_str(), content_type),
        (CACHE_CONTROL.as_str(), "no-store"),
        (CONTENT_SECURITY_POLICY.as_str(), CONTENT_POLICY),
        (REFERRER_POLICY.as_str(), "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff"),
        (X_FRAME_OPTIONS.as_str(), "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        if let Ok(name) = name.parse::<http::HeaderName>() {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
