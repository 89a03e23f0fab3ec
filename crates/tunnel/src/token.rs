//! The tokens agents show: JSON Web Tokens (RFC 7519) signed with Ed25519 (RFC 8037).
//!
//! A control plane signs them with its [`SigningKey`]; an edge, which has the public
//! halves only, checks them without asking anybody. Two kinds are told apart by their
//! audience: one lets an agent attach to an edge for some minutes, the other lets it ask
//! for more of the first. Must not know whether a tunnel still exists.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Longest token that is looked at: three times what ours come to.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// How far two clocks may be apart.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Attaching to an edge, once at each.
    Edge,
    /// Asking the control plane for another.
    Recreate,
}

/// What a token says. Times are seconds since the epoch, as the RFC has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The tunnel's id.
    pub sub: String,
    /// The id of the org that has it.
    pub org: String,
    /// Tokens of an earlier generation of the tunnel than its present one are refused.
    #[serde(rename = "gen")]
    pub generation: u64,
    pub aud: Audience,
    pub iat: u64,
    pub exp: u64,
    /// Different in every token.
    pub jti: String,
}

/// Signs tokens.
pub struct SigningKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public: VerifyingKey,
}

/// Checks them.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    id: String,
    public: Vec<u8>,
}

/// Why bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no random numbers can be had to make a key")]
    Random,
    #[error("it is not an Ed25519 key")]
    Malformed,
}

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("it is not a token of a tunnel")]
    Malformed,
    #[error("nobody who is known here has signed the token")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is from the future: the clocks of two machines differ")]
    Future,
    #[error("the token is for something else")]
    Audience,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerifyingKey").field(&self.id).finish()
    }
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> Result<SigningKey, KeyError> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        SigningKey::from_pkcs8(made.map_err(|_| KeyError::Random)?.as_ref())
    }

    /// One that was kept (PKCS #8, version 2).
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<SigningKey, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Malformed)?;
        let public = VerifyingKey::new(pair.public_key().as_ref().to_vec())?;
        Ok(SigningKey { pkcs8: Zeroizing::new(pkcs8.to_vec()), public })
    }

    /// As it is to be kept, sealed.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// What its tokens are checked with.
    pub fn verifying(&self) -> &VerifyingKey {
        &self.public
    }

    /// A token that says this.
    ///
    /// # Errors
    /// Never, in practice: the key was read when it was made.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.public.id.clone());
        let key = EncodingKey::from_ed_der(&self.pkcs8);
        jsonwebtoken::encode(&header, claims, &key).map_err(|_| KeyError::Malformed)
    }
}

impl VerifyingKey {
    fn new(public: Vec<u8>) -> Result<VerifyingKey, KeyError> {
        if public.len() != ring::signature::ED25519_PUBLIC_KEY_LEN {
            return Err(KeyError::Malformed);
        }
        let hash = Sha256::digest(&public);
        Ok(VerifyingKey { id: BASE64_URL_SAFE_NO_PAD.encode(&hash[..12]), public })
    }

    /// From the form [`VerifyingKey::to_base64url`] gives.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn from_base64url(text: &str) -> Result<VerifyingKey, KeyError> {
        let public = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Malformed)?;
        VerifyingKey::new(public)
    }

    /// The public key, 32 bytes, without padding.
    pub fn to_base64url(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(&self.public)
    }

    /// What tokens name it by (`kid`): it follows from the key.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// What a token says, if one of the keys has signed it and it is good now.
