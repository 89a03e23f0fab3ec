//! Manifests and tags.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, Uri, header};

use super::is_manifest_name;
use super::refusal::Refusal;
use super::repository::Repository;
use super::route::Query;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::manifest::{Descriptor, Document};

pub(super) async fn get(
    repository: &Repository,
    reference: &str,
    head: bool,
) -> Result<Response, Refusal> {
    let digest = find(repository, reference)?;
    let bytes = repository.store.read(&digest, MANIFEST_BYTES_MAX)?;
    let document = Document::parse(&bytes)?;
    let length = bytes.len();
    Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, document.media_type())
        .header(header::CONTENT_LENGTH, length)
        .header("docker-content-digest", digest.to_string())
        .body(if head { Body::empty() } else { Body::from(bytes) })
        .map_err(|_| Refusal::manifest_invalid("the manifest has an unusable media type"))
}

pub(super) async fn put(
    repository: &Repository,
    reference: &str,
    body: Body,
) -> Result<Response, Refusal> {
    if !is_manifest_name(reference) {
        return Err(Refusal::manifest_invalid("this is neither a tag nor a digest"));
    }
    let bytes = axum::body::to_bytes(body, MANIFEST_BYTES_MAX as usize)
        .await
        .map_err(|_| Refusal::too_large())?;
    let owner = repository.clone();
    let name = reference.to_owned();
    let digest = tokio::task::spawn_blocking(move || keep(&owner, &name, &bytes))
        .await
        .map_err(ImageError::from)??;
    let location = format!("/v2/{}/manifests/{digest}", repository.name);
    let headers = [("location", location), ("docker-content-digest", digest.to_string())];
    Ok((StatusCode::CREATED, headers).into_response())
}

/// Lists tags, at most `n` of them, after `last`.
pub(super) async fn tags(repository: &Repository, uri: &Uri) -> Result<Response, Refusal> {
    let mut tags = repository.tags()?;
    if tags.is_empty() {
        let message = "there is no such repository";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message));
    }
    let query = Query::of(uri);
    if let Some(last) = query.get("last") {
        tags.retain(|tag| *tag > last);
    }
    let limit = query.get("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let more = tags.len() > limit;
    tags.truncate(limit);
    let name = &repository.name;
    let next = tags
        .last()
        .filter(|_| more)
        .map(|last| format!("</v2/{name}/tags/list?n={limit}&last={last}>; rel=\"next\""));
    let mut response = Json(serde_json::json!({ "name": name, "tags": tags })).into_response();
    if let Some(link) = next.and_then(|link| link.parse().ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

fn find(repository: &Repository, reference: &str) -> Result<Digest, Refusal> {
    if !is_manifest_name(reference) {
        return Err(Refusal::manifest_unknown());
    }
    let digest = match reference.parse() {
        Ok(digest) => Some(digest),
        Err(_) => repository.tag(reference)?,
    };
    digest.filter(|digest| repository.holds(digest)).ok_or_else(Refusal::manifest_unknown)
}

/// Stores a manifest whose parts are all here, under its digest and the tag.
fn keep(repository: &Repository, reference: &str, bytes: &Bytes) -> Result<Digest, Refusal> {
    let digest = Digest::of(bytes);
    let pinned = reference.parse::<Digest>().ok();
    if pinned.is_some_and(|expected| expected != digest) {
        return Err(Refusal::digest_invalid("the manifest has another digest"));
    }
    match Document::parse(bytes)? {
        Document::Manifest(manifest) => {
            manifest.check_limits()?;
            require(repository, manifest.layers.iter().chain([&manifest.config]))?;
        }
        Document::Index(index) => require(repository, index.manifests.iter())?,
    }
    repository.store.write(bytes)?;
    repository.link(&digest)?;
    if pinned.is_none() {
        repository.set_tag(reference, &digest)?;
    }
    Ok(digest)
}

fn require<'a>(
    repository: &Repository,
    parts: impl Iterator<Item = &'a Descriptor>,
) -> Result<(), Refusal> {
    for part in parts {
        let here = repository.holds(&part.digest)
            && repository.store.size(&part.digest) == Some(part.size);
        if !here {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "MANIFEST_BLOB_UNKNOWN",
                format!("{} of {} bytes was not pushed here", part.digest, part.size),
            ));
        }
        repository.store.refresh(&part.digest);
    }
    Ok(())
}
