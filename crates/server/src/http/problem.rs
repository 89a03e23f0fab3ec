//! Problems on the wire: `application/problem+json` (RFC 9457).

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use helix_model::{Code, Problem};
use http::{HeaderValue, StatusCode, header};

use super::gate;

/// A problem as a response.
#[derive(Debug)]
pub(super) struct ApiProblem(pub Problem);

/// Kept beside the response so that the request id can be filled in late.
#[derive(Clone)]
struct Pending(Problem);

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let mut response = render(&self.0);
        response.extensions_mut().insert(Pending(self.0));
        response
    }
}

/// The same response naming the request it answers.
pub(super) fn with_request_id(mut response: Response, id: &str) -> Response {
    let Some(Pending(mut problem)) = response.extensions_mut().remove::<Pending>() else {
        return response;
    };
    problem.request_id = id.to_owned();
    render(&problem)
}

fn render(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(problem)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(seconds) = problem.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl From<Problem> for ApiProblem {
    fn from(problem: Problem) -> Self {
        ApiProblem(problem)
    }
}

impl From<JsonRejection> for ApiProblem {
    fn from(rejection: JsonRejection) -> Self {
        let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Code::PayloadTooLarge
        } else {
            Code::InvalidArgument
        };
        ApiProblem(Problem::new(code, rejection.body_text()))
    }
}

impl From<BytesRejection> for ApiProblem {
    fn from(rejection: BytesRejection) -> Self {
        let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Code::PayloadTooLarge
        } else {
            Code::InvalidArgument
        };
        ApiProblem(Problem::new(code, rejection.body_text()))
    }
}

impl From<PathRejection> for ApiProblem {
    fn from(rejection: PathRejection) -> Self {
        ApiProblem(Problem::new(Code::InvalidArgument, rejection.body_text()))
    }
}

impl From<WebSocketUpgradeRejection> for ApiProblem {
    fn from(rejection: WebSocketUpgradeRejection) -> Self {
        let detail = format!("this is asked for over a WebSocket: {}", rejection.body_text());
        ApiProblem(Problem::new(Code::InvalidArgument, detail))
    }
}

impl From<QueryRejection> for ApiProblem {
    fn from(rejection: QueryRejection) -> Self {
        ApiProblem(Problem::new(Code::InvalidArgument, rejection.body_text()))
    }
}

/// JSON in, with our problems for what cannot be read.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(ApiProblem))]
pub(super) struct Body<T>(pub T);

/// What the path names, with our problems for what cannot be read.
#[derive(axum::extract::FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiProblem))]
pub(super) struct Path<T>(pub T);

/// The query, with our problems for what cannot be read.
#[derive(axum::extract::FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiProblem))]
pub(super) struct Query<T>(pub T);

/// The path is there, but not for this method; told to who is known only.
pub(super) async fn no_method(request: Request) -> ApiProblem {
    let (method, path) = (request.method(), request.uri().path());
    let detail = format!("`{path}` cannot be asked with {method}");
    let problem = Problem::new(Code::MethodNotAllowed, detail);
    let problem = problem.hint("docs/api.md lists every route");
    ApiProblem(gate::known(&request).map_or_else(|unknown| unknown, |_| problem))
}

/// No such path; told to who is known only.
pub(super) async fn no_route(request: Request) -> ApiProblem {
    let (method, path) = (request.method(), request.uri().path());
    let detail = format!("there is no `{method} {path}` in this API");
    let problem = Problem::new(Code::NotFound, detail).hint("docs/api.md lists every route");
    ApiProblem(gate::known(&request).map_or_else(|unknown| unknown, |_| problem))
}
