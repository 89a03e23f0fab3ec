//! How a request came to the edge.

use std::net::SocketAddr;

/// The connection a request came on.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    pub(crate) client: SocketAddr,
    /// Present when it was encrypted.
    pub(crate) secure: Option<Secure>,
}

/// What is known of an encrypted connection.
#[derive(Clone, Debug)]
pub(crate) struct Secure {
    /// The host it was made for, in lower case.
    pub(crate) name: String,
}

impl Front {
    /// The scheme of the URL that was asked for.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.secure.is_some() { "https" } else { "http" }
    }
}
