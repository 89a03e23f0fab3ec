//! A client's byte stream, with ambiguous request heads made unparseable.
//!
//! The HTTP parser tolerates what RFC 9112 lets it tolerate: lines ended by a
//! bare LF (§2.2), both `Content-Length` and `Transfer-Encoding` (§6.3), equal
//! `Content-Length` lines. Each has been used to smuggle requests past a proxy,
//! and no honest client sends them, so their line end is replaced by a NUL, at
//! which the parser refuses the request with 400. Bodies are passed over
//! (`body_scan`) and never touched. What follows a request to change the protocol
//! is not looked at, nor any head behind it when the change was refused; those are
//! safe all the same, because a backend only ever gets heads the edge has written
//! itself.
//!
//! Also keeps the two time limits of waiting for a head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::body_scan::{BodyScan, Outcome};
use super::turn::Conversation;
use crate::small_write;

/// From the first byte of a head to its last. Ends clients that hold a
/// connection by sending a byte now and then.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may rest between requests.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Enough of a line to know the header names that matter, colon included, and how long
/// a body is: 15 bytes and 16 digits, ten petabytes.
const NAME_BYTES: usize = 32;

/// A byte stream with strict request heads.
#[derive(Debug)]
pub(crate) struct StrictHead<S> {
    inner: S,
    conversation: Arc<Conversation>,
    scan: HeadScan,
    /// What is left of the body of the request before.
    body: Option<BodyScan>,
    sight: Sight,
    /// Since when the client has been idle, or has been sending a head.
    waiting_since: Option<Instant>,
    /// One timer for the connection's life, pushed back only when it fires.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Whether the bytes that come are known for what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Clear,
    /// Some came that may be of another protocol.
    Opaque,
    /// It turned out that they were not, or a body has no end: no more is looked at.
    Lost,
}

/// What has been seen of the current request head.
#[derive(Debug, Default)]
struct HeadScan {
    /// The current line's beginning in lower case, spaces left out.
    name: [u8; NAME_BYTES],
    name_length: usize,
    line_is_empty: bool,
    after_carriage_return: bool,
    has_lines: bool,
    is_over: bool,
    has_length: bool,
    has_encoding: bool,
    has_upgrade: bool,
    length: Option<u64>,
}

impl<S> StrictHead<S> {
    pub(crate) fn new(inner: S, conversation: Arc<Conversation>) -> StrictHead<S> {
        let scan = HeadScan::new();
        let (body, sight) = (None, Sight::Clear);
        StrictHead { inner, conversation, scan, body, sight, waiting_since: None, timer: None }
    }

    /// Looks at what was read, and notes whether the wait for it is over.
    fn scan(&mut self, bytes: &mut [u8]) {
        let mut is_same_head = self.scan.has_begun();
        let mut rest = bytes;
        while !rest.is_empty() && self.sees() {
            if let Some(body) = &mut self.body {
                match body.take(rest) {
                    Outcome::More => break,
                    Outcome::Over(used) => rest = &mut rest[used..],
                    Outcome::Broken => self.sight = Sight::Lost,
                }
                self.body = None;
                continue;
            }
            let used = self.scan.line(rest);
            rest = &mut rest[used..];
            if self.scan.is_over {
                is_same_head = false;
                self.ends_head();
            }
        }
        if !is_same_head {
            self.waiting_since = None;
        }
    }

    /// Whether what comes now is known for what it is.
    fn sees(&mut self) -> bool {
        self.sight = match (self.sight, self.conversation.is_opaque()) {
            (Sight::Lost, _) | (Sight::Opaque, false) => Sight::Lost,
            (_, true) => Sight::Opaque,
            (Sight::Clear, false) => Sight::Clear,
        };
        self.sight == Sight::Clear
    }

    /// What follows the head that has ended.
    fn ends_head(&mut self) {
        let head = std::mem::replace(&mut self.scan, HeadScan::new());
        if head.has_upgrade {
            return self.conversation.make_opaque();
        }
        self.body = match head.length {
            _ if head.has_encoding => Some(BodyScan::chunked()),
            None | Some(0) => None,
            Some(length) => Some(BodyScan::Length(length)),
        };
        if head.has_length && head.length.is_none() {
            self.sight = Sight::Lost;
        }
    }

