//! Messages as bytes, until they are written (RFC 9112 §2 to §7).

use std::fmt;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::response::Reason;
use super::{date, head};

/// Pieces up to this size are put together before they are written: copying them costs less
/// than the kernel's way of taking pieces (some 2 µs of 50 that a small request takes, in
/// profiles), and each write is a packet.
const TOGETHER_BYTES_MAX: usize = 2 * 1024;

/// A head that was larger than this does not leave its room behind.
const ROOM_KEPT: usize = 4 * 1024;

/// Whether a connection carries another message (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    Kept,
    /// HTTP/1.0 has to say so.
    KeptOnRequest,
    Closed,
}

impl Persistence {
    pub(super) fn of(headers: &HeaderMap, is_old: bool) -> Persistence {
        let lists = |word| head::lists(headers, &CONNECTION, word);
        match is_old {
            // Most say nothing about it.
            _ if !headers.contains_key(CONNECTION) && !is_old => Persistence::Kept,
            _ if lists("close") => Persistence::Closed,
            false => Persistence::Kept,
            true if lists("keep-alive") => Persistence::KeptOnRequest,
            true => Persistence::Closed,
        }
    }
}

/// How it is told where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// So many bytes are to come.
    Length(u64),
    Chunked {
        with_trailers: bool,
    },
    /// By the connection's end.
    UntilClose,
}

impl Encoder {
    fn of(body: &impl Body, with_trailers: bool) -> Encoder {
        match body.size_hint().exact() {
            Some(length) => Encoder::Length(length),
            None => Encoder::Chunked { with_trailers },
        }
    }

    /// Whether the end is where it was said to be.
    pub(crate) fn is_true(&self) -> bool {
        !matches!(self, Encoder::Length(1..))
    }
}

