//! An OCI registry over the store, to mount into the server's HTTP router
//! (distribution spec 1.1: pull, push, tags; no deletion).
//!
//! [`router`] takes requests apart and checks permission, `blobs`, `uploads`
//! and `manifests` answer them, `repository` remembers what each repository
//! holds. Blobs are shared in the store, but a repository serves only what was
//! pushed to it: knowing a digest gives no access to another's layers. Layers
//! stream both ways and are never whole in memory.

mod blobs;
mod manifests;
mod refusal;
pub mod repository;
mod route;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, Method, StatusCode};

use crate::reference::{is_repository, is_tag};
use crate::store::Store;
use refusal::Refusal;
use repository::Repository;
use route::{Route, Target};

/// What a request wants to do; the server decides whether its sender may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryAction {
    /// Find out whether this is a registry and whether credentials are right.
    Ping,
    /// Read from a repository.
    Pull {
        /// Repository name, such as `team/app`.
        repository: String,
    },
    /// Write to a repository.
    Push {
        /// Repository name, such as `team/app`.
        repository: String,
    },
}

/// Decides by a request's headers whether it may go ahead. Must be quick: it
/// runs on the event loop.
pub type Authorize = Arc<dyn Fn(&HeaderMap, RegistryAction) -> bool + Send + Sync>;

#[derive(Clone)]
struct Registry {
    store: Store,
    authorize: Authorize,
}

/// The registry's routes, complete with `/v2`: merge them, do not nest them.
pub fn router(store: Store, authorize: Authorize) -> Router {
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(Registry { store, authorize })
}

async fn handle(State(registry): State<Registry>, request: Request) -> Response {
    let mut response = registry.answer(request).await.unwrap_or_else(IntoResponse::into_response);
    response
        .headers_mut()
        .insert("docker-distribution-api-version", http::HeaderValue::from_static("registry/2.0"));
    response
}

impl Registry {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let headers = request.headers();
        let Some(route) = Route::parse(request.uri().path()) else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such address"));
        };
        let Some(name) = route.repository else {
            self.permit(headers, RegistryAction::Ping)?;
            return Ok(axum::Json(serde_json::json!({})).into_response());
        };
        if !is_repository(name) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID", "bad name"));
        }
        let reading = matches!(*request.method(), Method::GET | Method::HEAD)
            && !matches!(route.target, Target::Upload(_) | Target::Uploads);
        let repository = name.to_owned();
        self.permit(
            headers,
            if reading {
                RegistryAction::Pull { repository }
            } else {
                RegistryAction::Push { repository }
            },
        )?;
        let repository = Repository::new(&self.store, name);
        let target = route.target.to_owned();
        match (request.method().as_str(), &target) {
            ("GET" | "HEAD", Target::Manifest(reference)) => {
                manifests::get(&repository, reference, request.method() == Method::HEAD).await
            }
            ("PUT", Target::Manifest(reference)) => {
                manifests::put(&repository, reference, request.into_body()).await
            }
            ("GET" | "HEAD", Target::Blob(digest)) => {
                blobs::get(&repository, digest, request.method() == Method::HEAD).await
            }
            ("POST", Target::Uploads) => self.start_upload(&repository, request).await,
            ("GET", Target::Upload(id)) => uploads::status(&repository, id).await,
            ("PATCH", Target::Upload(id)) => uploads::append(&repository, id, request).await,
            ("PUT", Target::Upload(id)) => uploads::finish(&repository, id, request).await,
            ("DELETE", Target::Upload(id)) => uploads::cancel(&repository, id).await,
            ("GET" | "HEAD", Target::Tags) => manifests::tags(&repository, request.uri()).await,
            _ => Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "this registry does not do that",
            )),
        }
    }

    fn permit(&self, headers: &HeaderMap, action: RegistryAction) -> Result<(), Refusal> {
        if (self.authorize)(headers, action) { Ok(()) } else { Err(Refusal::unauthorized()) }
    }

    /// Takes a blob over from another repository when the sender may read it
    /// there; otherwise opens an upload, as the spec wants.
    async fn start_upload(
        &self,
        repository: &Repository,
        request: Request,
    ) -> Result<Response, Refusal> {
        let query = route::Query::of(request.uri());
        if let (Some(mount), Some(from)) = (query.get("mount"), query.get("from"))
            && let Ok(digest) = mount.parse()
            && is_repository(&from)
        {
            let source = Repository::new(&self.store, &from);
            let readable =
                (self.authorize)(request.headers(), RegistryAction::Pull { repository: from });
            if readable && source.holds(&digest) {
                repository.link(&digest)?;
                return Ok(uploads::created(repository, &digest));
            }
        }
        uploads::start(repository, request).await
    }
}

/// Whether `text` may name a manifest: a tag or a digest.
fn is_manifest_name(text: &str) -> bool {
    is_tag(text) || text.parse::<crate::digest::Digest>().is_ok()
}
