//! Credentials for a registry. Never printed.

use std::fmt;

/// How to introduce oneself to a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// As nobody.
    #[default]
    Anonymous,
    /// User and password, sent as HTTP Basic or traded for a token, whichever
    /// the registry asks for.
    Basic {
        /// User name.
        user: String,
        /// Password or access token.
        password: String,
    },
    /// A ready-made bearer token.
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(hidden)",
            Self::Bearer(_) => "Bearer(hidden)",
        })
    }
}
