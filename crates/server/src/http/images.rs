//! From an image reference to a digest, at release time.

use futures::FutureExt;
use helix_image::auth::Auth;
use helix_image::{Digest, ImageError, Reference};
use helix_model::api::OWN_REGISTRY;
use helix_model::release::Image;
use helix_model::{Code, Problem};

use super::Api;

/// What a reference stands for now, fixed by digest.
pub(super) async fn resolve(api: &Api, text: &str) -> Result<Image, Problem> {
    let reference: Reference = text.parse().map_err(|error| {
        Problem::new(Code::InvalidArgument, format!("`{text}` is not an image reference: {error}"))
            .hint("write it as host/name:tag or host/name@sha256:…")
    })?;
    let digest = if reference.registry() == OWN_REGISTRY {
        own(api, &reference)?
    } else {
        let resolved = api.puller.resolve(&reference, &Auth::Anonymous).boxed().await;
        resolved.map_err(|error| refused(text, &error))?.manifest_digest
    };
    Ok(Image {
        repository: format!("{}/{}", reference.registry(), reference.repository()),
        tag: reference.tag().map(str::to_owned),
        digest: digest.to_string(),
    })
}

/// An image that was pushed here must be named by digest and be here.
fn own(api: &Api, reference: &Reference) -> Result<Digest, Problem> {
    let digest = reference.digest().ok_or_else(|| {
        Problem::new(Code::InvalidArgument, format!("`{reference}` has no digest"))
    })?;
    if api.images.has(&digest) {
        return Ok(digest);
    }
    Err(Problem::new(Code::ImageNotFound, format!("`{reference}` was not pushed here")))
}

fn refused(text: &str, error: &ImageError) -> Problem {
    let code = match error.code() {
        "image_not_found" => Code::ImageNotFound,
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
