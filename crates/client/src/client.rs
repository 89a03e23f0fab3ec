//! The client itself: addresses, credentials, and turning answers into results.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use helix_model::api::{POSITION_HEADER, Version, WAIT_POSITION_HEADER};
use helix_model::reference::Scope;
use helix_model::{Code, Problem, Receipt};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ClientError, Result};

/// A server on the same machine answers in microseconds; five seconds is a
/// network that lost a packet or two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No ordinary call does work that takes longer; waits and streams set their own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a change is sent when its connection breaks. The idempotency key
/// makes the repetition harmless.
const MUTATION_ATTEMPTS: u32 = 3;

/// A connection to one API with one token. Cloning is cheap and shares both.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    /// The log position of the last change made through this client. Reads wait
    /// for it, so that one sees one's own writes on any server.
    written: AtomicU64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.url()).finish()
    }
}

impl Client {
    /// A client of the API at `url`, such as `http://127.0.0.1:7420`. Nothing is
    /// sent yet. Without a token only health and version answer.
    pub fn new(url: &str, token: Option<&str>) -> Result<Client> {
        let unusable = || ClientError::Unusable { what: "API address", text: url.to_owned() };
        let base = Url::parse(url).map_err(|_| unusable())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(unusable());
        }
        // Someone may have installed one already; then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A token for this API must not travel to wherever a redirect leads.
            .redirect(reqwest::redirect::Policy::none());
        if base.scheme() == "http" {
            // Without this a machine that has no certificates could not even
            // talk to itself.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|source| unreachable(url, source))?;
        Ok(Client {
            inner: Arc::new(Inner {
                http,
                base,
                token: token.map(str::to_owned),
                written: AtomicU64::new(0),
            }),
        })
    }

    /// The API's base URL, without a slash at the end.
    pub fn url(&self) -> &str {
        self.inner.base.as_str().trim_end_matches('/')
    }

    /// The API's host and port, as an image reference wants it.
    pub fn authority(&self) -> String {
        let base = &self.inner.base;
        let host = base.host_str().unwrap_or_default();
        base.port_or_known_default()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Whether the API answers at all.
    pub async fn health(&self) -> Result<()> {
        let request = self.request(Method::GET, &["v1", "health"])?;
        self.send(request.timeout(REQUEST_TIMEOUT)).await.map(|_| ())
    }

    /// The server's version.
    pub async fn version(&self) -> Result<Version> {
        self.read(self.request(Method::GET, &["v1", "version"])?).await
    }

    /// A request for a path of these segments, with credentials. Segments are
    /// percent-encoded: a reference may contain `/`, `@` and `:`.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> Result<RequestBuilder> {
        let mut url = self.inner.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::Unusable {
                what: "API address",
                text: self.url().to_owned(),
            })?
            .pop_if_empty()
            .extend(segments);
        let mut request = self.inner.http.request(method, url);
        if let Some(token) = &self.inner.token {
            request = request.bearer_auth(token);
        }
        let written = self.inner.written.load(Ordering::Relaxed);
        if written > 0 {
            request = request.header(WAIT_POSITION_HEADER, written);
        }
        Ok(request)
    }

    /// Sends and decodes an ordinary answer.
    pub(crate) async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        self.read_within(request, REQUEST_TIMEOUT).await
    }

    /// The same for an answer that may take its time.
    pub(crate) async fn read_within<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<T> {
        let response = self.send(request.timeout(limit)).await?;
        self.decode(response).await
    }

    /// Posts a change that answers with its receipt.
    pub(crate) async fn change(
        &self,
        segments: &[&str],
        scope: &Scope,
        body: &impl Serialize,
    ) -> Result<Receipt> {
        self.change_by(Method::POST, segments, |request| request.query(scope).json(body)).await
    }

    /// The same by another method.
    pub(crate) async fn change_by(
        &self,
        method: Method,
        segments: &[&str],
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Receipt> {
        let receipt: Receipt = self.change_for(method, segments, fill).await?;
        self.inner.written.fetch_max(receipt.position, Ordering::Relaxed);
        Ok(receipt)
    }

    /// Sends a change under one idempotency key, again when a connection breaks.
    pub(crate) async fn change_for<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<T> {
        let key = ulid::Ulid::new().to_string();
        let mut attempt = 1;
        let response = loop {
            let request = fill(self.request(method.clone(), segments)?)
                .header("idempotency-key", &key)
                .timeout(REQUEST_TIMEOUT);
            match self.send(request).await {
                Err(ClientError::Unreachable { source, .. })
                    if attempt < MUTATION_ATTEMPTS && is_broken(source.as_ref()) =>
                {
                    tracing::debug!(attempt, "the connection broke, sending the change again");
                    attempt += 1;
                }
                other => break other?,
            }
        };
        if let Some(position) = position(&response) {
            self.inner.written.fetch_max(position, Ordering::Relaxed);
        }
        self.decode(response).await
    }

    /// Sends and checks the status; the body is still to be read.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request
            .header("user-agent", concat!("helix/", env!("CARGO_PKG_VERSION")))
            .header("x-request-id", ulid::Ulid::new().to_string())
            .send()
            .await
            .map_err(|source| self.unreachable(source))?;
        let status = response.status();
        if status.is_success() || status == reqwest::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    pub(crate) fn unreachable(&self, source: reqwest::Error) -> ClientError {
        unreachable(self.url(), source)
    }

    pub(crate) fn malformed(&self, reason: impl ToString) -> ClientError {
        ClientError::Malformed { url: self.url().to_owned(), reason: reason.to_string() }
    }

    async fn decode<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let body = response.bytes().await.map_err(|source| self.unreachable(source))?;
        serde_json::from_slice(&body).map_err(|error| self.malformed(error))
    }

    /// The problem a refusal carries, or one made from its status: a proxy in
    /// between answers with pages of its own.
    async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(source) => return self.unreachable(source),
        };
        if let Ok(problem) = serde_json::from_slice::<Problem>(&body) {
            return ClientError::Problem(Box::new(problem));
        }
        let code = match status.as_u16() {
            401 => Code::Unauthorized,
            403 => Code::Forbidden,
            429 => Code::RateLimited,
            502..=504 => Code::Unavailable,
            _ => return self.malformed(format!("status {status} without a problem document")),
        };
        ClientError::Problem(Box::new(Problem::new(
            code,
            format!("{} answered {status}", self.url()),
        )))
    }
}

/// The log position a response reflects.
pub(crate) fn position(response: &Response) -> Option<u64> {
    let header = response.headers().get(POSITION_HEADER)?;
    header.to_str().ok()?.parse().ok()
}

fn unreachable(url: &str, source: reqwest::Error) -> ClientError {
    ClientError::Unreachable {
        url: url.trim_end_matches('/').to_owned(),
        // The URL is in the message already.
        source: Box::new(source.without_url()),
    }
}

/// Whether the connection existed and broke. One that was refused stays refused,
/// and a timeout has had its time.
fn is_broken(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source
        .downcast_ref::<reqwest::Error>()
        .is_some_and(|error| error.is_request() && !error.is_connect() && !error.is_timeout())
}
