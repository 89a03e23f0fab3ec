//! A stream: messages both ways, in order, as fast as the far end reads them.

use std::sync::Arc;

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::error::{LinkError, StreamError};
use crate::frame::{self, Frame};
use crate::gauge::{Gauge, cost};
use crate::limits::{FRAGMENT_BYTES_MAX, MESSAGE_BYTES_MAX, WINDOW_BYTES};
use crate::link::Shared;
use crate::streams::{Inbound, Parts};

/// What was read is granted anew in pieces of this, not fragment by fragment.
const GRANT_BYTES: usize = WINDOW_BYTES / 4;

/// Both directions of a stream.
#[derive(Debug)]
pub struct Stream {
    pub sender: Sender,
    pub receiver: Receiver,
}

/// The direction away from here. Dropped, it ends that direction as
/// [`Sender::close`] does; within a message it resets the stream.
#[derive(Debug)]
pub struct Sender {
    id: u32,
    credit: Arc<Semaphore>,
    shared: Arc<Shared>,
    /// A part of a message is out, the rest is not.
    is_within: bool,
    is_closed: bool,
}

/// The direction towards here. Dropped before its end, it resets the stream.
#[derive(Debug)]
pub struct Receiver {
    id: u32,
    inbound: mpsc::UnboundedReceiver<Inbound>,
    gauge: Arc<Gauge>,
    /// Read and not granted anew.
    owed: usize,
    /// The message so far. Here, so that a reader that was cancelled goes on.
    partial: BytesMut,
    shared: Arc<Shared>,
    is_over: bool,
}

impl Stream {
    pub(crate) fn new(id: u32, parts: Parts, shared: Arc<Shared>) -> Stream {
        let Parts { inbound, gauge, credit } = parts;
        let sender =
            Sender { id, credit, shared: Arc::clone(&shared), is_within: false, is_closed: false };
        let partial = BytesMut::new();
        let receiver = Receiver { id, inbound, gauge, owed: 0, partial, shared, is_over: false };
        Stream { sender, receiver }
    }
}

impl Sender {
    /// Sends a message; returns once all of it is queued, which takes as long as
    /// the far end takes to read what came before. Cancelled in the middle of a
    /// long message, the stream is of no use any more.
    ///
    /// # Errors
    /// When the stream or the link has ended, or the message is too long.
    pub async fn send(&mut self, message: Bytes) -> Result<(), StreamError> {
        if message.len() > MESSAGE_BYTES_MAX {
            let (bytes, limit) = (message.len(), MESSAGE_BYTES_MAX);
            return Err(StreamError::TooLong { bytes, limit });
        }
        let mut rest = message;
        loop {
            let payload = rest.split_to(rest.len().min(FRAGMENT_BYTES_MAX));
            let last = rest.is_empty();
            let price = u32::try_from(cost(payload.len())).unwrap_or(u32::MAX);
            match self.credit.acquire_many(price).await {
                Ok(paid) => paid.forget(),
                Err(_) => return Err(self.over()),
            }
            self.shared.payload(frame::fragment(self.id, payload, last)).await?;
            self.is_within = !last;
            if last {
                return Ok(());
            }
        }
    }

    /// Sends a message if all of it can be queued now: what is better lost than late.
    /// Whether it was.
    pub fn try_send(&self, message: &[u8]) -> bool {
        if message.len() <= FRAGMENT_BYTES_MAX {
            return self.try_datagram(message);
        }
        let pieces = message.len().div_ceil(FRAGMENT_BYTES_MAX).max(1);
        let price = message.len() + pieces * cost(0);
        let (Ok(pieces), Ok(price)) = (u32::try_from(pieces), u32::try_from(price)) else {
            return false;
        };
        let Ok(paid) = self.credit.try_acquire_many(price) else { return false };
        let Some(mut slots) = self.shared.try_slots(pieces) else { return false };
        paid.forget();
        let mut rest = message;
        while rest.len() > FRAGMENT_BYTES_MAX {
            let (piece, others) = rest.split_at(FRAGMENT_BYTES_MAX);
            let Some(slot) = slots.split(1) else { return false };
            if self.queue_piece(piece, false, slot).is_err() {
                return false;
            }
            rest = others;
        }
        self.queue(rest, slots).is_ok()
    }

    /// In one frame, which takes none of the window: over some transports it may be lost,
    /// and who has not received it grants nothing anew.
    fn try_datagram(&self, message: &[u8]) -> bool {
        if self.is_over() {
            return false;
        }
        let Some(slot) = self.shared.try_slots(1) else { return false };
        let message = Bytes::copy_from_slice(message);
        self.shared.queue(frame::datagram(self.id, message), slot).is_ok()
    }

