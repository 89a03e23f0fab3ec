//! Where a request's body ends in a client's byte stream, so that the head behind it is
//! known for one however the bytes are cut (RFC 9112 §6 and §7.1).
//!
//! Whether a body is well formed is the parser's to say: what is not ends its connection,
//! and until then nothing here matters any more.

/// A body, as far as it has come.
#[derive(Debug)]
pub(super) enum BodyScan {
    /// So many bytes are to come.
    Length(u64),
    Chunked(Chunk),
}

/// Where in a chunked body the next byte is.
#[derive(Debug)]
pub(super) enum Chunk {
    Size {
        bytes: u64,
        has_digits: bool,
        is_extension: bool,
    },
    /// So many bytes are to come, with the line end behind them.
    Data {
        left: u64,
    },
    Trailers {
        line_is_empty: bool,
    },
}

/// How a body goes on after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    More,
    /// It ended after so many of them.
    Over(usize),
    /// It is none.
    Broken,
}

impl BodyScan {
    pub(super) fn chunked() -> BodyScan {
        BodyScan::Chunked(Chunk::next())
    }

    /// Takes in what was read.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Outcome {
        match self {
            BodyScan::Length(left) => {
                let used = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= used as u64;
                if *left == 0 { Outcome::Over(used) } else { Outcome::More }
            }
            BodyScan::Chunked(chunk) => chunk.take(bytes),
        }
    }
}

impl Chunk {
    fn next() -> Chunk {
        Chunk::Size { bytes: 0, has_digits: false, is_extension: false }
    }

    fn take(&mut self, bytes: &[u8]) -> Outcome {
        let mut at = 0;
        while at < bytes.len() {
            if let Chunk::Data { left } = self {
                let used = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= used as u64;
                at += used;
                if *left == 0 {
                    *self = Chunk::next();
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match self.line_byte(byte) {
                Some(true) => return Outcome::Over(at),
                Some(false) => {}
                None => return Outcome::Broken,
            }
        }
        Outcome::More
    }

    /// A byte that is not of data; whether the body ends with it, `None` when it cannot be.
    fn line_byte(&mut self, byte: u8) -> Option<bool> {
        match self {
            Chunk::Data { .. } => {}
            Chunk::Trailers { line_is_empty } => match byte {
                b'\n' if *line_is_empty => return Some(true),
                b'\n' => *line_is_empty = true,
                b'\r' => {}
                _ => *line_is_empty = false,
            },
            Chunk::Size { bytes, has_digits, is_extension } => match byte {
                b'\n' if !*has_digits => return None,
                b'\n' if *bytes == 0 => *self = Chunk::Trailers { line_is_empty: true },
                b'\n' => *self = Chunk::Data { left: bytes.checked_add(2)? },
                b';' => *is_extension = true,
                b'\r' | b' ' | b'\t' => {}
                _ if *is_extension => {}
                digit => {
                    let digit = char::from(digit).to_digit(16)?;
                    *bytes = bytes.checked_mul(16)?.checked_add(digit.into())?;
                    *has_digits = true;
                }
            },
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the body ends in these bytes, cut into pieces of this size.
    fn end(mut body: BodyScan, bytes: &str, piece: usize) -> Option<usize> {
        let mut before = 0;
        for bytes in bytes.as_bytes().chunks(piece) {
            match body.take(bytes) {
                Outcome::More => before += bytes.len(),
                Outcome::Over(used) => return Some(before + used),
                Outcome::Broken => return None,
            }
        }
        None
    }

    #[test]
    fn a_body_ends_where_it_says_however_it_is_cut() {
        let chunked = "5\r\nhello\r\n1f;a=\"b\"\r\n0123456789012345678901234567890\r\n0\r\n";
        let plain = format!("{chunked}\r\n");
        let trailers = format!("{chunked}X: 0\r\nY: 1\r\n\r\n");
        for piece in [1, 2, 3, 5, 7, 100] {
            for body in [&plain, &trailers] {
                let followed = format!("{body}GET / HTTP/1.1\r\n\r\n");
                assert_eq!(end(BodyScan::chunked(), &followed, piece), Some(body.len()));
            }
            assert_eq!(end(BodyScan::Length(5), "helloGET /", piece), Some(5));
            assert_eq!(end(BodyScan::Length(50), "hello", piece), None);
        }
    }

    #[test]
    fn what_is_no_chunk_is_told() {
        for broken in ["\r\n", "x\r\n", "fffffffffffffffff\r\n", ";a\r\n", "-1\r\n"] {
            let mut body = BodyScan::chunked();
            assert_eq!(body.take(broken.as_bytes()), Outcome::Broken, "{broken}");
        }
    }
}
