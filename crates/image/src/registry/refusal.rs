//! Error answers in the form of the distribution spec.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::error::ImageError;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Without saying whether credentials were missing, wrong or too weak.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "credentials are needed for this")
    }

    /// Who asks is known and may not do this.
    pub(super) fn denied() -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", "the token does not allow this here")
    }

    pub(super) fn repository_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "there is no such repository")
    }

    pub(super) fn blob_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "this repository has no such blob")
    }

    pub(super) fn upload_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
    }

    pub(super) fn digest_invalid(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(super) fn manifest_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "this repository has no such manifest")
    }

    pub(super) fn manifest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "this is more than is taken here")
    }
}

/// Failures of the store: paths and system errors stay in our log.
impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        match error.code() {
            "image_not_found" => Self::blob_unknown(),
            "image_digest_mismatch" => Self::digest_invalid("the content has another digest"),
            "image_too_large" => Self::too_large(),
            "image_manifest_invalid" => Self::manifest_invalid(error.to_string()),
            code => {
                let cause = std::error::Error::source(&error);
                tracing::error!(%error, cause = ?cause, code, "the registry's store failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the storage failed")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = serde_json::json!({ "code": self.code, "message": self.message });
        let mut response =
            (self.status, Json(serde_json::json!({ "errors": [error] }))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"helix\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
