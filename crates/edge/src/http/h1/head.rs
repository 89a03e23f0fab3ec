//! Where a head ends, and its lines as names and values (RFC 9112 §2 and §5).

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, InvalidHeaderName, InvalidHeaderValue, TRANSFER_ENCODING};
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Header;
use memchr::memchr;

/// Lines of one head. Browsers send some twenty.
pub(super) const LINES_MAX: usize = 100;

/// What a proxy adds to a head, for which there is room from the start.
const LINES_ADDED: usize = 8;

/// Room for the lines of a head.
pub(super) type Lines<'b> = [MaybeUninit<Header<'b>>; LINES_MAX];

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the head is larger than may be")]
    TooLarge,
    #[error("what is asked for is longer than may be")]
    TargetTooLong,
    #[error("a line of the head ends without a carriage return")]
    BareLineEnd,
    #[error("the head is not HTTP/1.1: {0}")]
    Syntax(httparse::Error),
    #[error("the head goes on behind its end")]
    Rest,
    #[error("the head has a name that is none")]
    Name(#[from] InvalidHeaderName),
    #[error("the head has a value that is none")]
    Value(#[from] InvalidHeaderValue),
    #[error("the method is none")]
    Method(#[from] http::method::InvalidMethod),
    #[error("the status is none")]
    Status(#[from] http::status::InvalidStatusCode),
    #[error("what is asked for is none")]
    Target(#[from] InvalidUri),
    #[error("the length of the body is not said, or said in two ways")]
    Length,
    #[error("the coding of the body is none that can end it")]
    Coding,
    #[error("the body is not in chunks")]
    Chunk,
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> HeadError {
        match error {
            httparse::Error::TooManyHeaders => HeadError::TooLarge,
            error => HeadError::Syntax(error),
        }
    }
}

/// What has been seen of a head that has not ended, so that no byte is looked at twice
/// however few come at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    searched: usize,
    line_start: usize,
}

impl HeadScan {
    /// Whether it has been begun with.
    pub(super) fn has_begun(self) -> bool {
        self.searched > 0
    }

    /// How long the head is, if it is all there. Empty lines before it are dropped
    /// (RFC 9112 §2.2). What is `strict` must have both bytes of each line end: two parsers
    /// may differ about what has one, which has been used to smuggle requests past a proxy.
    pub(super) fn end(
        &mut self,
        buffer: &mut BytesMut,
        is_strict: bool,
        bytes_max: usize,
    ) -> Result<Option<usize>, HeadError> {
        while let Some(found) = memchr(b'\n', &buffer[self.searched..]) {
            let at = self.searched + found;
            let line = &buffer[self.line_start..at];
            if is_strict && line.last() != Some(&b'\r') {
                return Err(HeadError::BareLineEnd);
            }
            let is_empty = matches!(line, [] | [b'\r']);
            (self.searched, self.line_start) = (at + 1, at + 1);
            if is_empty && line.len() == at {
                buffer.advance(at + 1);
                *self = HeadScan::default();
            } else if is_empty {
                let end = std::mem::take(self).searched;
                return if end > bytes_max { Err(HeadError::TooLarge) } else { Ok(Some(end)) };
            }
        }
        self.searched = buffer.len();
        if self.searched > bytes_max { Err(HeadError::TooLarge) } else { Ok(None) }
    }
}

/// Whether a line ends in half of a line end.
pub(super) fn has_bare_line_end(bytes: &[u8]) -> bool {
    let mut before = 0;
    bytes.iter().any(|byte| std::mem::replace(&mut before, *byte) != b'\r' && *byte == b'\n')
}

/// The lines of a head, which are slices of these bytes.
pub(super) fn headers(lines: &[Header<'_>], bytes: &Bytes) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(lines.len() + LINES_ADDED);
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes())?;
        headers.append(name, HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))?);
    }
    Ok(headers)
}

/// The lines behind a body, their end included, without those that say how long it was
/// (RFC 9110 §6.5.1).
pub(super) fn trailers(bytes: &Bytes) -> Result<HeaderMap, HeadError> {
    let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
    match httparse::parse_headers(bytes, &mut lines)? {
        httparse::Status::Complete((end, lines)) if end == bytes.len() => {
            let mut trailers = headers(lines, bytes)?;
            trailers.remove(CONTENT_LENGTH);
            trailers.remove(TRANSFER_ENCODING);
            Ok(trailers)
        }
        httparse::Status::Complete(_) | httparse::Status::Partial => Err(HeadError::Rest),
    }
}

/// Whether a list of words has this one (RFC 9110 §5.6.1).
pub(crate) fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|it| it.trim().eq_ignore_ascii_case(word)))
}

/// Whether of the codings of a body the last is the one that can end it (RFC 9112 §6.3).
pub(super) fn ends_in_chunks(codings: &HeaderValue) -> bool {
    let last = codings.to_str().ok().and_then(|text| text.rsplit(',').next());
    last.is_some_and(|it| it.trim().eq_ignore_ascii_case("chunked"))
}

/// The length that a head says (RFC 9110 §8.6): digits and nothing else.
pub(super) fn length(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 100;

    /// Where the head ends when its bytes come one by one.
    fn end(text: &str, is_strict: bool) -> Result<Option<usize>, HeadError> {
        let (mut buffer, mut scan) = (BytesMut::new(), HeadScan::default());
        for byte in text.bytes() {
            buffer.extend_from_slice(&[byte]);
            if let Some(end) = scan.end(&mut buffer, is_strict, BYTES_MAX)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_ends_with_an_empty_line_and_begins_behind_those_before_it() {
        assert_eq!(end("GET /\r\nA: b\r\n\r\nrest", true).unwrap(), Some(15));
        assert_eq!(end("\r\n\r\nGET /\r\n\r\n", true).unwrap(), Some(9));
        assert_eq!(end("\n\r\nGET /\nA: b\n\nrest", false).unwrap(), Some(12));
        assert_eq!(end("GET /\r\nA: b\r\n", true).unwrap(), None);
    }

    #[test]
    fn half_a_line_end_is_none_where_that_matters() {
        for text in ["GET /\n", "GET /\r\nA: b\n", "GET /\r\nA: b\r\n\n", "\nGET /"] {
            assert!(matches!(end(text, true), Err(HeadError::BareLineEnd)), "{text:?}");
        }
        assert!(
            has_bare_line_end(b"a\n") && has_bare_line_end(b"\n") && !has_bare_line_end(b"a\r\n")
        );
    }

    #[test]
    fn what_is_larger_than_may_be_is_told_before_it_ends() {
        let large = format!("GET /\r\nA: {}", "b".repeat(BYTES_MAX));
        assert!(matches!(end(&large, true), Err(HeadError::TooLarge)));
        let empty = "\r\n".repeat(2 * BYTES_MAX);
        assert_eq!(end(&format!("{empty}GET /\r\n\r\n"), true).unwrap(), Some(9));
    }

    #[test]
    fn lengths_are_digits() {
        for text in ["", "+5", "-5", "5 5", "5,5", "0x5", "99999999999999999999"] {
            assert_eq!(length(&HeaderValue::from_static(text)), None, "{text:?}");
        }
        assert_eq!(length(&HeaderValue::from_static("0017")), Some(17));
    }
}
