//! Agents that measure their way here: streams they open besides the first.

use std::time::Duration;

use bytes::Bytes;
use helix_link::{Incoming, Opened, Stream, StreamError};
use helix_tunnel::protocol::{self, PROBE_BYTES_MAX, Probe, Probed};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// Agents that may compare their ways at a time. Each moves what it can in both directions
/// on either, so that a thousand that do it at once, as after a start, would keep both cores
/// of a small machine for ten seconds, and measure nothing but each other.
const MEASURING_MAX: usize = 8;

/// How many an agent may have within [`PERIOD`]. A comparison takes three on each link.
pub(super) const PROBES_MAX: u32 = 12;

/// Comparisons are made every ten minutes, or when an agent has attached anew.
const PERIOD: Duration = Duration::from_secs(60);

/// How long one may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent: a piece takes its turn between those of visitors.
const PIECE: &[u8] = &[0; 16 * 1024];

/// Places for agents that compare their ways.
#[derive(Debug)]
pub(super) struct Places(Semaphore);

impl Default for Places {
    fn default() -> Places {
        Places(Semaphore::new(MEASURING_MAX))
    }
}

impl Places {
    /// One of them, if one is free: who waited for it would measure how long.
    pub(super) fn take(&self) -> Option<SemaphorePermit<'_>> {
        self.0.try_acquire().ok()
    }
}

/// Answers one after the other for as long as the link lives, and then for ever.
pub(super) async fn answer(incoming: &mut Incoming) {
    let (mut since, mut count) = (Instant::now(), 0);
    while let Some(Opened { header, stream }) = incoming.next().await {
        if since.elapsed() >= PERIOD {
            (since, count) = (Instant::now(), 0);
        }
        count += 1;
        if count > PROBES_MAX {
            stream.sender.reset("the way was measured too often: try again in a minute");
            continue;
        }
        let answered = match protocol::read(&header) {
            Ok(probe) => timeout(PROBE_TIMEOUT, answer_one(probe, stream)).await,
            Err(_) => {
                stream.sender.reset("what the stream is for cannot be read");
                continue;
            }
        };
        if let Ok(Err(error)) = answered {
            tracing::debug!(%error, "an agent broke a measurement off");
        }
    }
    std::future::pending::<()>().await;
}

async fn answer_one(probe: Probe, stream: Stream) -> Result<(), StreamError> {
    let Stream { mut sender, mut receiver } = stream;
    match probe {
        Probe::Up => {
            let mut bytes = 0;
            while let Some(piece) = receiver.next().await? {
                bytes += piece.len() as u64;
                if bytes > u64::from(PROBE_BYTES_MAX) {
                    sender.reset("that is more than a measurement takes");
                    return Ok(());
                }
            }
            sender.send(protocol::write(&Probed { bytes })).await?;
        }
        Probe::Down { bytes } => {
            let mut left = bytes.min(PROBE_BYTES_MAX) as usize;
            while left > 0 {
                let piece = Bytes::from_static(PIECE).slice(..left.min(PIECE.len()));
                left -= piece.len();
                sender.send(piece).await?;
            }
        }
    }
    sender.close();
    Ok(())
}
