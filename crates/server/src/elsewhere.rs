//! Images that were pushed to another replica: brought here when they are asked
//! for, with the credentials of who asks.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::FutureExt;
use helix_image::pull::Transport;
use helix_image::registry::{Elsewhere, repository};
use helix_image::{Auth, Digest, ImageError, NoProgress, Puller, Reference, Store};
use http::{HeaderMap, header};

use crate::replicas::Replicas;
use crate::token::Token;

/// Whom a replica says it is to another's registry, which then does not look
/// further: two replicas that both lack an image must not ask each other for
/// ever.
const ASKING_REPLICA: &str = "helix-replica";

/// The registries of the other replicas.
pub(crate) struct OtherRegistries {
    pub store: Store,
    pub replicas: Arc<Replicas>,
}

#[async_trait]
impl Elsewhere for OtherRegistries {
    async fn bring(&self, repository: &str, manifest: &Digest, headers: &HeaderMap) {
        let Some((user, token)) = credentials(headers) else { return };
        if user == ASKING_REPLICA {
            return;
        }
        for url in self.replicas.others() {
            match self.pull(&url, repository, manifest, &token).boxed().await {
                Ok(()) => {
                    return tracing::info!(%manifest, repository, url, "an image was brought here");
                }
                Err(error) => {
                    tracing::debug!(%error, %manifest, url, "a replica does not have an image");
                }
            }
        }
    }
}

impl OtherRegistries {
    async fn pull(
        &self,
        url: &str,
        name: &str,
        manifest: &Digest,
        token: &Token,
    ) -> Result<(), ImageError> {
        let (scheme, host) = url.split_once("://").unwrap_or(("http", url));
        let insecure_registries = match scheme {
            "https" => Vec::new(),
            _ => vec![host.to_owned()],
        };
        let transport = Transport { insecure_registries, ..Transport::default() };
        let reference = Reference::new(host, name, None, Some(*manifest)).map_err(|source| {
            ImageError::ReferenceInvalid { text: format!("{host}/{name}"), source }
        })?;
        let user = ASKING_REPLICA.to_owned();
        let auth = Auth::Basic { user, password: token.reveal().to_owned() };
        let puller = Puller::new(&self.store, &transport)?;
        puller.pull(&reference, &auth, &NoProgress).await?;
        repository::admit(&self.store, name, manifest)
    }
}

/// The user, if one is named, and the token of a request.
fn credentials(headers: &HeaderMap) -> Option<(String, Token)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((String::new(), Token::from_text(rest.trim())));
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), Token::from_text(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_told_from_either_kind_of_header() {
        let told = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            credentials(&headers).map(|(user, token)| (user, token.reveal().to_owned()))
        };
        assert_eq!(told("Bearer secret"), Some((String::new(), "secret".to_owned())));
        let basic = format!("Basic {}", BASE64_STANDARD.encode("node:secret"));
        assert_eq!(told(&basic), Some(("node".to_owned(), "secret".to_owned())));
        assert_eq!(told("Basic !"), None);
    }
}
