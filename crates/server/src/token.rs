//! Tokens: how a caller proves who it is.
//!
//! A token is 256 random bits; only its hash is kept. With that much entropy a
//! plain sha256 is enough, a slow hash would only slow down every request.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// What every token of this kind begins with, so that scanners can find leaks.
const PREFIX: &str = "hx_at_";

/// A token in the clear. Never printed, logged or written but where the user
/// keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// What is kept of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl Token {
    /// A fresh token.
    pub fn fresh() -> Token {
        Token::fresh_with(PREFIX)
    }

    /// A fresh secret of another kind, as long and as random.
    pub(crate) fn fresh_with(prefix: &str) -> Token {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&crate::entropy::fresh().to_le_bytes());
        bytes[16..].copy_from_slice(&crate::entropy::fresh().to_le_bytes());
        Token(format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// A token that someone sent or kept.
    pub fn from_text(text: &str) -> Token {
        Token(text.to_owned())
    }

    /// The text, for the one place that must have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What to keep of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl TokenHash {
    /// Whether a token is the one this was made from. Compares hashes, so how
    /// long it takes tells nothing about the token.
    pub fn matches(&self, token: &Token) -> bool {
        token.hash() == *self
    }
}

impl TokenHash {
    /// As the key that all who have the token can make.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as the state knows it.
    pub fn model(self) -> helix_model::token::Hash {
        helix_model::token::Hash(self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_proves_itself_and_shows_nothing() {
        let token = Token::fresh();
        assert!(token.hash().matches(&Token::from_text(token.reveal())));
        assert!(!token.hash().matches(&Token::fresh()));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
