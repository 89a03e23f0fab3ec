//! The program that answers: requests go to it over connections that are kept.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, service_fn};

use super::HEAD_BYTES_MAX;

/// The program is on this machine, or near: one that takes longer is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is kept without a request. Below the five seconds that common
/// frameworks keep theirs, so that a request does not meet one that is closing.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// Concern one connection only, whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A body on its way to the program.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

type Connector = BoxCloneSyncService<Uri, TokioIo<TcpStream>, io::Error>;

/// Where requests go.
pub(super) struct Program {
    /// `127.0.0.1:3000`, or a name and a port.
    to: String,
    /// What it is told as `Host`, in place of what the visitor asked for.
    host: Option<HeaderValue>,
    client: Client<Connector, Body>,
}

impl Program {
    pub(super) fn new(to: String, host: Option<HeaderValue>) -> Program {
        let address = to.clone();
        let connector: Connector = BoxCloneSyncService::new(service_fn(move |_: Uri| {
            let address = address.clone();
            async move {
                let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
                let stream = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                let _ = stream.set_nodelay(true);
                Ok(TokioIo::new(stream))
            }
        }));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_preserve_header_case(true)
            .build(connector);
        Program { to, host, client }
    }

    pub(super) fn to(&self) -> &str {
        &self.to
    }

    /// Sends a request on, and returns the head of the answer with the body behind it.
    pub(super) async fn ask(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned();
        parts.uri = within(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        parts.version = Version::HTTP_11;
        pass_on(&mut parts.headers);
        if let Some(host) = &self.host {
            parts.headers.insert(HOST, host.clone());
        }
        let mut response = self.client.request(Request::from_parts(parts, body)).await?;
        *response.version_mut() = Version::HTTP_11;
        pass_on(response.headers_mut());
        Ok(response)
    }
}

/// The path at a host that stands for the program: the connector knows where it is.
fn within(path: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("program"));
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).unwrap_or_default()
}

/// The protocol a message asks to change to, or agrees to.
pub(super) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    named_by_connection(headers)
        .any(|name| name == UPGRADE)
        .then(|| headers.get(UPGRADE).cloned())
        .flatten()
}

fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok())
}

/// Takes out what is for the connection alone, less an upgrade, which is for both.
fn pass_on(headers: &mut HeaderMap) {
    let upgrade = upgrade_of(headers);
    let named: Vec<HeaderName> = named_by_connection(headers)
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TE))
        .collect();
    // With both, the length was for the connection's framing and is not true.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_connection_stays_and_an_upgrade_goes_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade, X-Mine, Host"),
            ("upgrade", "websocket"),
            ("x-mine", "1"),
            ("host", "demo.example"),
            ("keep-alive", "5"),
            ("accept", "*/*"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        pass_on(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "connection", "host", "upgrade"]);
        assert_eq!(headers["connection"], "upgrade");
        headers.remove(CONNECTION);
        pass_on(&mut headers);
        assert!(!headers.contains_key(UPGRADE), "nobody asked for it on this connection");
    }

    #[test]
    fn paths_are_kept_as_they_came() {
        for path in ["/", "/a%20b?x=1", "*", "//evil.example/x"] {
            let uri = within(path.parse().unwrap());
            assert_eq!(uri.path_and_query().unwrap().as_str(), path);
        }
    }
}
