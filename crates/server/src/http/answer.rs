//! Answers in JSON that are written straight from what they speak of.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;

use super::problem::ApiProblem;
use helix_model::{Code, Problem};

/// Most resources fit, so that the answer is not moved while it grows.
const USUAL_BYTES: usize = 1024;

/// Writes an answer while what it is written from is still there.
pub(super) fn json(value: &impl Serialize) -> Result<Response, ApiProblem> {
    let mut body = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut body, value)
        .map_err(|error| Problem::new(Code::Internal, format!("it cannot be written: {error}")))?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}
