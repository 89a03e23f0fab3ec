//! Requests to one repository of somebody's registry (OCI distribution spec
//! 1.1), with its token dance.
//!
//! On `reqwest` directly: `oci-client` reads manifests of any length into
//! memory, which a hostile registry turns into the end of the server, hashes
//! each layer once more than needed and hides failed authentication. Every
//! answer here is read up to a limit.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderMap, StatusCode, header};
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::Deserialize;

use crate::Result;
use crate::auth::Auth;
use crate::digest::Digest;
use crate::error::{Cause, ImageError};
use crate::limits::{
    ATTEMPTS_MAX, BACKOFF_FIRST, CONNECT_TIMEOUT, ERROR_BODY_BYTES_MAX, MANIFEST_BYTES_MAX,
    READ_TIMEOUT, RESUME_PROGRESS_BYTES_MIN, TOKEN_BYTES_MAX,
};
use crate::manifest::ACCEPTED;
use crate::reference::Reference;

const REDIRECTS_MAX: usize = 5;

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Registries (`host:port`) spoken to over plain HTTP besides loopback.
    pub insecure_registries: Vec<String>,
    /// Certificates (PEM) trusted besides the system's, for private registries.
    pub extra_roots_pem: Vec<Vec<u8>>,
}

/// HTTP clients, made once: each holds a connection pool.
#[derive(Clone)]
pub(crate) struct Clients {
    /// Made when first needed: it wants the system's certificates, and a machine
    /// without any must still work with what is spoken to in the clear.
    secure: Arc<OnceLock<Client>>,
    plain: Client,
    transport: Transport,
}

/// Why a request did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("not found")]
    NotFound,
    #[error("access refused")]
    Unauthorized,
    #[error("the registry answered {status}: {text}")]
    Status { status: StatusCode, text: String },
    #[error("the connection failed")]
    Network(#[source] reqwest::Error),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the registry breaks the protocol: {0}")]
    Protocol(&'static str),
    #[error("the content ended too early")]
    Short,
}

/// Whether content travels here or away; decides the token's scope and how
/// failures are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Pull,
    Push,
}

/// One repository of one registry.
pub(crate) struct Remote {
    client: Client,
    base: Url,
    reference: Reference,
    auth: Auth,
    direction: Direction,
    /// The `Authorization` value the registry last accepted.
    authorization: Mutex<Option<String>>,
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("helix/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(redirects())
}

fn not_set_up(source: reqwest::Error) -> ImageError {
    ImageError::PullFailed {
        what: "images: the HTTP client cannot be set up".to_owned(),
        retryable: false,
        source: source.into(),
    }
}

impl Clients {
    pub(crate) fn new(transport: &Transport) -> Result<Self> {
        // Loopback and the operator's own insecure registries are near: a proxy
        // meant for the outside would not find them.
        let plain = builder().no_proxy().tls_certs_only([]).build().map_err(not_set_up)?;
        Ok(Self { secure: Arc::default(), plain, transport: transport.clone() })
    }

    fn secure(&self) -> Result<&Client> {
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let mut secure = builder();
        for pem in &self.transport.extra_roots_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(not_set_up)?;
            secure = secure.tls_certs_merge(certificates);
        }
        let client = secure.build().map_err(not_set_up)?;
        Ok(self.secure.get_or_init(|| client))
    }

    pub(crate) fn remote(
        &self,
        reference: &Reference,
        auth: &Auth,
        direction: Direction,
    ) -> Result<Remote> {
        let plain = reference.is_loopback()
            || self.transport.insecure_registries.iter().any(|host| host == reference.registry());
        let (client, scheme) =
            if plain { (&self.plain, "http") } else { (self.secure()?, "https") };
        let address =
            format!("{scheme}://{}/v2/{}/", reference.registry_address(), reference.repository());
        let base = Url::parse(&address).map_err(|source| ImageError::PullFailed {
            what: address.clone(),
            retryable: false,
            source: source.into(),
        })?;
        let authorization = match auth {
            Auth::Bearer(token) => Some(format!("Bearer {token}")),
            Auth::Anonymous | Auth::Basic { .. } => None,
        };
        Ok(Remote {
            client: client.clone(),
            base,
            reference: reference.clone(),
            auth: auth.clone(),
            direction,
            authorization: Mutex::new(authorization),
        })
    }
}

/// Follows redirects (registries send blobs from elsewhere), but never from
/// HTTPS down to HTTP. `reqwest` drops credentials when the host changes.
fn redirects() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("too many redirects")
        } else if from_https && attempt.url().scheme() != "https" {
            attempt.error("a redirect from HTTPS to HTTP")
        } else {
            attempt.follow()
        }
    })
}

