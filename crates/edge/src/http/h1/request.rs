//! The head of a request (RFC 9112 §3), read strictly: what two parsers could read
//! differently is refused, for one of them could be a backend's.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Uri, Version};
use httparse::Status;

use super::decoder::Decoder;
use super::head::{self, HeadError, HeadScan, LINES_MAX, Lines};
use super::outbox::Persistence;

/// The longest that the `http` crate takes.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

/// A request, and what is known of its connection and body.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request<()>,
    pub(crate) body: Decoder,
    pub(crate) persistence: Persistence,
    /// The body comes once it was allowed to (RFC 9110 §10.1.1).
    pub(crate) awaits_permission: bool,
    pub(crate) takes_trailers: bool,
    pub(crate) asks_to_upgrade: bool,
}

/// Reads one head after the other.
#[derive(Debug, Default)]
pub(crate) struct Requests(HeadScan);

impl Requests {
    /// The request whose head is all there.
    pub(crate) fn next(
        &mut self,
        buffer: &mut BytesMut,
        bytes_max: usize,
    ) -> Result<Option<Asked>, HeadError> {
        if buffer.is_empty() {
            return Ok(None);
        }
        let is_first_look = !self.0.has_begun();
        match self.0.end(buffer, true, bytes_max)? {
            Some(end) => read(buffer.split_to(end).freeze()).map(Some),
            // What is something else altogether may never have a line's end.
            None if is_first_look => glance(buffer).map(|()| None),
            None => Ok(None),
        }
    }

    /// Whether a head has begun that has not ended.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.has_begun()
    }
}

/// Whether these can be the first bytes of a head.
fn glance(bytes: &[u8]) -> Result<(), HeadError> {
    let mut lines: Lines<'_> = [const { MaybeUninit::uninit() }; LINES_MAX];
    httparse::Request::new(&mut []).parse_with_uninit_headers(bytes, &mut lines)?;
    Ok(())
}

fn read(bytes: Bytes) -> Result<Asked, HeadError> {
    let mut lines: Lines<'_> = [const { MaybeUninit::uninit() }; LINES_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&bytes, &mut lines)? {
        Status::Complete(end) if end == bytes.len() => {}
        Status::Complete(_) | Status::Partial => return Err(HeadError::Rest),
    }
    let target = parsed.path.unwrap_or_default();
    if target.len() > TARGET_BYTES_MAX {
        return Err(HeadError::TargetTooLong);
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())?;
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes()))?;
    let is_old = parsed.version == Some(0);
    *request.version_mut() = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.headers_mut() = head::headers(parsed.headers, &bytes)?;
    let headers = request.headers();
    let body = body(headers, is_old)?;
    let awaits = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    Ok(Asked {
        body,
        persistence: Persistence::of(headers, is_old),
        awaits_permission: !is_old && !body.is_over() && headers.get(EXPECT).is_some_and(awaits),
        takes_trailers: !is_old && head::lists(headers, &TE, "trailers"),
        asks_to_upgrade: !is_old
            && headers.contains_key(UPGRADE)
            && head::lists(headers, &CONNECTION, "upgrade"),
        request,
    })
}

/// How long the body of a request is (RFC 9112 §6.3). Both ways to say it, and one of them
/// twice, have been used for smuggling, and no honest client sends them.
fn body(headers: &HeaderMap, is_old: bool) -> Result<Decoder, HeadError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match ((lengths.next(), lengths.next()), (codings.next(), codings.next())) {
        ((None, _), (None, _)) => Ok(Decoder::empty()),
        ((Some(length), None), (None, _)) => {
            head::length(length).map(Decoder::Length).ok_or(HeadError::Length)
        }
        ((None, _), (Some(coding), None)) if !is_old => {
            if head::ends_in_chunks(coding) {
                Ok(Decoder::chunked())
            } else {
                Err(HeadError::Coding)
            }
        }
        _ => Err(HeadError::Length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Option<Asked>, HeadError> {
        Requests::default().next(&mut BytesMut::from(text), 1000)
    }

    fn body_of(lines: &str) -> Result<Decoder, HeadError> {
        asked(&format!("POST / HTTP/1.1\r\n{lines}\r\n")).map(|asked| asked.unwrap().body)
    }

    #[test]
    fn a_request_is_read() {
        let asked = asked("GET /a?b HTTP/1.1\r\nHost: c\r\nX:  d \r\n\r\nrest").unwrap().unwrap();
        assert_eq!(
            (asked.request.method(), asked.request.uri().to_string().as_str()),
            (&Method::GET, "/a?b")
        );
        assert_eq!(
            (&asked.request.headers()["host"], &asked.request.headers()["x"]),
            (&http::HeaderValue::from_static("c"), &http::HeaderValue::from_static("d"))
        );
        assert!(asked.body.is_over() && asked.persistence == Persistence::Kept);
    }

    #[test]
    fn a_body_is_as_long_as_it_is_said_once() {
        assert_eq!(body_of("Content-Length: 5\r\n").unwrap(), Decoder::Length(5));
        assert_eq!(body_of("Transfer-Encoding: Chunked\r\n").unwrap(), Decoder::chunked());
        for lines in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding : chunked\r\n",
        ] {
            assert!(body_of(lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_at_the_first_look() {
        for text in ["\u{16}\u{3}\u{1}", "GET", "GET / HTTP/2.0\r\n", "{\"a\":"] {
            assert_eq!(asked(text).is_err(), text != "GET", "{text:?}");
        }
    }

    #[test]
    fn connections_are_kept_as_versions_and_clients_have_it() {
        for (version, line, persistence) in [
            ("1.1", "A: b", Persistence::Kept),
            ("1.1", "Connection: x, Close", Persistence::Closed),
            ("1.0", "A: b", Persistence::Closed),
            ("1.0", "Connection: keep-alive", Persistence::KeptOnRequest),
        ] {
            let asked = asked(&format!("GET / HTTP/{version}\r\n{line}\r\n\r\n")).unwrap().unwrap();
            assert_eq!(asked.persistence, persistence, "{version} {line}");
        }
    }
}