///
/// # Errors
/// When it is not, and why.
pub fn verify(
    token: &str,
    keys: &[VerifyingKey],
    audience: Audience,
    now_s: u64,
) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
    let named = |key: &&VerifyingKey| Some(&key.id) == header.kid.as_ref();
    let key = keys.iter().find(named).ok_or(TokenError::Signature)?;
    // Times are looked at below, where the clock is the caller's.
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoding = DecodingKey::from_ed_der(&key.public);
    let claims = jsonwebtoken::decode::<Claims>(token, &decoding, &validation);
    let claims = claims.map_err(|error| match error.kind() {
        jsonwebtoken::errors::ErrorKind::InvalidSignature => TokenError::Signature,
        _ => TokenError::Malformed,
    })?;
    let claims = claims.claims;
    if claims.aud != audience {
        return Err(TokenError::Audience);
    }
    if claims.exp <= now_s {
        return Err(TokenError::Expired);
    }
    if claims.iat > now_s + CLOCK_SKEW.as_secs() {
        return Err(TokenError::Future);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_767_225_600;

    fn claims() -> Claims {
        Claims {
            sub: "tun_1".to_owned(),
            org: "org_1".to_owned(),
            generation: 3,
            aud: Audience::Edge,
            iat: NOW_S,
            exp: NOW_S + 300,
            jti: "a".to_owned(),
        }
    }

    fn key() -> SigningKey {
        SigningKey::generate().unwrap()
    }

    #[test]
    fn a_token_says_what_was_signed_until_it_expires() {
        let (old, new) = (key(), key());
        let keys = [old.verifying().clone(), new.verifying().clone()];
        for key in [&old, &new] {
            let token = key.sign(&claims()).unwrap();
            assert_eq!(verify(&token, &keys, Audience::Edge, NOW_S), Ok(claims()));
            assert_eq!(verify(&token, &keys, Audience::Edge, NOW_S + 299), Ok(claims()));
            let late = verify(&token, &keys, Audience::Edge, NOW_S + 300);
            assert_eq!(late, Err(TokenError::Expired));
            let early = verify(&token, &keys, Audience::Edge, NOW_S - 31);
            assert_eq!(early, Err(TokenError::Future));
        }
    }

    #[test]
    fn a_token_of_others_or_for_something_else_is_refused() {
        let (ours, theirs) = (key(), key());
        let keys = [ours.verifying().clone()];
        let check = |token: &str, audience| verify(token, &keys, audience, NOW_S);
        let foreign = theirs.sign(&claims()).unwrap();
        assert_eq!(check(&foreign, Audience::Edge), Err(TokenError::Signature));
        let token = ours.sign(&claims()).unwrap();
        assert_eq!(check(&token, Audience::Recreate), Err(TokenError::Audience));
        for other in ["", "a.b.c", &token[1..], &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(check(other, Audience::Edge), Err(TokenError::Malformed), "{other}");
        }
    }

    #[test]
    fn a_token_that_was_altered_or_claims_another_algorithm_is_refused() {
        let key = key();
        let keys = [key.verifying().clone()];
        let token = key.sign(&claims()).unwrap();
        let (head, rest) = token.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        let other = Claims { sub: "tun_2".to_owned(), ..claims() };
        let other = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&other).unwrap());
        let altered = format!("{head}.{other}.{signature}");
        assert_eq!(verify(&altered, &keys, Audience::Edge, NOW_S), Err(TokenError::Signature));
        for algorithm in ["none", "HS256"] {
            let kid = keys[0].id();
            let head = format!(r#"{{"alg":"{algorithm}","typ":"JWT","kid":"{kid}"}}"#);
            let head = BASE64_URL_SAFE_NO_PAD.encode(head);
            let forged = format!("{head}.{body}.{signature}");
            let outcome = verify(&forged, &keys, Audience::Edge, NOW_S);
            assert_eq!(outcome, Err(TokenError::Malformed), "{algorithm}");
        }
    }

    #[test]
    fn keys_come_back_as_they_were_kept() {
        let key = key();
        let again = SigningKey::from_pkcs8(key.to_pkcs8()).unwrap();
        assert_eq!(again.verifying(), key.verifying());
        let public = key.verifying().to_base64url();
        assert_eq!(VerifyingKey::from_base64url(&public).as_ref(), Ok(key.verifying()));
        assert_eq!(VerifyingKey::from_base64url("AAAA"), Err(KeyError::Malformed));
        assert!(SigningKey::from_pkcs8(b"none").is_err());
        assert!(!format!("{key:?}").contains("pkcs8"));
    }
}
