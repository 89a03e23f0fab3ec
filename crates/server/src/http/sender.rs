//! Whose request another replica passes on: the address it came from and its id,
//! so that the audit trail of the replica that answers tells of who asked and not of
//! the replica between.
//!
//! The field is under a seal that only who has the installation's token can make;
//! from anybody else it is worth nothing. It counts for one request id, so one that was
//! seen somewhere says nothing new about another request.

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use super::gate::REQUEST_ID_HEADER;
use super::identity::Guest;
use crate::token::TokenHash;

/// Marks a request that comes from another replica.
const FORWARDED: HeaderName = HeaderName::from_static("helix-forwarded");

/// Keeps this use of the key apart from any other.
const PURPOSE: &str = "helix-forwarded";

/// What stands for an address nobody knows.
const UNKNOWN: &str = "unknown";

/// Whether another replica asks on a caller's behalf, or somebody says so.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

/// Says in a request that is passed on whose it is.
pub(super) fn write(headers: &mut HeaderMap, key: &TokenHash, guest: &Guest) {
    let source = guest.source.map_or_else(|| UNKNOWN.to_owned(), |source| source.to_string());
    let tag = hmac::sign(&hmac_key(key), &sealed(&source, &guest.request_id));
    let value = format!("{source};{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref()));
    for (name, value) in [(REQUEST_ID_HEADER, &*guest.request_id), (FORWARDED, &value)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

/// Where a request that was passed on came from, or `None` when it was not, as far
/// as anyone can prove.
pub(super) fn read(
    headers: &HeaderMap,
    key: &TokenHash,
    request_id: &str,
) -> Option<Option<IpAddr>> {
    let (source, tag) = headers.get(FORWARDED)?.to_str().ok()?.split_once(';')?;
    let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
    hmac::verify(&hmac_key(key), &sealed(source, request_id), &tag).ok()?;
    Some(source.parse().ok())
}

fn hmac_key(key: &TokenHash) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())
}

/// A request id is printable and without spaces, an address too.
fn sealed(source: &str, request_id: &str) -> Vec<u8> {
    format!("{PURPOSE} {source} {request_id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use crate::token::Token;

    use super::*;

    #[test]
    fn the_sender_is_believed_only_under_the_installations_seal() {
        let (key, other) = (Token::fresh().hash(), Token::fresh().hash());
        let guest =
            |source: &str| Guest { request_id: "req-1".into(), source: source.parse().ok() };
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers, &key, "req-1"), None);
        write(&mut headers, &key, &guest("192.0.2.7"));
        assert_eq!(headers[REQUEST_ID_HEADER], "req-1");
        assert_eq!(read(&headers, &key, "req-1"), Some("192.0.2.7".parse().ok()));
        assert_eq!(read(&headers, &key, "req-2"), None, "of another request");
        assert_eq!(read(&headers, &other, "req-1"), None, "of another installation");
        let changed = headers[FORWARDED].to_str().unwrap().replace("192.0.2.7", "192.0.2.8");
        headers.insert(FORWARDED, HeaderValue::from_str(&changed).unwrap());
        assert_eq!(read(&headers, &key, "req-1"), None, "of another address");
        headers.insert(FORWARDED, HeaderValue::from_static("1"));
        assert_eq!(read(&headers, &key, "req-1"), None, "said without a proof");
        write(&mut headers, &key, &guest("nowhere"));
        assert_eq!(read(&headers, &key, "req-1"), Some(None));
    }
}
