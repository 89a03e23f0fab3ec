//! How an authority is spoken to: the HTTP client that is there already, with limits.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

/// How long an authority may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Longest answer: chains have some kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The client. Clones share what was told.
#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    retry_after: Arc<Mutex<Option<Duration>>>,
}

impl Http {
    /// One that trusts these certificates in place of the system's.
    pub(super) fn new(roots_pem: Option<&[u8]>) -> Result<Http, reqwest::Error> {
        let mut builder = reqwest::Client::builder().timeout(ANSWER_WAIT);
        if let Some(pem) = roots_pem {
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        Ok(Http { client: builder.build()?, retry_after: Arc::default() })
    }

    /// When the authority wants to hear of it again, if it said so when it refused
    /// something since the last question.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(other)?.to_bytes();
        let request = reqwest::Request::try_from(Request::from_parts(head, body)).map_err(other)?;
        let response = self.client.execute(request).await.map_err(|error| chain(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_client_error() || status.is_server_error() {
            let told = seconds(&headers);
            *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = told;
        }
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(|error| chain(&error))?);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(Error::Str("an answer of an acceptable size"));
            }
        }
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(BytesResponse::from(response))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

/// Of its two forms (RFC 9110 §10.2.3) the one that authorities use.
fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

/// What an error says with what is below it: the cause is what a person needs.
fn chain(error: &reqwest::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(below) = cause {
        text = format!("{text}: {below}");
        cause = below.source();
    }
    Error::Other(text.into())
}
