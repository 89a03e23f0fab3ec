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

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{Extensions, HeaderMap, Method, StatusCode};

use crate::digest::Digest;
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

/// What there is to know of who asks.
#[derive(Clone, Copy)]
pub struct Asking<'r> {
    /// The request's headers.
    pub headers: &'r HeaderMap,
    /// What layers around the registry found out about the request.
    pub extensions: &'r Extensions,
}

/// What the server says to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go ahead.
    Allowed,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks may not know that there is such a repository.
    Hidden,
    /// Who asks may not do this here.
    Denied,
}

impl From<bool> for Verdict {
    fn from(known: bool) -> Verdict {
        if known { Verdict::Allowed } else { Verdict::Unauthenticated }
    }
}

/// Decides whether a request may go ahead. Must be quick: it runs on the event
/// loop.
pub type Authorize = Arc<dyn Fn(Asking<'_>, RegistryAction) -> Verdict + Send + Sync>;

/// Where an image may be that is not here: with the registry of another replica.
#[async_trait]
pub trait Elsewhere: Send + Sync {
    /// Brings an image into the store, so that it may be served from a
    /// repository whose sender has been found to be allowed to read it. Whether
    /// it did is seen by looking again.
    async fn bring(&self, repository: &str, manifest: &Digest, headers: &HeaderMap);
}

/// The registry, for who routes requests to it: all below `/v2`.
#[derive(Clone)]
pub struct Registry {
    store: Store,
    authorize: Authorize,
    elsewhere: Option<Arc<dyn Elsewhere>>,
}

/// The registry's routes, complete with `/v2`: merge them, do not nest them.
pub fn router(store: Store, authorize: Authorize) -> Router {
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(Registry::new(store, authorize))
}

async fn handle(State(registry): State<Registry>, request: Request) -> Response {
    registry.handle(request).await
}

impl Registry {
    /// A registry over a store.
    pub fn new(store: Store, authorize: Authorize) -> Registry {
        Registry { store, authorize, elsewhere: None }
    }

    /// The same with somewhere else to look for images.
    #[must_use]
    pub fn looking(self, elsewhere: Arc<dyn Elsewhere>) -> Registry {
        Registry { elsewhere: Some(elsewhere), ..self }
    }

    /// Looks for an image elsewhere, for a sender who may read it.
    pub async fn bring(&self, repository: &str, manifest: &Digest, headers: &HeaderMap) {
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.bring(repository, manifest, headers).await;
        }
    }

    /// Answers a request below `/v2`.
    pub async fn handle(&self, request: Request) -> Response {
        let mut response = self.answer(request).await.unwrap_or_else(IntoResponse::into_response);
        response.headers_mut().insert(
            "docker-distribution-api-version",
            http::HeaderValue::from_static("registry/2.0"),
        );
        response
    }

    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let asking = Asking { headers: request.headers(), extensions: request.extensions() };
        let Some(route) = Route::parse(request.uri().path()) else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such address"));
        };
        let Some(name) = route.repository else {
            self.permit(asking, RegistryAction::Ping)?;
            return Ok(axum::Json(serde_json::json!({})).into_response());
        };
        if !is_repository(name) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID", "bad name"));
        }
        let reading = matches!(*request.method(), Method::GET | Method::HEAD)
            && !matches!(route.target, Target::Upload(_) | Target::Uploads);
        let repository = name.to_owned();
        self.permit(
            asking,
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
                if let Ok(digest) = reference.parse()
                    && !repository.holds(&digest)
                {
                    self.bring(name, &digest, request.headers()).await;
                }
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

    fn permit(&self, asking: Asking<'_>, action: RegistryAction) -> Result<(), Refusal> {
        match (self.authorize)(asking, action) {
            Verdict::Allowed => Ok(()),
            Verdict::Unauthenticated => Err(Refusal::unauthorized()),
            Verdict::Hidden => Err(Refusal::repository_unknown()),
            Verdict::Denied => Err(Refusal::denied()),
        }
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
            let asking = Asking { headers: request.headers(), extensions: request.extensions() };
            let verdict = (self.authorize)(asking, RegistryAction::Pull { repository: from });
            if verdict == Verdict::Allowed && source.holds(&digest) {
                repository.link(&digest)?;
                return Ok(uploads::created(repository, &digest));
            }
        }
        uploads::start(repository, request).await
    }
}

/// Whether `text` may name a manifest: a tag or a digest.
fn is_manifest_name(text: &str) -> bool {
    is_tag(text) || text.parse::<Digest>().is_ok()
}