    /// Ready when the client has kept the connection waiting for too long.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.conversation.is_in_flight() || self.conversation.is_opaque() || self.body.is_some()
        {
            self.waiting_since = None;
            return Poll::Pending;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let limit = if self.scan.has_begun() { HEAD_TIMEOUT } else { IDLE_TIMEOUT };
        let deadline = since + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl HeadScan {
    fn new() -> HeadScan {
        HeadScan { line_is_empty: true, ..HeadScan::default() }
    }

    fn has_begun(&self) -> bool {
        self.has_lines || !self.line_is_empty
    }

    /// Takes in the rest of a line, or less if there is no more; returns how
    /// much that was.
    fn line(&mut self, bytes: &mut [u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let text = &bytes[..end.unwrap_or(bytes.len())];
        self.take_text(text);
        let Some(end) = end else { return bytes.len() };
        if self.ends_line_ambiguously() {
            bytes[end] = 0;
        }
        end + 1
    }

    fn take_text(&mut self, text: &[u8]) {
        let Some(last) = text.last() else { return };
        for byte in text {
            if self.name_length == NAME_BYTES {
                break;
            }
            if !matches!(byte, b' ' | b'\t' | b'\r') {
                self.name[self.name_length] = byte.to_ascii_lowercase();
                self.name_length += 1;
            }
        }
        self.line_is_empty &= text == b"\r";
        self.after_carriage_return = *last == b'\r';
    }

    /// Ends the line; true when it makes the head ambiguous.
    fn ends_line_ambiguously(&mut self) -> bool {
        let is_bare = !std::mem::take(&mut self.after_carriage_return);
        let was_empty = std::mem::replace(&mut self.line_is_empty, true);
        let name = &self.name[..self.name_length];
        let is_length = name.starts_with(b"content-length:");
        let is_encoding = name.starts_with(b"transfer-encoding:");
        let digits = name.strip_prefix(b"content-length:");
        // One that is cut is another number.
        let digits = digits.filter(|_| name.len() < NAME_BYTES);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        self.length = digits.map_or(self.length, |digits| digits.parse().ok());
        let doubled = (is_length || is_encoding) && (self.has_length || self.has_encoding);
        self.has_upgrade |= name.starts_with(b"upgrade:");
        self.has_length |= is_length;
        self.has_encoding |= is_encoding;
        self.name_length = 0;
        // Empty lines before the request line are skipped (RFC 9112 §2.2).
        self.is_over = was_empty && self.has_lines;
        self.has_lines |= !was_empty;
        is_bare || doubled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictHead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.inner).poll_read(context, buffer)?.is_pending() {
            ready!(self.poll_deadline(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.scan(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictHead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        small_write::poll(&mut self.inner, context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is left of `bytes` when they arrive in pieces of `piece` bytes, and
    /// whether they end in something opaque.
    fn scanned(bytes: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let conversation = Arc::new(Conversation::default());
        let mut stream = StrictHead::new((), Arc::clone(&conversation));
        let mut bytes = bytes.to_vec();
        for piece in bytes.chunks_mut(piece) {
            stream.scan(piece);
        }
        (bytes, conversation.is_opaque())
    }

    fn is_refused(head: &str) -> bool {
        (1..=head.len()).all(|piece| scanned(head.as_bytes(), piece).0.contains(&0))
    }

    #[test]
    fn ambiguous_heads_are_refused_however_they_arrive() {
        assert!(is_refused("GET / HTTP/1.1\nHost: a\r\n\r\n"));
        assert!(is_refused("GET / HTTP/1.1\r\nHost: a\n\r\n"));
        assert!(is_refused("GET / HTTP/1.1\r\nHost: a\r\n\n"));
        assert!(is_refused(
            "P / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(is_refused("P / HTTP/1.1\r\ntransfer-ENCODING: x\r\ncontent-length: 3\r\n\r\n"));
        assert!(is_refused("P / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n"));
    }

    #[test]
    fn bodies_and_tunnels_pass_unread_and_pipelined_heads_are_read() {
        let length = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\na\n\nb";
        let chunked =
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\n\nb\r\n0\r\n\r\n";
        for body in [length, chunked] {
            let twice = format!("{body}{body}");
            for piece in 1..twice.len() {
                let unread = (twice.clone().into_bytes(), false);
                assert_eq!(scanned(twice.as_bytes(), piece), unread);
            }
            assert!(is_refused(&format!("{body}GET / HTTP/1.1\n\r\n")));
        }
        let tunnel = b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n\n\n\n";
        assert_eq!(scanned(tunnel, 5), (tunnel.to_vec(), true));
        assert!(is_refused("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\n\r\n"));
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_makes_no_difference(bytes in "[a\r\n:]{0,40}", piece in 1usize..8) {
            let whole = scanned(bytes.as_bytes(), bytes.len().max(1));
            prop_assert_eq!(scanned(bytes.as_bytes(), piece), whole);
        }
    }
}