impl Remote {
    /// Fetches a manifest or index by tag or digest.
    pub(crate) async fn manifest(&self, identifier: &str) -> Result<Bytes, Failure> {
        let url = self.url(&format!("manifests/{identifier}"))?;
        let accept = ACCEPTED.join(", ");
        let request = || self.client.get(url.clone()).header(header::ACCEPT, &accept);
        let response = self.send(request).await?;
        read_up_to(response, MANIFEST_BYTES_MAX).await
    }

    /// Starts fetching a blob behind its first `from` bytes; from its beginning
    /// where the registry does not do that. Says where it starts.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes, Failure>> + Unpin + use<>), Failure> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let request = || match from {
            0 => self.client.get(url.clone()),
            from => self.client.get(url.clone()).header(header::RANGE, format!("bytes={from}-")),
        };
        let response = self.send(request).await?;
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(response.headers(), from) => from,
            StatusCode::PARTIAL_CONTENT => {
                return Err(Failure::Protocol("another part of a blob than was asked for"));
            }
            _ => 0,
        };
        Ok((start, response.bytes_stream().map(|chunk| chunk.map_err(Failure::Network))))
    }

    /// Whether the repository has a blob or, with `manifests`, a manifest.
    pub(crate) async fn exists(&self, kind: &str, identifier: &str) -> Result<bool, Failure> {
        let url = self.url(&format!("{kind}/{identifier}"))?;
        let accept = ACCEPTED.join(", ");
        let request = || self.client.head(url.clone()).header(header::ACCEPT, &accept);
        match self.send(request).await {
            Ok(_) => Ok(true),
            Err(Failure::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens an upload and sends the blob in one piece.
    pub(crate) async fn upload(
        &self,
        digest: &Digest,
        size: u64,
        body: reqwest::Body,
    ) -> Result<(), Failure> {
        let url = self.url("blobs/uploads/")?;
        let start = || self.client.post(url.clone()).header(header::CONTENT_LENGTH, 0);
        let response = self.send(start).await?;
        let mut location = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| self.base.join(value).ok())
            .ok_or(Failure::Protocol("an upload without a location"))?;
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let request = self
            .client
            .put(location.clone())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size)
            .body(body);
        // The body cannot be sent twice, so this relies on the authorization
        // that opening the upload has just won.
        let response = self.authorized(request, &location).send().await;
        checked(response.map_err(Failure::Network)?).await.map(|_| ())
    }

    /// Stores a manifest under a tag or its digest.
    pub(crate) async fn put_manifest(
        &self,
        identifier: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<(), Failure> {
        let url = self.url(&format!("manifests/{identifier}"))?;
        let request = || {
            let request = self.client.request(Method::PUT, url.clone());
            request.header(header::CONTENT_TYPE, media_type).body(bytes.clone())
        };
        self.send(request).await.map(|_| ())
    }

    /// Gives a failure its name in the crate's terms.
    pub(crate) fn explain(&self, failure: Failure, what: String) -> ImageError {
        match failure {
            Failure::NotFound => ImageError::NotFound { what },
            Failure::Unauthorized => ImageError::Unauthorized {
                registry: self.reference.registry().to_owned(),
                repository: self.reference.repository().to_owned(),
            },
            Failure::TooLarge(limit) => {
                ImageError::TooLarge { what, limit: format!("{limit} bytes") }
            }
            failure => {
                let retryable = failure.is_passing();
                let source: Cause = failure.into();
                match self.direction {
                    Direction::Pull => ImageError::PullFailed { what, retryable, source },
                    Direction::Push => ImageError::PushFailed { what, retryable, source },
                }
            }
        }
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base.join(path).map_err(|_| Failure::Protocol("an address that is no URL"))
    }

    /// Sends a request, once more with authorization when that is asked for.
    async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, Failure> {
        let response =
            self.authorized(request(), &self.base).send().await.map_err(Failure::Network)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return checked(response).await;
        }
        let authorization = self.answer(response.headers()).await?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        let response =
            self.authorized(request(), &self.base).send().await.map_err(Failure::Network)?;
        checked(response).await
    }

    /// Credentials go to the registry only, wherever it points uploads to.
    fn authorized(&self, request: RequestBuilder, url: &Url) -> RequestBuilder {
        let same = url.origin() == self.base.origin();
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        match authorization.as_deref().filter(|_| same) {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    /// Turns the registry's challenge into an `Authorization` value.
    async fn answer(&self, headers: &HeaderMap) -> Result<String, Failure> {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE);
        for challenge in challenges.iter().filter_map(|value| value.to_str().ok()) {
            let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("bearer") && !matches!(self.auth, Auth::Bearer(_)) {
                return self.token(parameters).await;
            }
            if scheme.eq_ignore_ascii_case("basic")
                && let Auth::Basic { user, password } = &self.auth
            {
                return Ok(basic(user, password));
            }
        }
        Err(Failure::Unauthorized)
    }

    /// Asks the token service named in a challenge (distribution spec's token
    /// authentication).
    async fn token(&self, parameters: &str) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let realm = parameter(parameters, "realm")
            .and_then(|realm| Url::parse(&realm).ok())
            .ok_or(Failure::Protocol("a challenge without a realm"))?;
        if realm.scheme() != self.base.scheme() && realm.scheme() != "https" {
            return Err(Failure::Protocol("a token service without TLS"));
        }
        let actions = match self.direction {
            Direction::Pull => "pull",
            Direction::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.reference.repository());
        let mut request = self.client.get(realm).query(&[("scope", scope)]);
        if let Some(service) = parameter(parameters, "service") {
            request = request.query(&[("service", service)]);
        }
        if let Auth::Basic { user, password } = &self.auth {
            request = request.header(header::AUTHORIZATION, basic(user, password));
        }
        let response = checked(request.send().await.map_err(Failure::Network)?).await?;
        let bytes = read_up_to(response, TOKEN_BYTES_MAX).await?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|_| Failure::Protocol("a token document that is not JSON"))?;
        let token = answer.token.or(answer.access_token);
        let token = token.ok_or(Failure::Protocol("a token document without a token"))?;
        Ok(format!("Bearer {token}"))
    }
}

