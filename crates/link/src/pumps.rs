//! The two tasks of a link: one sends what is queued, one sorts what comes in.
//! The latter never waits for a stream, so no stream can hold up another.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::LinkError;
use crate::frame::Frame;
use crate::gauge::cost;
use crate::limits::{BEAT_INTERVAL, DEAD_AFTER, WINDOW_BYTES};
use crate::link::{Opened, Outgoing, Shared, Side};
use crate::stream::Stream;
use crate::streams::Inbound;
use crate::transport::{Sink, Source};

/// Until the link ends, or ends it when the transport fails.
pub(crate) async fn send(
    mut sink: Box<dyn Sink>,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    shared: Arc<Shared>,
) {
    let mut beat = Instant::now() + BEAT_INTERVAL;
    loop {
        let outgoing = tokio::select! {
            // So that what was queued before the end still goes out.
            biased;
            outgoing = queue.recv() => outgoing,
            _ = shared.wait_for_end() => break,
            () = sleep_until(beat) => None,
        };
        let sending = async {
            match outgoing {
                Some(outgoing) => send_queued(sink.as_mut(), &mut queue, outgoing, &shared).await,
                None => sink.feed(Frame::Beat.encode()).await,
            }?;
            sink.flush().await
        };
        if let Err(error) = in_time(sending).await {
            shared.end(error);
            return;
        }
        beat = Instant::now() + BEAT_INTERVAL;
    }
    let _ = in_time(sink.close()).await;
}

async fn send_queued(
    sink: &mut dyn Sink,
    queue: &mut mpsc::UnboundedReceiver<Outgoing>,
    first: Outgoing,
    shared: &Shared,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(outgoing) = next {
        sink.feed(outgoing.frame.clone()).await?;
        shared.sent(outgoing);
        next = queue.try_recv().ok();
    }
    Ok(())
}

/// A far end that takes nothing for so long is as gone as one that is silent.
async fn in_time(sending: impl Future<Output = io::Result<()>>) -> Result<(), LinkError> {
    match timeout(DEAD_AFTER, sending).await {
        Ok(sent) => sent.map_err(|error| LinkError::Transport(Arc::new(error))),
        Err(_) => Err(LinkError::Silent { seconds: DEAD_AFTER.as_secs() }),
    }
}

/// Until the link ends; ends it when the other side does, or misbehaves.
pub(crate) async fn receive(
    mut source: Box<dyn Source>,
    opened: mpsc::Sender<Opened>,
    side: Side,
    shared: Arc<Shared>,
) {
    let mut sorter = Sorter { opened, side, newest: 0, shared: Arc::clone(&shared) };
    let why = loop {
        let next = tokio::select! {
            next = timeout(DEAD_AFTER, source.next()) => next,
            _ = shared.wait_for_end() => return,
        };
        let sorted = match next {
            Ok(Ok(Some(message))) => {
                shared.hears();
                sorter.sort(message)
            }
            Ok(Ok(None)) => Err(LinkError::ClosedThere),
            Ok(Err(error)) => Err(LinkError::Transport(Arc::new(error))),
            Err(_) => Err(LinkError::Silent { seconds: DEAD_AFTER.as_secs() }),
        };
        if let Err(why) = sorted {
            break why;
        }
    };
    shared.end(why);
}

struct Sorter {
    opened: mpsc::Sender<Opened>,
    side: Side,
    /// The newest stream the other side opened.
    newest: u32,
    shared: Arc<Shared>,
}

impl Sorter {
    fn sort(&mut self, message: Bytes) -> Result<(), LinkError> {
        let streams = &self.shared.streams;
        match Frame::decode(message)? {
            Frame::Beat => Ok(()),
            Frame::Open { stream, header } => self.open(stream, header),
            // What comes for a stream that is gone was sent before the other
            // side knew.
            Frame::Fragment { stream, payload, last } => streams
                .with(stream, |entry| {
                    if entry.closed_there {
                        return Err(LinkError::Protocol { what: "a message after the last" });
                    }
                    if !entry.gauge.take(cost(payload.len())) {
                        return Err(LinkError::Protocol { what: "more than it was granted" });
                    }
                    let _ = entry.inbound.send(Inbound::Fragment { payload, last });
                    Ok(())
                })
                .unwrap_or(Ok(())),
            Frame::Credit { stream, bytes } => streams
                .with(stream, |entry| {
                    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                    let credit = entry.credit.available_permits().saturating_add(bytes);
                    if credit > WINDOW_BYTES {
                        return Err(LinkError::Protocol { what: "a credit beyond the window" });
                    }
                    entry.credit.add_permits(bytes);
                    Ok(())
                })
                .unwrap_or(Ok(())),
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
        if !theirs || id <= self.newest {
            return Err(LinkError::Protocol { what: "a stream id that is not its to use" });
        }
        self.newest = id;
        let parts = self.shared.streams.insert(id);
        let parts = parts.map_err(|_| LinkError::Protocol { what: "too many streams" })?;
        let stream = Stream::new(id, parts, Arc::clone(&self.shared));
        match self.opened.try_send(Opened { header, stream }) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(LinkError::Flooded),
            // Nobody takes streams here; the other side is told by the drop.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}
