//! One backend as the edge sees it: the way to it, its open work, whether it was
//! unreachable a moment ago, and its idle HTTP connections.
//!
//! Lives as long as any table names it; tables share it across generations.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use helix_model::AnyId;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::agents::Seat;
use crate::backend::{Backend, Session};
use crate::config::{CONNECT_TIMEOUT, EJECTION};
use crate::http::{IdleConnections, Multiplexed};
use crate::sockets;
use crate::work::{OpenWork, Work};

/// Ejection times are kept as milliseconds since this moment, in an atomic.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How a backend is reached.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Address(SocketAddr),
    /// Through the agent that has this seat.
    Agent(Arc<Seat>),
}

/// One backend.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// The instance, or the tunnel.
    pub(crate) id: AnyId,
    way: Way,
    work: Arc<Work>,
    /// When the backend may be chosen again; 0 when it never failed.
    ejected_until_ms: AtomicU64,
    pub(crate) idle: IdleConnections,
    pub(crate) multiplexed: Multiplexed,
}

impl Upstream {
    pub(crate) fn new(id: AnyId, way: Way, work: Arc<Work>) -> Upstream {
        LazyLock::force(&EPOCH);
        Upstream {
            id,
            way,
            work,
            ejected_until_ms: AtomicU64::new(0),
            idle: IdleConnections::default(),
            multiplexed: Multiplexed::default(),
        }
    }

    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    /// The seat of the agent it is behind, if it is behind one.
    pub(crate) fn seat(&self) -> Option<&Seat> {
        match &self.way {
            Way::Address(_) => None,
            Way::Agent(seat) => Some(seat),
        }
    }

    /// What a connection made now goes through.
    pub(crate) fn session(&self) -> Session {
        let agent = self.seat().and_then(Seat::agent);
        agent.map_or_else(Session::default, |agent| agent.session)
    }

    /// Whether its agent wants connections to begin with where they come from.
    pub(crate) fn asks_for_header(&self) -> bool {
        self.seat().and_then(Seat::agent).is_some_and(|agent| agent.proxy_protocol)
    }

    /// How much is open on it.
    pub(crate) fn open(&self) -> u64 {
        self.work.count()
    }

    /// Opens work on the backend, unless it is draining.
    pub(crate) fn open_work(&self) -> Option<OpenWork> {
        self.work.open()
    }

    pub(crate) fn is_ejected(&self) -> bool {
        let until = self.ejected_until_ms.load(Ordering::Relaxed);
        until != 0 && now_ms() < until
    }

    /// A fresh connection, for requests of whoever comes.
    pub(crate) async fn connect(&self) -> io::Result<Backend> {
        match &self.way {
            Way::Address(address) => {
                let stream = self.connect_to(*address).await?;
                sockets::keep_alive(&stream);
                Ok(Backend::Near(stream))
            }
            Way::Agent(seat) => seat.connect(),
        }
    }

    /// A fresh connection to an address, whose peer is not yet asked whether it is still there.
    /// Failure ejects the backend for a moment.
    pub(crate) async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        match sockets::connect(address, CONNECT_TIMEOUT).await {
            Ok(stream) => {
                self.ejected_until_ms.store(0, Ordering::Relaxed);
                Ok(stream)
            }
            Err(error) => {
                let until = now_ms() + u64::try_from(EJECTION.as_millis()).unwrap_or(u64::MAX);
                self.ejected_until_ms.store(until, Ordering::Relaxed);
                tracing::debug!(instance = %self.id, %address, %error, "backend unreachable");
                Err(error)
            }
        }
    }
}

fn now_ms() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
}
