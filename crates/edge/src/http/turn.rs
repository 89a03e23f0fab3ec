//! What is known of a client's connection between its requests and while one is answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::upgrade::Upgrading;

/// The state of one client connection, or of one request where many share it. All of it is
/// used by one task, so the ordering is of no concern; atomics only make it shareable.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    in_flight: AtomicBool,
    /// The request's body cannot be read to its end.
    upload_broke: AtomicBool,
    /// No request follows.
    is_over: AtomicBool,
    /// The client's side of a connection that it asked to have for another protocol.
    upgrading: Mutex<Option<Upgrading>>,
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

    /// A request has arrived.
    pub(crate) fn begin(self: &Arc<Conversation>) -> Turn {
        self.in_flight.store(true, Ordering::Relaxed);
        self.upload_broke.store(false, Ordering::Relaxed);
        Turn(Arc::clone(self))
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The request's body is not one.
    pub(crate) fn upload_broke(&self) {
        self.upload_broke.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_broken_upload(&self) -> bool {
        self.upload_broke.load(Ordering::Relaxed)
    }

    /// The request under way is the last, and if there is none there will be none.
    pub(crate) fn ends(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// The request asks to change the protocol.
    pub(crate) fn offers(&self, upgrading: Upgrading) {
        *self.upgrading.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrading);
    }

    /// The client's side, for whoever changes it.
    pub(crate) fn upgrading(&self) -> Option<Upgrading> {
        self.upgrading.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.in_flight.store(false, Ordering::Relaxed);
    }
}
