//! A link: opens streams, and gives out those the other side opens.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::error::{LinkError, StreamError};
use crate::frame::{Encoded, Frame};
use crate::limits::{HEADER_BYTES_MAX, QUEUED_FRAMES_MAX, QUEUED_SIGNALS_MAX, STREAMS_MAX};
use crate::pumps;
use crate::sorter::Sorter;
use crate::stream::Stream;
use crate::streams::Streams;
use crate::transport::Transport;

/// Which ids a side's own streams have, so that both can open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Dialled; odd ids.
    Client,
    /// Was dialled; even ids.
    Server,
}

/// A stream that the other side opened.
#[derive(Debug)]
pub struct Opened {
    /// What it was opened with.
    pub header: Bytes,
    pub stream: Stream,
}

/// A handle on a link; the link is closed when the last is dropped, and its
/// streams end with it.
#[derive(Clone, Debug)]
pub struct Link {
    handle: Arc<Handle>,
}

/// The streams the other side opens, in order.
///
/// In boxes: the queue has room for many at once from the start, and few ever wait.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Box<Opened>>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// The id of the next stream. Locked until it has been opened: the other side takes
    /// one that comes out of turn for a broken protocol.
    next: Mutex<Option<u32>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.end(LinkError::Closed);
    }
}

/// What the handle, the streams and the pumps share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) streams: Streams,
    /// In the order in which they are sent. Unbounded, because payload needs a
    /// slot and the other frames are counted.
    outgoing: mpsc::UnboundedSender<Outgoing>,
    slots: Arc<Semaphore>,
    signals: AtomicUsize,
    end: watch::Sender<Option<LinkError>>,
    begun: Instant,
    heard: AtomicU64,
    /// When the last frame came, after `begun`.
    heard_at_ms: AtomicU64,
}

/// A frame on its way to the transport.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) frame: Encoded,
    /// Frees the slot of a payload once it is sent; `None` for the others.
    slot: Option<OwnedSemaphorePermit>,
}

impl Link {
    /// Runs a link over a transport, in tasks of its own.
    pub fn start(transport: Transport, side: Side) -> (Link, Incoming) {
        let (outgoing, queue) = mpsc::unbounded_channel();
        // As many as there can be streams: only one who opens and resets, and
        // is not accepted meanwhile, can fill it.
        let (opened, incoming) = mpsc::channel(STREAMS_MAX);
        let shared = Arc::new(Shared {
            streams: Streams::default(),
            outgoing,
            slots: Arc::new(Semaphore::new(QUEUED_FRAMES_MAX)),
            signals: AtomicUsize::new(0),
            end: watch::Sender::new(None),
            begun: Instant::now(),
            heard: AtomicU64::new(0),
            heard_at_ms: AtomicU64::new(0),
        });
        let sorter = Sorter::new(opened, side, transport.order, Arc::clone(&shared));
        tokio::spawn(pumps::send(transport.sink, queue, Arc::clone(&shared)));
        tokio::spawn(pumps::receive(transport.source, sorter));
        let first = match side {
            Side::Client => 1,
            Side::Server => 2,
        };
        let handle = Arc::new(Handle { shared, next: Mutex::new(Some(first)) });
        (Link { handle }, Incoming(incoming))
    }

    /// Opens a stream; the header tells the other side what for.
    ///
    /// # Errors
    /// When the link has ended, has too many streams, or the header is too long.
    pub fn open(&self, header: Bytes) -> Result<Stream, StreamError> {
        let shared = &self.handle.shared;
        if header.len() > HEADER_BYTES_MAX {
            let (bytes, limit) = (header.len(), HEADER_BYTES_MAX);
            return Err(StreamError::TooLong { bytes, limit });
        }
        let mut next = self.handle.next.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = *next else {
            // Two thousand million streams: the next link counts anew.
            shared.end(LinkError::Closed);
            return Err(LinkError::Closed.into());
        };
        let parts = shared.streams.insert(id)?;
        *next = id.checked_add(2);
        let stream = Stream::new(id, parts, Arc::clone(shared));
        shared.signal(&Frame::Open { stream: id, header });
        drop(next);
        match shared.ended() {
            Some(error) => Err(error.into()),
            None => Ok(stream),
        }
    }

    /// Why the link ended, once it has.
    pub async fn ended(&self) -> LinkError {
        self.handle.shared.wait_for_end().await
    }

    /// How many frames have come.
    pub fn heard(&self) -> u64 {
        self.handle.shared.heard.load(Ordering::Acquire)
    }

    /// How long nothing has come.
    pub fn quiet_for(&self) -> Duration {
        let shared = &self.handle.shared;
        let heard = Duration::from_millis(shared.heard_at_ms.load(Ordering::Acquire));
        shared.begun.elapsed().saturating_sub(heard)
    }

    /// Ends the link now, for all who hold it.
    pub fn close(&self) {
        self.handle.shared.end(LinkError::Closed);
    }
}

impl Incoming {
    /// The next stream the other side opens; `None` once the link has ended.
    pub async fn next(&mut self) -> Option<Opened> {
        self.0.recv().await.map(|opened| *opened)
    }
}

impl Shared {
    /// Sends a frame that carries no payload, in its turn and without waiting.
    pub(crate) fn signal(&self, frame: &Frame) {
        if self.signals.fetch_add(1, Ordering::AcqRel) >= QUEUED_SIGNALS_MAX {
            self.end(LinkError::Flooded);
        }
        // Fails only when the link has ended.
        let _ = self.outgoing.send(Outgoing { frame: frame.encoded(), slot: None });
    }

    /// Sends a frame with payload when it is its turn.
    pub(crate) async fn payload(&self, frame: Encoded) -> Result<(), LinkError> {
        let slot = self.slots().acquire_owned().await.map_err(|_| self.why())?;
        self.queue(frame, slot)
    }

    /// The slots of payload.
    pub(crate) fn slots(&self) -> Arc<Semaphore> {
        Arc::clone(&self.slots)
    }

    /// So many slots if they are free.
    pub(crate) fn try_slots(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_many_owned(count).ok()
    }

    /// Sends a frame with payload that a slot is there for.
    pub(crate) fn queue(
        &self,
        frame: Encoded,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), LinkError> {
        let outgoing = Outgoing { frame, slot: Some(slot) };
        self.outgoing.send(outgoing).map_err(|_| self.why())
    }

    /// A frame has come.
    pub(crate) fn hears(&self) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_at_ms.store(ms, Ordering::Release);
    }

    /// A frame has been sent.
    pub(crate) fn sent(&self, outgoing: Outgoing) {
        if outgoing.slot.is_none() {
            self.signals.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Ends the link; the first reason stays.
    pub(crate) fn end(&self, why: LinkError) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            if is_first {
                *end = Some(why);
            }
            is_first
        });
        self.slots.close();
        self.streams.clear();
    }

    pub(crate) fn ended(&self) -> Option<LinkError> {
        self.end.borrow().clone()
    }

    /// Why something failed that only fails at the end of a link.
    pub(crate) fn why(&self) -> LinkError {
        self.ended().unwrap_or(LinkError::Closed)
    }

    pub(crate) async fn wait_for_end(&self) -> LinkError {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or(LinkError::Closed),
            Err(_) => LinkError::Closed,
        }
    }
}
