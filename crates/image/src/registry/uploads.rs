//! Uploads: one file each, continued at its length, checked and renamed into
//! the store at the end.
//!
//! The file's name binds it to its repository, so an upload's address is of no
//! use in another one. The offset is the file's length: after a lost connection
//! or a restart a client asks for it and goes on.

use std::path::PathBuf;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header};
use tokio::io::AsyncWriteExt;

use super::refusal::Refusal;
use super::repository::Repository;
use super::route::Query;
use crate::digest::{Digest, Hasher};
use crate::error::ImageError;
use crate::limits::{COMPRESSED_IMAGE_BYTES_MAX, UPLOAD_AGE_MAX, UPLOADS_OPEN_MAX};
use crate::store::Store;

/// Opens an upload; with `?digest=` takes the whole blob at once.
pub(super) async fn start(repository: &Repository, request: Request) -> Result<Response, Refusal> {
    make_room(&repository.store)?;
    let id = ulid::Ulid::new().to_string();
    let path = place(repository, &id)?;
    std::fs::File::create_new(&path).map_err(ImageError::storage("create", &path))?;
    if Query::of(request.uri()).get("digest").is_some() {
        return finish(repository, &id, request).await;
    }
    Ok(going_on(StatusCode::ACCEPTED, repository, &id, 0))
}

pub(super) async fn status(repository: &Repository, id: &str) -> Result<Response, Refusal> {
    let length = length(&place(repository, id)?)?;
    Ok(going_on(StatusCode::NO_CONTENT, repository, id, length))
}

pub(super) async fn append(
    repository: &Repository,
    id: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let path = place(repository, id)?;
    let _guard = repository.store.lock(format!("upload {id}")).await;
    let offset = length(&path)?;
    if range_start(request.headers())?.is_some_and(|start| start != offset) {
        return Ok(going_on(StatusCode::RANGE_NOT_SATISFIABLE, repository, id, offset));
    }
    let length = write(&path, offset, request.into_body()).await?;
    Ok(going_on(StatusCode::ACCEPTED, repository, id, length))
}

pub(super) async fn finish(
    repository: &Repository,
    id: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let digest: Digest = Query::of(request.uri())
        .get("digest")
        .and_then(|digest| digest.parse().ok())
        .ok_or_else(|| Refusal::digest_invalid("a sha256 digest is needed to finish"))?;
    let path = place(repository, id)?;
    let guard = repository.store.lock(format!("upload {id}")).await;
    let offset = length(&path)?;
    if range_start(request.headers())?.is_some_and(|start| start != offset) {
        return Ok(going_on(StatusCode::RANGE_NOT_SATISFIABLE, repository, id, offset));
    }
    write(&path, offset, request.into_body()).await?;
    let owner = repository.clone();
    tokio::task::spawn_blocking(move || {
        let _guard = guard;
        keep(&owner, &path, &digest)
    })
    .await
    .map_err(ImageError::from)??;
    Ok(created(repository, &digest))
}

pub(super) async fn cancel(repository: &Repository, id: &str) -> Result<Response, Refusal> {
    let path = place(repository, id)?;
    length(&path)?;
    std::fs::remove_file(&path).map_err(ImageError::storage("remove", &path))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// The answer once a blob is in a repository.
pub(super) fn created(repository: &Repository, digest: &Digest) -> Response {
    let location = format!("/v2/{}/blobs/{digest}", repository.name);
    answer(
        StatusCode::CREATED,
        &[("location", location), ("docker-content-digest", digest.to_string())],
    )
}

/// Turns a finished upload into a blob, or removes it when it is a wrong one.
fn keep(repository: &Repository, path: &PathBuf, digest: &Digest) -> Result<(), ImageError> {
    let store = &repository.store;
    let failed = |action| ImageError::storage(action, path);
    let mut file = std::fs::File::open(path).map_err(failed("open"))?;
    let mut hasher = Hasher::default();
    hasher.update_from(&mut file).map_err(failed("read"))?;
    let actual = hasher.finish();
    if actual != *digest || store.refresh(digest) {
        std::fs::remove_file(path).map_err(failed("remove"))?;
    } else {
        file.sync_all().map_err(failed("flush"))?;
        let blob = store.blob_path(digest);
        std::fs::rename(path, &blob).map_err(ImageError::storage("create", &blob))?;
        crate::blob::sync_directory(&store.blobs())?;
    }
    if actual != *digest {
        return Err(crate::store::mismatch("the upload", digest, &actual));
    }
    repository.link(digest)
}

async fn write(path: &PathBuf, offset: u64, body: Body) -> Result<u64, Refusal> {
    let failed = |action| ImageError::storage(action, path);
    let mut file =
        tokio::fs::OpenOptions::new().append(true).open(path).await.map_err(failed("open"))?;
    let mut length = offset;
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else {
            // What came is kept: the client can ask how much and go on.
            file.flush().await.map_err(failed("write"))?;
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "BLOB_UPLOAD_INVALID",
                "the body broke off",
            ));
        };
        length += chunk.len() as u64;
        if length > COMPRESSED_IMAGE_BYTES_MAX {
            return Err(Refusal::too_large());
        }
        file.write_all(&chunk).await.map_err(failed("write"))?;
    }
    file.flush().await.map_err(failed("write"))?;
    Ok(length)
}

/// Drops uploads nobody continues and refuses more than can be sensible.
fn make_room(store: &Store) -> Result<(), Refusal> {
    let directory = store.uploads();
    let entries = std::fs::read_dir(&directory).map_err(ImageError::storage("list", &directory))?;
    let mut open = 0;
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age > UPLOAD_AGE_MAX) {
            crate::blob::remove_tree(&entry.path());
        } else {
            open += 1;
        }
    }
    if open >= UPLOADS_OPEN_MAX {
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TOOMANYREQUESTS",
            "too many uploads are open",
        ));
    }
    Ok(())
}

fn place(repository: &Repository, id: &str) -> Result<PathBuf, Refusal> {
    let id: ulid::Ulid = id.parse().map_err(|_| Refusal::upload_unknown())?;
    let owner = Digest::of(repository.name.as_bytes()).hex();
    Ok(repository.store.uploads().join(format!("{id}-{owner}")))
}

fn length(path: &PathBuf) -> Result<u64, Refusal> {
    std::fs::metadata(path).map(|metadata| metadata.len()).map_err(|_| Refusal::upload_unknown())
}

/// Where a chunk says it begins: `Content-Range: 0-99`.
fn range_start(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let text = text.strip_prefix("bytes ").or_else(|| text.strip_prefix("bytes=")).unwrap_or(text);
    let start = text.split_once('-').and_then(|(start, _)| start.parse().ok());
    start.map(Some).ok_or_else(|| {
        Refusal::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", "a malformed Content-Range")
    })
}

fn going_on(status: StatusCode, repository: &Repository, id: &str, length: u64) -> Response {
    let location = format!("/v2/{}/blobs/uploads/{id}", repository.name);
    let range = format!("0-{}", length.saturating_sub(1));
    answer(
        status,
        &[("location", location), ("range", range), ("docker-upload-uuid", id.to_owned())],
    )
}

fn answer(status: StatusCode, headers: &[(&'static str, String)]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}
