//! Images: from a reference to a digest at release time, and the registry
//! that keeps what is pushed here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use futures::FutureExt;
use helix_image::registry::{Asking, Registry, RegistryAction, Verdict, repository};
use helix_image::{Digest, ImageError, Reference, Store};
use helix_model::api::OWN_REGISTRY;
use helix_model::release::Image;
use helix_model::{Code, Id, Org, Permission, Problem};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use crate::engine::Engine;

/// The registry over a store. The first part of a repository's name is the org
/// it belongs to.
pub(crate) fn new_registry(store: Store, engine: Engine) -> Registry {
    Registry::new(store, Arc::new(move |asking, action| verdict(&engine, asking, &action)))
}

/// Everything below `/v2`.
pub(super) async fn registry(State(api): State<Api>, request: Request) -> Response {
    api.registry.handle(request).await
}

fn verdict(engine: &Engine, asking: Asking<'_>, action: &RegistryAction) -> Verdict {
    let Some(caller) = asking.extensions.get::<Caller>() else {
        return Verdict::Unauthenticated;
    };
    let (repository, need) = match action {
        RegistryAction::Ping => return Verdict::Allowed,
        RegistryAction::Pull { repository } => (repository, Permission::ReleasesRead),
        RegistryAction::Push { repository } => (repository, Permission::ReleasesWrite),
    };
    let org = repository.split('/').next().unwrap_or_default();
    caller.repository_verdict(&engine.state(), org, need)
}

/// What a reference stands for now, fixed by digest, and whether it was that already.
/// The registry is asked in the name of the org, also about a digest that is known
/// here: another org's image is no less its own for having run on these machines.
pub(super) async fn resolve(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    org: Id<Org>,
    text: &str,
) -> Result<(Image, bool), Problem> {
    let reference: Reference = text.parse().map_err(|error| {
        Problem::new(Code::InvalidArgument, format!("`{text}` is not an image reference: {error}"))
            .hint("write it as host/name:tag or host/name@sha256:…")
    })?;
    let digest = if reference.registry() == OWN_REGISTRY {
        own(api, caller, headers, &reference).await?
    } else {
        let auth = api.login(org, reference.registry()).boxed().await?;
        let resolved = api.puller.resolve(&reference, &auth).boxed().await;
        resolved.map_err(|error| refused(text, &error))?.manifest_digest
    };
    let image = Image {
        repository: format!("{}/{}", reference.registry(), reference.repository()),
        tag: reference.tag().map(str::to_owned),
        digest: digest.to_string(),
    };
    Ok((image, reference.digest().is_some()))
}

/// An image that was pushed here must be named by digest and be in a repository
/// the caller may read: its digest alone gives nobody another org's image.
async fn own(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    reference: &Reference,
) -> Result<Digest, Problem> {
    let digest = reference.digest().ok_or_else(|| {
        Problem::new(Code::InvalidArgument, format!("`{reference}` has no digest"))
    })?;
    let unknown =
        || Problem::new(Code::ImageNotFound, format!("`{reference}` was not pushed here"));
    let name = reference.repository();
    let org = name.split('/').next().unwrap_or_default();
    let verdict = caller.repository_verdict(&api.engine.state(), org, Permission::ReleasesRead);
    let readable = verdict == Verdict::Allowed;
    if !readable {
        return Err(unknown());
    }
    if !repository::holds(&api.images, name, &digest) {
        api.registry.bring(name, &digest, headers).await;
    }
    if repository::holds(&api.images, name, &digest) {
        return Ok(digest);
    }
    Err(unknown())
}

fn refused(text: &str, error: &ImageError) -> Problem {
    let code = match error.code() {
        "image_not_found" => Code::ImageNotFound,
        "registry_unauthorized" => {
            return Problem::new(Code::ImageUnusable, format!("the image `{text}` cannot be used: {error}"))
                .hint("give the org a login that may pull it: `helix registries add HOST --username USER`");
        }
        _ if error.retryable() => Code::RegistryUnavailable,
        _ => Code::ImageUnusable,
    };
    let mut detail = format!("the image `{text}` cannot be used: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    Problem::new(code, detail).hint(error.hint())
}
