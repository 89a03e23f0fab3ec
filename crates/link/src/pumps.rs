//! The two tasks of a link: one sends what is queued, one sorts what comes in.
//! The latter never waits for a stream, so no stream can hold up another.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::LinkError;
use crate::frame::Frame;
use crate::limits::{BEAT_INTERVAL, DEAD_AFTER};
use crate::link::{Outgoing, Shared};
use crate::sorter::Sorter;
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
                None => sink.feed(Frame::Beat.encoded()).await,
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
pub(crate) async fn receive(mut source: Box<dyn Source>, mut sorter: Sorter) {
    let shared = Arc::clone(sorter.shared());
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