impl Failure {
    /// Whether the registry may well send the whole, but not a part.
    pub(crate) fn refuses_part(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Protocol(_) => true,
            _ => false,
        }
    }

    /// Whether trying again soon may work.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Network(_) | Self::Short => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            _ => false,
        }
    }
}

/// How often, and after which pauses, a transfer that breaks is taken up again.
pub(crate) struct Patience {
    attempts_left: u32,
    pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts_left: ATTEMPTS_MAX, pause: BACKOFF_FIRST }
    }
}

impl Patience {
    /// Waits before the next attempt; false when there is to be none. `gained`
    /// are the bytes that the last one brought.
    pub(crate) async fn wait(&mut self, failure: &Failure, gained: u64) -> bool {
        if gained >= RESUME_PROGRESS_BYTES_MIN {
            *self = Self::default();
        }
        self.attempts_left = self.attempts_left.saturating_sub(1);
        if self.attempts_left == 0 || !failure.is_passing() {
            return false;
        }
        tracing::debug!(error = %failure, pause = ?self.pause, "a transfer broke, going on");
        tokio::time::sleep(self.pause).await;
        self.pause *= 2;
        true
    }
}

/// Repeats work that fails in passing, waiting longer each time.
///
/// Takes a plain closure, not an async one: the future of an async closure is
/// not known to be `Send` for every lifetime, and this runs inside spawned tasks.
pub(crate) async fn retried<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut wait = BACKOFF_FIRST;
    for _ in 1..ATTEMPTS_MAX {
        match attempt().await {
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, ?wait, "registry request failed, trying again");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

async fn checked(response: Response) -> Result<Response, Failure> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND => Err(Failure::NotFound),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Unauthorized),
        status => {
            let bytes = read_up_to(response, ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).chars().take(500).collect();
            Err(Failure::Status { status, text })
        }
    }
}

async fn read_up_to(response: Response, bytes_max: u64) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(Failure::Network)?;
        if (bytes.len() + chunk.len()) as u64 > bytes_max {
            return Err(Failure::TooLarge(bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Whether an answer with a part of something starts at this byte.
fn begins_at(headers: &HeaderMap, from: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.trim_start().split_once('-'))
        .is_some_and(|(start, _)| start.parse() == Ok(from))
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let text = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

/// One quoted parameter of a challenge: `realm="https://…",service="…"`.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_starts_where_its_header_says() {
        let at = |text: &'static str| {
            HeaderMap::from_iter([(header::CONTENT_RANGE, http::HeaderValue::from_static(text))])
        };
        assert!(begins_at(&at("bytes 5-9/10"), 5) && begins_at(&at("bytes 5-9/*"), 5));
        for other in ["bytes 0-9/10", "bytes */10", "5-9/10", "bytes -5-9/10", ""] {
            assert!(!begins_at(&at(other), 5), "{other}");
        }
        assert!(!begins_at(&HeaderMap::new(), 5));
    }

    #[test]
    fn challenges_are_taken_apart() {
        let text = r#"realm="https://a/token?x=1,2",service="reg.io", scope=plain,error="e""#;
        assert_eq!(parameter(text, "realm").as_deref(), Some("https://a/token?x=1,2"));
        assert_eq!(parameter(text, "service").as_deref(), Some("reg.io"));
        assert_eq!(parameter(text, "scope").as_deref(), Some("plain"));
        assert_eq!(parameter(text, "nothing"), None);
        assert_eq!(parameter("realm=\"open", "realm"), None);
    }
}
