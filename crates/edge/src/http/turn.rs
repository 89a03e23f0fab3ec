//! Where a client connection is between request and response.
//!
//! The connection's byte stream (`strict_head`) must know whether the next bytes
//! are a request head, and whether waiting for them is idleness; only the
//! request handler knows when a request is over. They share this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The state of one client connection. All of it is used by one task, so the
/// ordering is of no concern; atomics only make it shareable.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    in_flight: AtomicBool,
    /// Bytes may be something else than HTTP: not to be looked at.
    opaque: AtomicBool,
    upload_open: AtomicBool,
    /// The request's body cannot be read to its end.
    upload_broke: AtomicBool,
    tunnelled: AtomicBool,
    /// Of HTTP/2, where many requests share a connection and each has one of these.
    _stream: Option<OpenStream>,
}

/// Counts a request of a connection as open until dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<watch::Sender<usize>>);

/// One request and its response; the turn is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Conversation>);

impl OpenStream {
    pub(crate) fn new(streams: &Arc<watch::Sender<usize>>) -> OpenStream {
        streams.send_modify(|open| *open += 1);
        OpenStream(Arc::clone(streams))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Conversation {
    /// One request among several.
    pub(crate) fn of_stream(stream: OpenStream) -> Conversation {
        Conversation { _stream: Some(stream), ..Conversation::default() }
    }

    /// A request has arrived. `has_body` when its body is still to be read.
    pub(crate) fn begin(self: &Arc<Conversation>, has_body: bool) -> Turn {
        self.in_flight.store(true, Ordering::Relaxed);
        self.upload_open.store(has_body, Ordering::Relaxed);
        self.upload_broke.store(false, Ordering::Relaxed);
        Turn(Arc::clone(self))
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn is_opaque(&self) -> bool {
        self.opaque.load(Ordering::Relaxed)
    }

    /// A head has ended that asks to change the protocol.
    pub(crate) fn make_opaque(&self) {
        self.opaque.store(true, Ordering::Relaxed);
    }

    /// The request's body is not one.
    pub(crate) fn upload_broke(&self) {
        self.upload_broke.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_broken_upload(&self) -> bool {
        self.upload_broke.load(Ordering::Relaxed)
    }

    /// The request's body has been read to its end.
    pub(crate) fn upload_ended(&self) {
        self.upload_open.store(false, Ordering::Relaxed);
    }
}

impl Turn {
    /// From here on the connection is not HTTP.
    pub(crate) fn becomes_tunnel(&self) {
        self.0.tunnelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.in_flight.store(false, Ordering::Relaxed);
        let body_left = self.0.upload_open.load(Ordering::Relaxed);
        if !body_left && !self.0.tunnelled.load(Ordering::Relaxed) {
            self.0.opaque.store(false, Ordering::Relaxed);
        }
    }
}
