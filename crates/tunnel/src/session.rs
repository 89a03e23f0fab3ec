//! One link to an edge, and what it carries.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use helix_link::{Incoming, Link, Opened, Receiver, Sender, Side, Stream, Transport};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::agent::Config;
use crate::dial::DialError;
use crate::grant::Candidate;
use crate::protocol::{self, FromEdge, Hello, Leave, Opening, PROTOCOL};
use crate::service::{Service, Visitor};

/// How long an edge that has taken the connection may take to welcome the agent.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// After so long without a word, a beat and a third, the next link is sought; the link
/// itself gives up at three beats.
const QUIET_MAX: Duration = Duration::from_secs(20);

/// How often a session's health is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The machine has slept if the time of day went on by so much more than its clock.
const SLEPT: Duration = Duration::from_secs(5);

/// A link that serves, or has served.
pub(crate) struct Session {
    link: Link,
    edge: String,
    reachable: Vec<String>,
    control: Receiver,
    /// Held open: the edge takes its end as the agent's leave.
    _words: Sender,
    way: Way,
    visitors: TaskTracker,
    /// How much had been heard when it was last found unwell.
    heard_then: u64,
}

/// The addresses of the connection underneath.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) own: IpAddr,
    pub(crate) peer: SocketAddr,
}

impl Way {
    /// Whether the machine would reach its peer from the same address now.
    fn is_as_it_was(self) -> bool {
        let any: IpAddr = match self.peer.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting sends nothing: it only asks for the route.
        let asked = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(self.peer)?;
            socket.local_addr()
        });
        match asked {
            Ok(address) => address.ip() == self.own,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable
            ),
        }
    }
}

/// Why a session is not what it was.
#[derive(Debug)]
pub(crate) enum Unwell {
    /// The edge sends the agent away.
    Left(Leave),
    /// It may be gone: silent, or the machine slept, or is in another network.
    Doubtful,
    /// It is gone.
    Lost(String),
}

impl Session {
    /// Says what this is, and waits to be welcomed.
    pub(crate) async fn begin(
        config: &Config,
        candidate: &Candidate,
        transport: Transport,
        way: Way,
    ) -> Result<Session, DialError> {
        let (link, incoming) = Link::start(transport, Side::Client);
        let hello = Hello {
            protocol: PROTOCOL,
            version: config.version.clone(),
            proxy_protocol: config.proxy_protocol,
        };
        let at = || way.peer.to_string();
        let broken = |error: String| DialError::Welcome { at: at(), why: error };
        let stream = link.open(protocol::write(&hello)).map_err(|it| broken(it.to_string()))?;
        let Stream { sender, mut receiver } = stream;
        let welcome = timeout(WELCOME_TIMEOUT, receiver.next()).await;
        let welcome = welcome.map_err(|_| DialError::Late { at: at() })?;
        let welcome = welcome.map_err(|error| broken(error.to_string()))?;
        let welcome = welcome.ok_or_else(|| broken("it says nothing".to_owned()))?;
        let reachable = match protocol::read(&welcome) {
            Ok(FromEdge::Welcome { reachable }) => reachable,
            Ok(FromEdge::Leave { why }) => return Err(broken(format!("it says: {why:?}"))),
            Err(error) => return Err(broken(error.to_string())),
        };
        let visitors = TaskTracker::new();
        tokio::spawn(take(incoming, Arc::clone(&config.service), visitors.clone()));
        Ok(Session {
            link,
            edge: candidate.edge.clone(),
            reachable,
            control: receiver,
            _words: sender,
            way,
            visitors,
            heard_then: 0,
        })
    }

    pub(crate) fn edge(&self) -> &str {
        &self.edge
    }

    pub(crate) fn reachable(&self) -> &[String] {
        &self.reachable
    }

    /// Returns once it is not well, and says why.
    pub(crate) async fn unwell(&mut self) -> Unwell {
        let mut looked = (Instant::now(), SystemTime::now());
        loop {
            tokio::select! {
                said = self.control.next() => match said {
                    Ok(Some(message)) => {
                        if let Ok(FromEdge::Leave { why }) = protocol::read(&message) {
                            return self.is_unwell(Unwell::Left(why));
                        }
                    }
                    Ok(None) => return Unwell::Lost("the edge ended the session".to_owned()),
                    Err(error) => return Unwell::Lost(error.to_string()),
                },
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let (then, day_then) = looked;
                    looked = (Instant::now(), SystemTime::now());
                    let by_day = looked.1.duration_since(day_then).unwrap_or_default();
                    let slept = by_day.saturating_sub(looked.0 - then) > SLEPT;
                    if slept || self.link.quiet_for() > QUIET_MAX || !self.way.is_as_it_was() {
                        return self.is_unwell(Unwell::Doubtful);
                    }
                }
            }
        }
    }

    fn is_unwell(&mut self, why: Unwell) -> Unwell {
        self.heard_then = self.link.heard();
        why
    }

    /// Returns once something is heard again of a session that was doubtful.
    pub(crate) async fn recovers(&mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.link.heard() > self.heard_then && self.way.is_as_it_was() {
                return;
            }
        }
    }

    /// Lets what it carries come to its end, without anything new.
    pub(crate) fn linger(self) {
        tokio::spawn(async move {
            self.visitors.close();
            tokio::select! {
                () = self.visitors.wait() => {}
                _ = self.link.ended() => {}
            }
        });
    }
}

/// Takes visitors until the link ends.
async fn take(mut incoming: Incoming, service: Arc<dyn Service>, visitors: TaskTracker) {
    while let Some(Opened { header, stream }) = incoming.next().await {
        let Ok(opening) = protocol::read::<Opening>(&header) else {
            stream.sender.reset("what the stream is for cannot be read");
            continue;
        };
        let service = Arc::clone(&service);
        visitors.spawn(async move { service.carry(Visitor { opening, stream }).await });
    }
}
