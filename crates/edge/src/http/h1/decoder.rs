//! What of a byte stream is a message's body (RFC 9112 §6 and §7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{self, HeadError};

/// The longest line that says how large a chunk is. Extensions are allowed (RFC 9112 §7.1.1)
/// and used by nobody; 16 digits are the largest size there is.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// What may come behind the last chunk.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// A body, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are to come.
    Length(u64),
    Chunked(Chunk),
    /// It ends with the connection.
    UntilClose,
}

/// What comes next in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Over,
}

/// A piece of a body.
#[derive(Debug, PartialEq)]
pub(crate) enum Decoded {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Not without more bytes.
    More,
    Over,
}

impl Decoder {
    pub(crate) const fn empty() -> Decoder {
        Decoder::Length(0)
    }

    pub(crate) const fn chunked() -> Decoder {
        Decoder::Chunked(Chunk::Size)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Decoder::Length(0) | Decoder::Chunked(Chunk::Over))
    }

    /// How many bytes are to come, where that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Decoder::Length(left) => Some(*left),
            Decoder::Chunked(Chunk::Over) => Some(0),
            Decoder::Chunked(_) | Decoder::UntilClose => None,
        }
    }

    /// Takes the next piece out of what was read.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Decoded, HeadError> {
        match self {
            Decoder::Length(0) => Ok(Decoded::Over),
            Decoder::Length(left) => Ok(data(left, buffer)),
            Decoder::UntilClose if buffer.is_empty() => Ok(Decoded::More),
            Decoder::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            Decoder::Chunked(chunk) => chunk.next(buffer),
        }
    }
}

/// As much as there is of so many bytes.
fn data(left: &mut u64, buffer: &mut BytesMut) -> Decoded {
    let count = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    if count == 0 {
        return Decoded::More;
    }
    *left -= count as u64;
    Decoded::Data(buffer.split_to(count).freeze())
}

impl Chunk {
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Decoded, HeadError> {
        loop {
            match self {
                Chunk::Size => {
                    let Some(size) = size(buffer)? else { return Ok(Decoded::More) };
                    *self = if size == 0 { Chunk::Trailers } else { Chunk::Data(size) };
                }
                Chunk::Data(left) => {
                    let data = data(left, buffer);
                    if *left == 0 {
                        *self = Chunk::DataEnd;
                    }
                    return Ok(data);
                }
                Chunk::DataEnd => {
                    if !b"\r\n".starts_with(&buffer[..buffer.len().min(2)]) {
                        return Err(HeadError::Chunk);
                    }
                    if buffer.len() < 2 {
                        return Ok(Decoded::More);
                    }
                    buffer.advance(2);
                    *self = Chunk::Size;
                }
                Chunk::Trailers => {
                    let Some(trailers) = trailers(buffer)? else { return Ok(Decoded::More) };
                    *self = Chunk::Over;
                    if !trailers.is_empty() {
                        return Ok(Decoded::Trailers(trailers));
                    }
                }
                Chunk::Over => return Ok(Decoded::Over),
            }
        }
    }
}

