//! How a request came to the edge.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use http::HeaderValue;

/// The connection a request came on.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) client: SocketAddr,
    /// Present when it was encrypted.
    pub(crate) secure: Option<Secure>,
    /// The client, as backends are told.
    forwarded_for: HeaderValue,
    /// The host that was asked for first, and all that backends are told of such a request.
    forwarded: OnceLock<(HeaderValue, HeaderValue)>,
}

/// What is known of an encrypted connection.
#[derive(Clone, Debug)]
pub(crate) struct Secure {
    /// The host it was made for, in lower case.
    pub(crate) name: String,
}

impl Front {
    pub(crate) fn new(client: SocketAddr, secure: Option<Secure>) -> Front {
        let forwarded_for = header(&client.ip().to_canonical().to_string());
        Front { client, secure, forwarded_for, forwarded: OnceLock::new() }
    }

    /// Where a request comes from: the value of `X-Forwarded-For`.
    pub(crate) fn forwarded_for(&self) -> HeaderValue {
        self.forwarded_for.clone()
    }

    /// The same, and what was asked for: the value of `Forwarded` (RFC 7239 §4). Most
    /// connections are used for one host, whose value is made once.
    pub(crate) fn forwarded(&self, host: &HeaderValue) -> HeaderValue {
        let (first, value) = self.forwarded.get_or_init(|| (host.clone(), self.forwarded_to(host)));
        if first == host { value.clone() } else { self.forwarded_to(host) }
    }

    /// An IPv6 address needs brackets and quotes (RFC 7239 §6).
    fn forwarded_to(&self, host: &HeaderValue) -> HeaderValue {
        let (host, scheme) = (host.to_str().unwrap_or_default(), self.scheme());
        header(&match self.client.ip().to_canonical() {
            IpAddr::V4(ip) => format!("for={ip};host=\"{host}\";proto={scheme}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\";host=\"{host}\";proto={scheme}"),
        })
    }

    /// The scheme of the URL that was asked for.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.secure.is_some() { "https" } else { "http" }
    }
}

/// Addresses and hosts that were taken are values that headers may have.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
