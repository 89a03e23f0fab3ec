//! The head of a response (RFC 9112 §4), read as it comes: what is sent on is written anew.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use httparse::Status;

use super::decoder::Decoder;
use super::head::{self, HeadError, HeadScan, LINES_MAX, Lines};
use super::outbox::Persistence;

/// A response, and what is known of its connection and body.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) response: Response<()>,
    pub(crate) body: Decoder,
    pub(crate) persistence: Persistence,
}

/// What a status is called, where that is not what it is usually called.
#[derive(Clone, Debug)]
pub(super) struct Reason(pub(super) HeaderValue);

/// Reads one head after the other.
#[derive(Debug, Default)]
pub(crate) struct Responses(HeadScan);

impl Responses {
    /// The response to such a request whose head is all there. Those that only say that it
    /// is being worked on are passed over (RFC 9110 §15.2).
    pub(crate) fn next(
        &mut self,
        buffer: &mut BytesMut,
        asked: &Method,
        bytes_max: usize,
    ) -> Result<Option<Answered>, HeadError> {
        while let Some(end) = self.0.end(buffer, false, bytes_max)? {
            let answered = read(buffer.split_to(end).freeze(), asked)?;
            let status = answered.response.status();
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(answered));
            }
        }
        Ok(None)
    }
}

fn read(bytes: Bytes, asked: &Method) -> Result<Answered, HeadError> {
    let mut lines: Lines<'_> = [const { MaybeUninit::uninit() }; LINES_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, &bytes, &mut lines)? {
        Status::Complete(end) if end == bytes.len() => {}
        Status::Complete(_) | Status::Partial => return Err(HeadError::Rest),
    }
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default())?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    let is_old = parsed.version == Some(0);
    *response.version_mut() = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    *response.headers_mut() = head::headers(parsed.headers, &bytes)?;
    let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    if let Some(reason) = reason.and_then(|reason| HeaderValue::from_str(reason).ok()) {
        response.extensions_mut().insert(Reason(reason));
    }
    let has_none = *asked == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if has_none { Decoder::empty() } else { body(response.headers(), is_old)? };
    let persistence = Persistence::of(response.headers(), is_old);
    Ok(Answered { response, body, persistence })
}

/// How long the body of a response is (RFC 9112 §6.3).
fn body(headers: &HeaderMap, is_old: bool) -> Result<Decoder, HeadError> {
    if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        if is_old {
            return Err(HeadError::Coding);
        }
        return Ok(if head::ends_in_chunks(coding) {
            Decoder::chunked()
        } else {
            Decoder::UntilClose
        });
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(head::length);
    let Some(first) = lengths.next() else { return Ok(Decoder::UntilClose) };
    let is_agreed = lengths.all(|length| length == first);
    first.filter(|_| is_agreed).map(Decoder::Length).ok_or(HeadError::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str, asked: Method) -> Result<Option<Answered>, HeadError> {
        Responses::default().next(&mut BytesMut::from(text), &asked, 1000)
    }

    fn body_of(head: &str, asked: Method) -> Result<Decoder, HeadError> {
        answered(&format!("HTTP/1.1 {head}\r\n\r\n"), asked).map(|answered| answered.unwrap().body)
    }

    #[test]
    fn a_response_is_read_and_what_comes_before_it_is_not() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
                    HTTP/1.1 200 Fine\r\nA: b\r\n\r\n";
        let answered = answered(text, Method::GET).unwrap().unwrap();
        assert_eq!(answered.response.status(), 200);
        assert_eq!(answered.response.headers()["a"], "b");
        assert_eq!(answered.response.extensions().get::<Reason>().unwrap().0, "Fine");
    }

    #[test]
    fn a_body_is_as_long_as_it_is_said() {
        for (head, expected) in [
            ("200 OK\r\nContent-Length: 5", Decoder::Length(5)),
            ("200 OK\r\nContent-Length: 5\r\nContent-Length: 5", Decoder::Length(5)),
            ("200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", Decoder::chunked()),
            ("200 OK\r\nTransfer-Encoding: gzip, chunked", Decoder::chunked()),
            ("200 OK\r\nTransfer-Encoding: gzip", Decoder::UntilClose),
            ("200 OK", Decoder::UntilClose),
            ("204 No Content\r\nContent-Length: 5", Decoder::empty()),
            ("304 Not Modified\r\nContent-Length: 5", Decoder::empty()),
            ("101 Switching Protocols", Decoder::empty()),
        ] {
            assert_eq!(body_of(head, Method::GET).unwrap(), expected, "{head}");
            assert_eq!(body_of(head, Method::HEAD).unwrap(), Decoder::empty(), "{head}");
        }
        for head in
            ["200 OK\r\nContent-Length: 5\r\nContent-Length: 6", "200 OK\r\nContent-Length: x"]
        {
            assert!(body_of(head, Method::GET).is_err(), "{head}");
        }
    }

    #[test]
    fn simple_programs_end_lines_as_they_like() {
        let answered = answered("HTTP/1.0 200 OK\nA: b\n\nhello", Method::GET).unwrap().unwrap();
        assert_eq!(answered.body, Decoder::UntilClose);
        assert_eq!(answered.persistence, Persistence::Closed);
    }
}
