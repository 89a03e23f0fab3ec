//! Which host a request is for (RFC 9112 §3.2, RFC 9110 §7.2).

use std::borrow::Cow;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Request, Version};

/// Longer than any host name with a port (RFC 1035 allows 253 for the name).
const LENGTH_MAX: usize = 261;

/// Why a request names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error("the request has no Host header")]
    Missing,
    #[error("the request has more than one Host header")]
    Several,
    #[error("the request names two hosts: :authority and Host differ")]
    Differing,
    #[error("the request's Host is not a host name")]
    Malformed,
}

/// The host as sent, with its port: from the request target in absolute form,
/// which overrides the header, otherwise from the only `Host` header.
pub(crate) fn as_sent<B>(request: &Request<B>) -> Result<HeaderValue, HostError> {
    let mut headers = request.headers().get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err(HostError::Several);
    }
    let is_h2 = request.version() == Version::HTTP_2;
    match request.uri().authority() {
        // RFC 9113 §8.3.1.
        Some(authority)
            if is_h2
                && header.is_some_and(|it| {
                    !it.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
                }) =>
        {
            Err(HostError::Differing)
        }
        Some(authority) => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| HostError::Malformed)
        }
        None => header.cloned().ok_or(HostError::Missing),
    }
}

/// The name that routes: lower case, no port, no final dot.
pub(crate) fn name(sent: &HeaderValue) -> Result<Cow<'_, str>, HostError> {
    let text = sent.to_str().map_err(|_| HostError::Malformed)?;
    let is_plain = text.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    });
    if text.len() > LENGTH_MAX || !is_plain {
        return Err(HostError::Malformed);
    }
    // Only names route; of what the parser allows, brackets mean an IP literal.
    let host = match text.rsplit_once(':') {
        _ if text.starts_with('[') => literal(text)?,
        Some((host, port)) if is_port(port) && !host.contains(':') => host,
        Some(_) => return Err(HostError::Malformed),
        None => text,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(HostError::Malformed);
    }
    Ok(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

fn literal(text: &str) -> Result<&str, HostError> {
    let end = text.find(']').ok_or(HostError::Malformed)?;
    let is_whole = text.parse::<Authority>().is_ok() && {
        let rest = &text[end + 1..];
        rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)
    };
    if is_whole { Ok(&text[..=end]) } else { Err(HostError::Malformed) }
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sent: &'static str, expected: Result<&str, HostError>) {
        let value = HeaderValue::from_static(sent);
        assert_eq!(name(&value).as_deref(), expected.as_ref().map(|it| *it), "{sent}");
    }

    #[test]
    fn names_are_normalised() {
        check("hello.localhost", Ok("hello.localhost"));
        check("Hello.LocalHost:8080", Ok("hello.localhost"));
        check("hello.localhost.", Ok("hello.localhost"));
        check("hello.localhost.:80", Ok("hello.localhost"));
        check("hello.localhost:", Ok("hello.localhost"));
        check("[::1]:8080", Ok("[::1]"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for sent in
            ["", ".", ":80", "a:b", "a:99999", "::1", "[::1", "[::1]x", "a/b", "a@b", "a b", "a,b"]
        {
            check(sent, Err(HostError::Malformed));
        }
    }

    #[test]
    fn an_absolute_target_overrides_the_header_and_two_headers_are_refused() {
        let request = Request::get("http://a.example:81/x").header(HOST, "b.example").body(());
        assert_eq!(as_sent(&request.unwrap()).unwrap(), "a.example:81");
        let request = Request::get("/x").header(HOST, "a").header(HOST, "a").body(());
        assert_eq!(as_sent(&request.unwrap()), Err(HostError::Several));
        assert_eq!(as_sent(&Request::get("/").body(()).unwrap()), Err(HostError::Missing));
    }
}