/// What is to be written: what is made or put together here, a large piece of a body, and what
/// closes that. The next piece is taken once it has gone.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    text: Vec<u8>,
    written: usize,
    data: Bytes,
    end: &'static [u8],
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.text.len() && self.data.is_empty() && self.end.is_empty()
    }

    /// Whether a piece of a body can be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.end.is_empty() && self.text.len() < TOGETHER_BYTES_MAX
    }

    /// The head of a request for a path, whatever it says about its body.
    pub(crate) fn request<B: Body>(&mut self, request: &Request<B>) -> Encoder {
        let encoder = Encoder::of(request.body(), false);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        self.put(&[request.method().as_str().as_bytes(), b" ", path.as_bytes(), b" HTTP/1.1\r\n"]);
        self.headers(request.headers(), false);
        match encoder {
            // Where there is none, some methods have it said (RFC 9110 §8.6).
            Encoder::Length(0) if !request.headers().contains_key(CONTENT_LENGTH) => {}
            encoder => self.framing(encoder),
        }
        self.text.extend_from_slice(b"\r\n");
        encoder
    }

    /// The head of a response to a request of this version. A connection that cannot be kept
    /// otherwise is closed.
    pub(crate) fn response<B: Body>(
        &mut self,
        response: &Response<B>,
        version: Version,
        (has_body, with_trailers): (bool, bool),
        persistence: &mut Persistence,
    ) -> Encoder {
        let mut encoder = match has_body {
            true => Encoder::of(response.body(), with_trailers),
            false => Encoder::Length(0),
        };
        let is_old = version == Version::HTTP_10;
        if is_old && matches!(encoder, Encoder::Chunked { .. }) {
            (encoder, *persistence) = (Encoder::UntilClose, Persistence::Closed);
        }
        let status = response.status();
        let reason = response.extensions().get::<Reason>().map(|reason| reason.0.as_bytes());
        let reason = reason.or(status.canonical_reason().map(str::as_bytes)).unwrap_or_default();
        let version: &[u8] = if is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " };
        self.put(&[version, status.as_str().as_bytes(), b" ", reason, b"\r\n"]);
        let says_length = !has_body && status != StatusCode::NO_CONTENT;
        self.headers(response.headers(), says_length);
        if has_body {
            self.framing(encoder);
        }
        if status != StatusCode::SWITCHING_PROTOCOLS {
            match persistence {
                Persistence::Kept => {}
                Persistence::KeptOnRequest => self.put(&[b"connection: keep-alive\r\n"]),
                Persistence::Closed => self.put(&[b"connection: close\r\n"]),
            }
        }
        if !response.headers().contains_key(DATE) {
            date::write(&mut self.text, SystemTime::now());
        }
        self.text.extend_from_slice(b"\r\n");
        encoder
    }

    /// That a body may be sent.
    pub(crate) fn permission(&mut self) {
        self.put(&[b"HTTP/1.1 100 Continue\r\n\r\n"]);
    }

    /// A piece of a body, for which there is room.
    pub(crate) fn frame(&mut self, encoder: &mut Encoder, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(mut data) => match encoder {
                Encoder::UntilClose => self.piece(data, b""),
                Encoder::Chunked { .. } => {
                    self.format(format_args!("{:x}\r\n", data.len()));
                    self.piece(data, b"\r\n");
                }
                // More than was said is not sent; the head would be of another message.
                Encoder::Length(left) => {
                    data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= data.len() as u64;
                    self.piece(data, b"");
                }
            },
            Err(frame) => {
                if let (Encoder::Chunked { with_trailers: true }, Ok(trailers)) =
                    (&encoder, frame.into_trailers())
                {
                    self.put(&[b"0\r\n"]);
                    self.headers(&trailers, false);
                    self.put(&[b"\r\n"]);
                    *encoder = Encoder::Length(0);
                }
            }
        }
    }

    /// The end of a body.
    pub(crate) fn end(&mut self, encoder: &mut Encoder) {
        if let Encoder::Chunked { .. } = encoder {
            match self.data.is_empty() && self.end.is_empty() {
                true => self.put(&[b"0\r\n\r\n"]),
                // Behind the last piece's own.
                false => self.end = b"\r\n0\r\n\r\n",
            }
            *encoder = Encoder::Length(0);
        }
    }

    /// Writes until nothing is left.
    pub(crate) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let pieces = [&self.text[self.written..], &self.data, self.end].map(IoSlice::new);
            let count = match self.data.is_empty() && self.end.is_empty() {
                true => ready!(Pin::new(&mut *stream).poll_write(context, &pieces[0]))?,
                false => ready!(Pin::new(&mut *stream).poll_write_vectored(context, &pieces))?,
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(count);
        }
        // What encrypts keeps some.
        Pin::new(stream).poll_flush(context)
    }

    fn advance(&mut self, mut count: usize) {
        let text = count.min(self.text.len() - self.written);
        self.written += text;
        count -= text;
        let data = count.min(self.data.len());
        self.data.advance(data);
        self.end = &self.end[count - data..];
        if self.written == self.text.len() {
            self.written = 0;
            self.text.clear();
            if self.text.capacity() > ROOM_KEPT {
                self.text = Vec::new();
            }
        }
        if self.data.is_empty() {
            self.data = Bytes::new();
        }
    }

    fn piece(&mut self, data: Bytes, end: &'static [u8]) {
        if self.text.len() + data.len() <= TOGETHER_BYTES_MAX {
            self.put(&[&data, end]);
        } else {
            (self.data, self.end) = (data, end);
        }
    }

    fn put(&mut self, pieces: &[&[u8]]) {
        pieces.iter().for_each(|piece| self.text.extend_from_slice(piece));
    }

    fn format(&mut self, text: fmt::Arguments<'_>) {
        // Memory takes what is written to it.
        let _ = self.text.write_fmt(text);
    }

    /// All but what says how long the body is, which is said anew.
    fn headers(&mut self, headers: &HeaderMap, says_length: bool) {
        for (name, value) in headers {
            if *name != TRANSFER_ENCODING && (says_length || *name != CONTENT_LENGTH) {
                self.put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
            }
        }
    }

    fn framing(&mut self, encoder: Encoder) {
        match encoder {
            Encoder::Length(length) => self.format(format_args!("content-length: {length}\r\n")),
            Encoder::Chunked { .. } => self.put(&[b"transfer-encoding: chunked\r\n"]),
            Encoder::UntilClose => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::{Empty, Full, StreamBody};
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    /// What is written to somebody who takes so many bytes at a time.
    async fn written(outbox: &mut Outbox, at_once: usize) -> String {
        let (mut near, mut far) = duplex(at_once);
        let writing = async {
            poll_fn(|context| outbox.poll_flush(&mut near, context)).await.unwrap();
            assert!(outbox.is_empty());
            drop(near);
        };
        let mut text = String::new();
        let ((), read) = tokio::join!(writing, far.read_to_string(&mut text));
        read.unwrap();
        text
    }

    /// A response with pieces of these sizes, as it is written.
    async fn response(version: Version, sizes: &[usize], at_once: usize) -> (String, Persistence) {
        let unknown =
            StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, io::Error>>());
        let mut response = Response::new(unknown);
        response.headers_mut().insert(DATE, http::HeaderValue::from_static("now"));
        let (mut outbox, mut persistence) = (Outbox::default(), Persistence::Kept);
        let mut encoder = outbox.response(&response, version, (true, true), &mut persistence);
        let mut text = String::new();
        for size in sizes {
            if !outbox.has_room() {
                text += &written(&mut outbox, at_once).await;
            }
            outbox.frame(&mut encoder, Frame::data(Bytes::from("x".repeat(*size))));
        }
        outbox.end(&mut encoder);
        (text + &written(&mut outbox, at_once).await, persistence)
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_in_chunks_whatever_their_size() {
        let large = TOGETHER_BYTES_MAX + 1;
        for sizes in [vec![], vec![5], vec![0, 3, 4], vec![large], vec![5, large, 7, large, large]]
        {
            let sent = sizes.iter().filter(|size| **size > 0);
            let chunks: Vec<_> =
                sent.map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(*size))).collect();
            let head = "HTTP/1.1 200 OK\r\ndate: now\r\ntransfer-encoding: chunked\r\n\r\n";
            let expected = format!("{head}{}0\r\n\r\n", chunks.concat());
            for at_once in [1, 100, 100_000] {
                let (text, persistence) = response(Version::HTTP_11, &sizes, at_once).await;
                assert_eq!((text, persistence), (expected.clone(), Persistence::Kept));
            }
        }
    }

    #[tokio::test]
    async fn an_old_client_is_told_the_end_by_the_end() {
        let (text, persistence) = response(Version::HTTP_10, &[3, 4], 100).await;
        assert_eq!(text, "HTTP/1.0 200 OK\r\ndate: now\r\nconnection: close\r\n\r\nxxxxxxx");
        assert_eq!(persistence, Persistence::Closed);
    }

    #[tokio::test]
    async fn no_more_is_sent_than_was_said_and_less_is_noticed() {
        let request = Request::post("/a?b").body(Full::new(Bytes::from("12345"))).unwrap();
        for (sent, is_true) in [("12345", true), ("1234567", true), ("123", false)] {
            let mut outbox = Outbox::default();
            let mut encoder = outbox.request(&request);
            outbox.frame(&mut encoder, Frame::data(Bytes::from(sent)));
            outbox.end(&mut encoder);
            let sent = &sent[..sent.len().min(5)];
            let expected = format!("POST /a?b HTTP/1.1\r\ncontent-length: 5\r\n\r\n{sent}");
            assert_eq!((written(&mut outbox, 100).await, encoder.is_true()), (expected, is_true));
        }
    }

    #[tokio::test]
    async fn what_is_said_about_a_body_is_what_is_true() {
        let mut request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
        request.headers_mut().insert(TRANSFER_ENCODING, "chunked".parse().unwrap());
        let mut outbox = Outbox::default();
        outbox.request(&request);
        assert_eq!(written(&mut outbox, 100).await, "GET / HTTP/1.1\r\n\r\n");
        request.headers_mut().insert(CONTENT_LENGTH, "7".parse().unwrap());
        outbox.request(&request);
        let expected = "GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(written(&mut outbox, 100).await, expected);
    }

    #[tokio::test]
    async fn trailers_follow_the_last_chunk_for_those_who_take_them() {
        let unknown =
            || StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, io::Error>>());
        for (with_trailers, end) in [(true, "0\r\nsum: 1\r\n\r\n"), (false, "0\r\n\r\n")] {
            let mut outbox = Outbox::default();
            let response = Response::new(unknown());
            let (parts, mut persistence) = ((true, with_trailers), Persistence::Kept);
            let mut encoder = outbox.response(&response, Version::HTTP_11, parts, &mut persistence);
            let trailers = HeaderMap::from_iter([("sum".parse().unwrap(), "1".parse().unwrap())]);
            outbox.frame(&mut encoder, Frame::trailers(trailers));
            outbox.end(&mut encoder);
            let text = written(&mut outbox, 1000).await;
            assert!(text.ends_with(&format!("\r\n\r\n{end}")), "{text}");
        }
    }
}
