//! Where what comes in goes: frames to the streams they are of, and what the other side
//! may not send, to the end of the link. Never waits for a stream.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::LinkError;
use crate::frame::Frame;
use crate::gauge::cost;
use crate::limits::{EARLY_DATAGRAMS_MAX, WINDOW_BYTES};
use crate::link::{Opened, Shared, Side};
use crate::stream::Stream;
use crate::streams::{Entry, Inbound};
use crate::transport::Order;

pub(crate) struct Sorter {
    opened: mpsc::Sender<Box<Opened>>,
    side: Side,
    order: Order,
    /// The newest stream the other side opened.
    newest: u32,
    /// Datagrams of streams that are not known yet, or not any more; the oldest go first.
    early: VecDeque<(u32, Bytes)>,
    shared: Arc<Shared>,
}

impl Sorter {
    pub(crate) fn new(
        opened: mpsc::Sender<Box<Opened>>,
        side: Side,
        order: Order,
        shared: Arc<Shared>,
    ) -> Sorter {
        Sorter { opened, side, order, newest: 0, early: VecDeque::new(), shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes a message; an error is the end of the link.
    pub(crate) fn sort(&mut self, message: Bytes) -> Result<(), LinkError> {
        let streams = &self.shared.streams;
        // What comes for a stream that is gone was sent before the other side knew.
        match Frame::decode(message)? {
            Frame::Beat => Ok(()),
            Frame::Open { stream, header } => self.open(stream, header),
            Frame::Fragment { stream, payload, last } => {
                streams.with(stream, |it| fragment(it, payload, last)).unwrap_or(Ok(()))
            }
            Frame::Datagram { stream, payload } => {
                self.datagram(stream, payload);
                Ok(())
            }
            Frame::Credit { stream, bytes } => {
                streams.with(stream, |it| credit(it, bytes)).unwrap_or(Ok(()))
            }
            Frame::Close { stream } => {
                streams.with(stream, |entry| {
                    entry.closed_there = true;
                    let _ = entry.inbound.send(Inbound::End);
                });
                Ok(())
            }
            Frame::Reset { stream, reason } => {
                streams.reset(stream, Some(reason));
                Ok(())
            }
        }
    }

    fn open(&mut self, id: u32, header: Bytes) -> Result<(), LinkError> {
        let theirs = match self.side {
            Side::Client => id.is_multiple_of(2),
            Side::Server => !id.is_multiple_of(2),
        };
        let in_turn = self.order == Order::OfStreams || id > self.newest;
        if !theirs || !in_turn {
            return Err(LinkError::Protocol { what: "a stream id that is not its to use" });
        }
        self.newest = self.newest.max(id);
        let parts = self.shared.streams.insert(id);
        let parts = parts.map_err(|_| LinkError::Protocol { what: "too many streams" })?;
        let stream = Stream::new(id, parts, Arc::clone(&self.shared));
        self.bring_early(id);
        match self.opened.try_send(Box::new(Opened { header, stream })) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(LinkError::Flooded),
            // Nobody takes streams here; the other side is told by the drop.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Nothing that becomes of a datagram is an error: it may be lost.
    fn datagram(&mut self, stream: u32, payload: Bytes) {
        let bring = |entry: &mut Entry| datagram(entry, payload.clone());
        if self.shared.streams.with(stream, bring).is_some() || self.order == Order::Whole {
            return;
        }
        if self.early.len() == EARLY_DATAGRAMS_MAX {
            self.early.pop_front();
        }
        self.early.push_back((stream, payload));
    }

    /// A stream has what came for it before it was known.
    fn bring_early(&mut self, id: u32) {
        if self.early.is_empty() {
            return;
        }
        for (stream, payload) in std::mem::take(&mut self.early) {
            match stream == id {
                true => drop(self.shared.streams.with(id, |entry| datagram(entry, payload))),
                false => self.early.push_back((stream, payload)),
            }
        }
    }
}

fn fragment(entry: &mut Entry, payload: Bytes, last: bool) -> Result<(), LinkError> {
    if entry.closed_there {
        return Err(LinkError::Protocol { what: "a message after the last" });
    }
    if !entry.gauge.take(cost(payload.len())) {
        return Err(LinkError::Protocol { what: "more than it was granted" });
    }
    let _ = entry.inbound.send(Inbound::Fragment { payload, last });
    Ok(())
}

/// One that comes late, or finds no room, is lost.
fn datagram(entry: &mut Entry, payload: Bytes) {
    if !entry.closed_there && entry.gauge.take_datagram(payload.len()) {
        let _ = entry.inbound.send(Inbound::Datagram(payload));
    }
}

fn credit(entry: &mut Entry, bytes: u32) -> Result<(), LinkError> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let credit = entry.credit.available_permits().saturating_add(bytes);
    if credit > WINDOW_BYTES {
        return Err(LinkError::Protocol { what: "a credit beyond the window" });
    }
    entry.credit.add_permits(bytes);
    Ok(())
}