/// How large the next chunk is, once its line is whole.
fn size(buffer: &mut BytesMut) -> Result<Option<u64>, HeadError> {
    let within = &buffer[..buffer.len().min(CHUNK_LINE_BYTES_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        let is_possible =
            buffer.len() < CHUNK_LINE_BYTES_MAX && within.first().is_none_or(u8::is_ascii_hexdigit);
        return if is_possible { Ok(None) } else { Err(HeadError::Chunk) };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or(HeadError::Chunk)?;
    let size = line_size(line).ok_or(HeadError::Chunk)?;
    buffer.advance(end + 1);
    Ok(Some(size))
}

/// `1f`, with spaces behind it and extensions behind a semicolon or without.
fn line_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let spaces = line[digits..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let is_well_formed = match &line[digits + spaces..] {
        [] => true,
        // Whatever is quoted in an extension, half a line end is not.
        [b';', extension @ ..] => !extension.contains(&b'\r'),
        _ => false,
    };
    if !is_well_formed || !(1..=16).contains(&digits) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

/// What comes behind the last chunk, once it is whole.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, HeadError> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
        let is_possible = buffer.len() < TRAILER_BYTES_MAX && !head::has_bare_line_end(buffer);
        return if is_possible { Ok(None) } else { Err(HeadError::Chunk) };
    };
    let bytes = buffer.split_to(end + 4).freeze();
    if bytes.len() > TRAILER_BYTES_MAX || head::has_bare_line_end(&bytes) {
        return Err(HeadError::Chunk);
    }
    head::trailers(&bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a decoder makes of bytes that arrive in pieces of this size, and what it leaves.
    fn decoded(
        mut decoder: Decoder,
        bytes: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, HeaderMap, Option<usize>), HeadError> {
        let (mut buffer, mut data, mut trailers) = (BytesMut::new(), Vec::new(), HeaderMap::new());
        let mut pieces = bytes.chunks(piece);
        let mut arrived = 0;
        loop {
            match decoder.next(&mut buffer)? {
                Decoded::Data(bytes) => data.extend_from_slice(&bytes),
                Decoded::Trailers(them) => trailers = them,
                Decoded::Over => return Ok((data, trailers, Some(arrived - buffer.len()))),
                Decoded::More => {
                    let Some(piece) = pieces.next() else { return Ok((data, trailers, None)) };
                    arrived += piece.len();
                    buffer.extend_from_slice(piece);
                }
            }
        }
    }

    #[test]
    fn a_body_ends_where_it_says_however_it_is_cut() {
        let chunked = "5\r\nhello\r\n1F ;a=\"b\"\r\n0123456789012345678901234567890\r\n0\r\n";
        let plain = format!("{chunked}\r\n");
        let followed = format!("{chunked}X: 0\r\nY: 1\r\n\r\n");
        for piece in [1, 2, 3, 5, 7, 100] {
            for (body, names) in [(&plain, 0), (&followed, 2)] {
                let bytes = format!("{body}GET / HTTP/1.1\r\n\r\n");
                let decoded = decoded(Decoder::chunked(), bytes.as_bytes(), piece).unwrap();
                let (data, trailers, end) = decoded;
                assert_eq!(data, b"hello0123456789012345678901234567890");
                assert_eq!((trailers.len(), end), (names, Some(body.len())));
            }
            let (data, _, end) = decoded(Decoder::Length(5), b"helloGET /", piece).unwrap();
            assert_eq!((data.as_slice(), end), (b"hello".as_slice(), Some(5)));
            let (data, _, end) = decoded(Decoder::Length(50), b"hello", piece).unwrap();
            assert_eq!((data.as_slice(), end), (b"hello".as_slice(), None));
            let (data, _, end) = decoded(Decoder::UntilClose, b"hello", piece).unwrap();
            assert_eq!((data.as_slice(), end), (b"hello".as_slice(), None));
        }
    }

    #[test]
    fn what_is_no_chunk_is_told() {
        let long = format!("5;{}\r\nhello\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX));
        let many = format!("0\r\nX: {}\r\n\r\n", "x".repeat(TRAILER_BYTES_MAX));
        for broken in [
            "\r\n",
            "x\r\n",
            "0x5\r\nhello\r\n",
            "-1\r\n",
            ";a\r\n",
            "5 5\r\nhello\r\n",
            "10000000000000005\r\n",
            "5\nhello\r\n",
            "5;a\nb\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "5\r\nhellox\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "0\r\nX: 1\n\r\n\r\n",
            "0\r\nX : 1\r\n\r\n",
            &long,
            &many,
        ] {
            for piece in [1, 4, broken.len()] {
                let outcome = decoded(Decoder::chunked(), broken.as_bytes(), piece);
                assert!(outcome.is_err(), "{broken:?} in {piece}: {outcome:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_makes_no_difference(bytes in "[0-2a;:x \r\n]{0,60}", piece in 1usize..8) {
            let whole = decoded(Decoder::chunked(), bytes.as_bytes(), bytes.len().max(1));
            let cut = decoded(Decoder::chunked(), bytes.as_bytes(), piece);
            prop_assert_eq!(cut.is_err(), whole.is_err());
            if let (Ok(cut), Ok(whole)) = (cut, whole) {
                prop_assert_eq!(cut, whole);
            }
        }
    }
}
