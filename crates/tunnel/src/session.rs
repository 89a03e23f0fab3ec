//! One link to an edge, and what it carries.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use helix_link::{Incoming, Link, Opened, Receiver, Sender, Side, Stream, StreamError};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::agent::Own;
use crate::dial::{DialError, Dialled};
use crate::grant::Candidate;
use crate::protocol::{self, FromAgent, FromEdge, Hello, Leave, Opening, PROTOCOL};
use crate::service::{Service, Visitor};
use crate::transport::Transport;

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
    words: Sender,
    way: Way,
    transport: Transport,
    visitors: Visitors,
    /// How much had been heard when it was last found unwell.
    heard_then: u64,
}

/// The addresses of the connection underneath.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) own: IpAddr,
    pub(crate) peer: SocketAddr,
}

/// Those that have come by a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitors {
    tasks: TaskTracker,
    count: Arc<AtomicU64>,
}

impl Visitors {
    /// How many have come so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Visitors come at once.
    Seated,
    /// Once it is said so.
    Standby,
}

impl Way {
    /// The way to a peer, as it is now.
    pub(crate) fn to(peer: SocketAddr) -> io::Result<Way> {
        Ok(Way { own: own_address(peer)?, peer })
    }

    /// Whether the machine would reach its peer from the same address now.
    fn is_as_it_was(self) -> bool {
        match own_address(self.peer) {
            Ok(address) => address == self.own,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable
            ),
        }
    }
}

/// The address that this machine reaches a peer from.
fn own_address(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match peer.ip() {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting sends nothing: it only asks for the route.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
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
        own: &Own,
        candidate: &Candidate,
        dialled: Dialled,
        begin: Begin,
    ) -> Result<Session, DialError> {
        let (way, transport) = (dialled.way, dialled.transport);
        let hello = Hello {
            protocol: PROTOCOL,
            version: own.config.version.clone(),
            proxy_protocol: own.config.proxy_protocol,
            instance: own.instance.clone(),
            standby: begin == Begin::Standby,
        };
        let Greeted { link, incoming, stream, reachable } = greet(dialled, &hello).await?;
        let Stream { sender, receiver } = stream;
        let visitors = Visitors::default();
        tokio::spawn(take(incoming, Arc::clone(&own.config.service), visitors.clone()));
        Ok(Session {
            link,
            edge: candidate.edge.clone(),
            reachable,
            control: receiver,
            words: sender,
            way,
            transport,
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

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn visitors(&self) -> &Visitors {
        &self.visitors
    }

    /// Has visitors come this way from now on.
    pub(crate) async fn take(&mut self) -> Result<(), StreamError> {
        self.words.send(protocol::write(&FromAgent::Take)).await
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
            // All of it: the edge takes the end of the agent's words as its leave.
            let session = self;
            session.visitors.tasks.close();
            tokio::select! {
                () = session.visitors.tasks.wait() => {}
                _ = session.link.ended() => {}
            }
            drop(session);
        });
    }
}

/// A link whose edge has welcomed the agent.
pub(crate) struct Greeted {
    pub(crate) link: Link,
    incoming: Incoming,
    /// What both speak of the tunnel on.
    stream: Stream,
    reachable: Vec<String>,
}

/// Says what this is, and waits to be welcomed.
pub(crate) async fn greet(dialled: Dialled, hello: &Hello) -> Result<Greeted, DialError> {
    let Dialled { carrier, way, .. } = dialled;
    let (link, incoming) = Link::start(carrier, Side::Client);
    let at = || way.peer.to_string();
    let broken = |error: String| DialError::Welcome { at: at(), why: error };
    let opened = link.open(protocol::write(hello));
    let mut stream = opened.map_err(|error| broken(error.to_string()))?;
    let welcome = timeout(WELCOME_TIMEOUT, stream.receiver.next()).await;
    let welcome = welcome.map_err(|_| DialError::Late { at: at() })?;
    let welcome = welcome.map_err(|error| broken(error.to_string()))?;
    let welcome = welcome.ok_or_else(|| broken("it says nothing".to_owned()))?;
    match protocol::read(&welcome) {
        Ok(FromEdge::Welcome { reachable }) => Ok(Greeted { link, incoming, stream, reachable }),
        Ok(FromEdge::Leave { why: Leave::Busy }) => Err(DialError::Busy { at: at() }),
        Ok(FromEdge::Leave { why }) => Err(broken(format!("it says: {why:?}"))),
        Err(error) => Err(broken(error.to_string())),
    }
}

/// Takes visitors until the link ends.
async fn take(mut incoming: Incoming, service: Arc<dyn Service>, visitors: Visitors) {
    while let Some(Opened { header, stream }) = incoming.next().await {
        let Ok(opening) = protocol::read::<Opening>(&header) else {
            stream.sender.reset("what the stream is for cannot be read");
            continue;
        };
        let service = Arc::clone(&service);
        visitors.count.fetch_add(1, Ordering::Relaxed);
        visitors.tasks.spawn(async move { service.carry(Visitor { opening, stream }).await });
    }
}
