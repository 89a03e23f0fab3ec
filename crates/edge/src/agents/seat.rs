//! The seat of a tunnel: which agent has it, for who looks for a way to it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use helix_link::{Link, Stream};
use helix_model::Timestamp;
use helix_model::plan::AttachedAgent;
use helix_model::tunnel::Transport;
use helix_tunnel::protocol::{self, Carries, Leave, Opening};
use tokio::sync::watch;

use crate::backend::{Backend, Session};

/// Where the agent of a tunnel sits. Lives as long as plans name the tunnel.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    generation: AtomicU64,
    taken: ArcSwapOption<Attached>,
    /// Where its visitors come from, as a person would type it.
    reachable: ArcSwap<Vec<String>>,
    /// Sessions of its agent that another has followed, and in which something is open.
    lingering: Mutex<VecDeque<Weak<Attached>>>,
}

/// Sessions of one agent that may linger beside the one that serves. More come only of one
/// that changes again and again; the oldest then has as long as one that was replaced.
const LINGERING_MAX: usize = 8;

/// An agent that has a seat.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) link: Link,
    pub(crate) since: Timestamp,
    pub(crate) version: String,
    pub(crate) transport: Transport,
    /// Where it comes from: for its owner, and never for visitors.
    pub(crate) address: IpAddr,
    /// Its visitors' connections begin with where they come from.
    pub(crate) proxy_protocol: bool,
    pub(crate) session: Session,
    /// The thread its link is on, of those that carry connections.
    pub(crate) thread: Option<usize>,
    /// Of its token.
    pub(crate) generation: u64,
    /// What it is known by, as one agent in several sessions.
    pub(crate) instance: Option<String>,
    /// Why it is to leave, once it is.
    pub(crate) leave: watch::Sender<Option<Leave>>,
}

impl Seat {
    /// The agent that has it.
    pub(crate) fn agent(&self) -> Option<Arc<Attached>> {
        self.taken.load_full()
    }

    /// Where its visitors come from, the best first.
    pub(crate) fn reachable(&self) -> Vec<String> {
        self.reachable.load().to_vec()
    }

    /// That is there now.
    pub(crate) fn is_reached_at(&self, reachable: &[String]) {
        if **self.reachable.load() != reachable {
            self.reachable.store(Arc::new(reachable.to_vec()));
        }
    }

    /// The same as it is reported.
    pub(crate) fn report(&self) -> Option<AttachedAgent> {
        let agent = self.agent()?;
        Some(AttachedAgent {
            since: agent.since,
            version: agent.version.clone(),
            transport: agent.transport,
            address: Some(agent.address),
        })
    }

    /// Tokens of which generation are good.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Only tokens of this generation are good from now on.
    pub(crate) fn is_of_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
        let earlier = |agent: &Attached| agent.generation < generation;
        if self.agent().is_some_and(|agent| earlier(&agent)) {
            self.vacate(Leave::Revoked);
        }
        for before in self.lingering().iter().filter_map(Weak::upgrade).filter(|it| earlier(it)) {
            before.leave.send_replace(Some(Leave::Revoked));
        }
    }

    /// Takes the seat; whoever has it is sent away, unless that is the same agent: its
    /// session may linger.
    pub(crate) fn take(&self, agent: &Arc<Attached>) {
        let Some(before) = self.taken.swap(Some(Arc::clone(agent))) else { return };
        if Arc::ptr_eq(&before, agent) {
            return;
        }
        if before.instance.is_none() || before.instance != agent.instance {
            before.leave.send_replace(Some(Leave::Replaced));
            return;
        }
        let mut lingering = self.lingering();
        lingering.retain(|it| it.strong_count() > 0);
        if lingering.len() == LINGERING_MAX
            && let Some(oldest) = lingering.pop_front().and_then(|it| it.upgrade())
        {
            oldest.leave.send_replace(Some(Leave::Replaced));
        }
        lingering.push_back(Arc::downgrade(&before));
        before.leave.send_replace(Some(Leave::Moved));
    }

    fn lingering(&self) -> MutexGuard<'_, VecDeque<Weak<Attached>>> {
        self.lingering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves it, unless another has it by now.
    pub(crate) fn leave(&self, agent: &Arc<Attached>) {
        let mine = |taken: &Option<Arc<Attached>>| {
            taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, agent))
        };
        self.taken.rcu(|taken| if mine(taken) { None } else { taken.clone() });
    }

    /// Sends away whoever has it.
    pub(crate) fn vacate(&self, why: Leave) {
        if let Some(agent) = self.taken.swap(None) {
            agent.leave.send_replace(Some(why));
        }
        for before in self.lingering().drain(..).filter_map(|it| it.upgrade()) {
            before.leave.send_replace(Some(why));
        }
    }

    /// A way to the program behind the agent, for what comes from a client.
    pub(crate) fn open(&self, carries: Carries, client: SocketAddr) -> io::Result<Stream> {
        let agent = self.agent().ok_or(io::ErrorKind::NotConnected)?;
        agent.open(Opening { carries, client: Some(client) })
    }

    /// The same for requests of whoever comes.
    pub(crate) fn connect(&self) -> io::Result<Backend> {
        let agent = self.agent().ok_or(io::ErrorKind::NotConnected)?;
        let stream = agent.open(Opening { carries: Carries::Bytes, client: None })?;
        Ok(Backend::Behind { stream: Box::new(stream.into()), session: agent.session })
    }
}

impl Attached {
    fn open(&self, opening: Opening) -> io::Result<Stream> {
        self.link.open(protocol::write(&opening)).map_err(io::Error::other)
    }
}

#[cfg(test)]
impl Seat {
    /// Has an agent that does nothing take it, for tests of who looks at seats.
    pub(crate) fn taken_by_somebody(&self) {
        let (link, _incoming) = Link::start(helix_link::pair().0, helix_link::Side::Server);
        self.take(&Arc::new(Attached {
            link,
            since: Timestamp(1),
            version: "test".to_owned(),
            transport: Transport::Wss,
            address: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            proxy_protocol: false,
            session: Session::fresh(),
            thread: None,
            generation: 0,
            instance: None,
            leave: watch::Sender::new(None),
        }));
    }
}