    /// Whether nothing can be sent any more.
    pub fn is_over(&self) -> bool {
        self.credit.is_closed()
    }

    /// Queues a message that its credit and slot are there for.
    pub(crate) fn queue(
        &self,
        message: &[u8],
        slot: OwnedSemaphorePermit,
    ) -> Result<(), StreamError> {
        self.queue_piece(message, true, slot).map_err(StreamError::from)
    }

    fn queue_piece(
        &self,
        piece: &[u8],
        last: bool,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), LinkError> {
        let frame = frame::fragment(self.id, Bytes::copy_from_slice(piece), last);
        self.shared.queue(frame, slot)
    }

    /// Credit, and the slots all streams share.
    pub(crate) fn semaphores(&self) -> (Arc<Semaphore>, Arc<Semaphore>) {
        (Arc::clone(&self.credit), self.shared.slots())
    }

    /// No more messages will come from here; those sent still arrive.
    pub fn close(mut self) {
        self.finish();
    }

    /// Ends both directions and says why.
    pub fn reset(mut self, reason: &str) {
        self.is_closed = true;
        self.give_up(reason);
    }

    /// Returns once the far end has given the stream up, or the link is gone.
    pub async fn abandoned(&self) {
        // One more than there can ever be: only the end answers.
        let more = u32::try_from(WINDOW_BYTES + 1).unwrap_or(u32::MAX);
        let _ = self.credit.acquire_many(more).await;
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        if self.is_within {
            return self.give_up("a message was broken off");
        }
        let open = self.shared.streams.with(self.id, |entry| entry.closed_here = true);
        if open.is_some() {
            self.shared.signal(&Frame::Close { stream: self.id });
        }
    }

    fn give_up(&self, reason: &str) {
        if self.shared.streams.reset(self.id, None) {
            let reason = reason.to_owned();
            self.shared.signal(&Frame::Reset { stream: self.id, reason });
        }
    }

    pub(crate) fn over(&self) -> StreamError {
        match self.shared.ended() {
            Some(error) => error.into(),
            None => StreamError::Reset { reason: "it takes no more".to_owned() },
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Receiver {
    /// The next message; `None` when no more come. May be cancelled.
    ///
    /// # Errors
    /// When the far end reset the stream, or the link has ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for who polls.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        loop {
            match ready!(self.inbound.poll_recv(cx)) {
                Some(Inbound::Fragment { payload, last }) => {
                    self.grant(cost(payload.len()));
                    if last && self.partial.is_empty() {
                        return Poll::Ready(Ok(Some(payload)));
                    }
                    let bytes = self.partial.len() + payload.len();
                    if bytes > MESSAGE_BYTES_MAX {
                        let limit = MESSAGE_BYTES_MAX;
                        return Poll::Ready(Err(StreamError::TooLong { bytes, limit }));
                    }
                    self.partial.extend_from_slice(&payload);
                    if last {
                        return Poll::Ready(Ok(Some(self.partial.split().freeze())));
                    }
                }
                Some(Inbound::Datagram(payload)) => {
                    self.gauge.read_datagram(payload.len());
                    return Poll::Ready(Ok(Some(payload)));
                }
                Some(Inbound::End) => {
                    self.is_over = true;
                    return Poll::Ready(Ok(None));
                }
                Some(Inbound::Reset(reason)) => {
                    self.is_over = true;
                    return Poll::Ready(Err(StreamError::Reset { reason }));
                }
                None => {
                    self.is_over = true;
                    return Poll::Ready(Err(match self.shared.ended() {
                        Some(error) => error.into(),
                        None => StreamError::Reset { reason: "it was given up here".to_owned() },
                    }));
                }
            }
        }
    }

    fn grant(&mut self, bytes: usize) {
        self.owed += bytes;
        if self.owed < GRANT_BYTES {
            return;
        }
        let bytes = std::mem::take(&mut self.owed);
        // Nothing more will come of a stream that is closed there.
        let wanted = self.shared.streams.with(self.id, |entry| !entry.closed_there);
        if wanted == Some(true) {
            self.gauge.grant(bytes);
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.shared.signal(&Frame::Credit { stream: self.id, bytes });
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if !self.is_over
            && self.shared.streams.with(self.id, |it| it.closed_there) == Some(false)
            && self.shared.streams.reset(self.id, None)
        {
            let reason = "nobody reads it any more".to_owned();
            self.shared.signal(&Frame::Reset { stream: self.id, reason });
        }
    }
}
