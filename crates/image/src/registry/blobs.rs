//! Serving blobs, streamed from disk.

use axum::body::Body;
use axum::response::Response;
use http::{StatusCode, header};
use tokio_util::io::ReaderStream;

use super::refusal::Refusal;
use super::repository::Repository;
use crate::digest::Digest;

const READ_BYTES: usize = 128 * 1024;

pub(super) async fn get(
    repository: &Repository,
    digest: &str,
    head: bool,
) -> Result<Response, Refusal> {
    let digest: Digest =
        digest.parse().map_err(|_| Refusal::digest_invalid("this is no sha256 digest"))?;
    if !repository.holds(&digest) {
        return Err(Refusal::blob_unknown());
    }
    let file = tokio::fs::File::from_std(repository.store.open_blob(&digest)?);
    let size = repository.store.size(&digest).ok_or_else(Refusal::blob_unknown)?;
    let body = if head {
        Body::empty()
    } else {
        Body::from_stream(ReaderStream::with_capacity(file, READ_BYTES))
    };
    Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, size)
        .header(header::ETAG, format!("\"{digest}\""))
        .header("docker-content-digest", digest.to_string())
        .body(body)
        .map_err(|_| Refusal::blob_unknown())
}
