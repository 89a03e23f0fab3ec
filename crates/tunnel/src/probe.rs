//! What a way to an edge carries, measured by streams of its own.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use helix_link::{Link, Stream, StreamError};
use tokio::time::{Instant, timeout, timeout_at};

use crate::dial::{self, DialError, Proxy};
use crate::grant::{Candidate, Grant};
use crate::protocol::{self, Hello, PROBE_BYTES_MAX, PROTOCOL, Probe, Probed};
use crate::session;

/// How long one direction is measured, if it takes so long.
const PROBE_TIME: Duration = Duration::from_millis(500);

/// And until when there has to be a figure. A way that takes longer carries nothing.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// A piece of what is sent: whatever it is takes its turn between those of visitors.
const PIECE: &[u8] = &[0; 16 * 1024];

/// What a way carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// From a word to its answer.
    pub round_trip: Duration,
    /// Bytes a second from here.
    pub up: f64,
    /// The same to here.
    pub down: f64,
}

/// What a way to an edge comes to, from nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Until the edge has welcomed the agent.
    pub connect: Duration,
    pub figures: Figures,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the edge does not answer while the way is measured")]
    Stream(#[from] StreamError),
    #[error("nothing came through in {} seconds", PROBE_TIMEOUT.as_secs())]
    Late,
    #[error("the edge does not say what it got")]
    Unread,
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl Figures {
    /// As much each way as goes in a second: the slower direction counts for more.
    pub(crate) fn goodput(&self) -> f64 {
        2.0 / (1.0 / self.up + 1.0 / self.down)
    }
}

/// Measures one way to an edge with a connection made for that, by which no visitor comes.
///
/// # Errors
/// When the edge is not reached that way, or nothing comes through.
pub async fn measure(
    grant: &Grant,
    candidate: &Candidate,
    proxy: Option<&Proxy>,
    version: &str,
) -> Result<Measured, ProbeError> {
    let begun = Instant::now();
    let dialled = dial::dial(&candidate.url, grant, proxy, &AtomicBool::default()).await?;
    let hello = Hello {
        protocol: PROTOCOL,
        version: version.to_owned(),
        proxy_protocol: false,
        instance: None,
        standby: true,
    };
    let greeted = session::greet(dialled, &hello).await?;
    let connect = begun.elapsed();
    let figures = figures(&greeted.link).await?;
    Ok(Measured { connect, figures })
}

/// Both directions, one after the other.
pub(crate) async fn figures(link: &Link) -> Result<Figures, ProbeError> {
    let in_time = |measuring| timeout(PROBE_TIMEOUT, measuring);
    let begun = Instant::now();
    in_time(up(link, begun)).await.map_err(|_| ProbeError::Late)??;
    let round_trip = begun.elapsed();
    let until = Instant::now() + PROBE_TIME;
    let up = in_time(up(link, until)).await.map_err(|_| ProbeError::Late)??;
    let down = timeout(PROBE_TIMEOUT, down(link)).await.map_err(|_| ProbeError::Late)??;
    Ok(Figures { round_trip, up, down })
}

/// Sends until then, or as much as there may be.
async fn up(link: &Link, until: Instant) -> Result<f64, ProbeError> {
    let begun = Instant::now();
    let Stream { mut sender, mut receiver } = link.open(protocol::write(&Probe::Up))?;
    let pieces = PROBE_BYTES_MAX as usize / PIECE.len();
    for _ in 0..pieces {
        if Instant::now() >= until {
            break;
        }
        match timeout_at(until, sender.send(Bytes::from_static(PIECE))).await {
            Ok(sent) => sent?,
            Err(_) => break,
        }
    }
    sender.close();
    let answer = receiver.next().await?.ok_or(ProbeError::Unread)?;
    let probed: Probed = protocol::read(&answer).map_err(|_| ProbeError::Unread)?;
    Ok(rate(probed.bytes, begun))
}

/// Takes what comes for some time, or as much as there may be.
async fn down(link: &Link) -> Result<f64, ProbeError> {
    let begun = Instant::now();
    let asked = Probe::Down { bytes: PROBE_BYTES_MAX };
    let Stream { sender: _held, mut receiver } = link.open(protocol::write(&asked))?;
    let (mut bytes, until) = (0, begun + PROBE_TIME);
    while let Some(piece) = receiver.next().await? {
        bytes += piece.len() as u64;
        if Instant::now() >= until {
            break;
        }
    }
    Ok(rate(bytes, begun))
}

fn rate(bytes: u64, begun: Instant) -> f64 {
    bytes as f64 / begun.elapsed().as_secs_f64().max(f64::EPSILON)
}
