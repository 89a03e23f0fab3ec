//! One listener per address and port in the plan, for connections or for datagrams.
//!
//! An endpoint whose address cannot be made this machine's gets a loopback port
//! instead, and says so. What could not be bound is tried again by the director.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener as StdListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;

use helix_model::endpoint::OwnPort;
use helix_model::manifest::Transport;
use helix_model::plan::EndpointPlan;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::any_ip::{AnyIpRoutes, Refusal};
use crate::config::AnyIp;
use crate::shared::Shared;
use crate::table::PortKey;
use crate::takeover::{Named, Taken};
use crate::tcp::relay;
use crate::{sockets, udp};

/// Loopback ports for endpoints without their own address: below the range the
/// kernel hands out for outgoing connections (from 32768), so that they are
/// mostly free and stay the same from run to run.
const FALLBACK_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// How many neighbouring fallback ports are tried before any free one is taken.
const FALLBACK_TRIES: u16 = 16;

/// Every listener of endpoints with a port of their own.
#[derive(Debug)]
pub(crate) struct Listeners {
    shared: Arc<Shared>,
    routes: AnyIpRoutes,
    states: BTreeMap<PortKey, ListenerState>,
    /// What the process before has given and nobody has asked for yet.
    taken: Taken,
}

/// What became of one address and port.
#[derive(Debug)]
pub(crate) enum ListenerState {
    /// Accepting, or about to.
    Listening {
        address: SocketAddr,
        /// Why it is another address than asked for.
        instead: Option<Refusal>,
        socket: Socket,
        is_served: bool,
        stop: CancellationToken,
    },
    /// Not accepting, for this reason; to be tried again.
    Failed(String),
}

/// What something arrives at.
#[derive(Debug)]
pub(crate) enum Socket {
    Connections(StdListener),
    Datagrams(UdpSocket),
}

impl Socket {
    fn bind(transport: Transport, address: SocketAddrV6) -> io::Result<Socket> {
        Ok(match transport {
            Transport::Tcp => Socket::Connections(sockets::listen_any(address)?),
            Transport::Udp => Socket::Datagrams(sockets::take_any(address)?),
        })
    }

    /// One that the process before has given.
    fn taken(key: PortKey, taken: &mut Taken) -> io::Result<Option<Socket>> {
        Ok(match key.transport {
            Transport::Tcp => taken.listener(key)?.map(Socket::Connections),
            Transport::Udp => taken.datagrams(key)?.map(Socket::Datagrams),
        })
    }

    /// The same, for another process.
    fn share(&self) -> io::Result<OwnedFd> {
        match self {
            Socket::Connections(listener) => listener.as_fd(),
            Socket::Datagrams(socket) => socket.as_fd(),
        }
        .try_clone_to_owned()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Connections(listener) => listener.local_addr(),
            Socket::Datagrams(socket) => socket.local_addr(),
        }
    }
}

impl ListenerState {
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            ListenerState::Listening { address, .. } => Some(*address),
            ListenerState::Failed(_) => None,
        }
    }

    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            ListenerState::Listening { address, instead, .. } => {
                instead.as_ref().map(|refusal| format!("{refusal}, listening on {address} instead"))
            }
            ListenerState::Failed(reason) => Some(reason.clone()),
        }
    }
}

impl Listeners {
    pub(crate) fn new(
        shared: Arc<Shared>,
        (any_ip, prefixes): (AnyIp, &[IpNet]),
        taken: Taken,
    ) -> Listeners {
        let routes = AnyIpRoutes::new(any_ip, prefixes);
        Listeners { shared, routes, states: BTreeMap::new(), taken }
    }

    /// What was given and has not been needed.
    pub(crate) fn taken(&mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }

    /// Every socket, for another process.
    pub(crate) fn sockets(&self) -> Vec<(Named, OwnedFd)> {
        let shared = self.states.iter().filter_map(|(key, state)| match state {
            ListenerState::Listening { socket, .. } => {
                Some((Named::port(*key), socket.share().ok()?))
            }
            ListenerState::Failed(_) => None,
        });
        shared.collect()
    }

    /// The states of an endpoint's listeners; none for one that shares one.
    pub(crate) fn states(&self, endpoint: &EndpointPlan) -> Vec<&ListenerState> {
        self.at(&PortKey::all_of(endpoint))
    }

    /// The states of the listeners at these.
    pub(crate) fn at(&self, keys: &[PortKey]) -> Vec<&ListenerState> {
        keys.iter().filter_map(|key| self.states.get(key)).collect()
    }

    /// Binds what is wanted and not yet bound.
    pub(crate) async fn bind_missing(&mut self, wanted: &BTreeSet<PortKey>) {
        for key in wanted {
            if let Some(ListenerState::Listening { .. }) = self.states.get(key) {
                continue;
            }
            let state = self.bind(*key).await;
            let state = state.unwrap_or_else(|error| ListenerState::Failed(explain(*key, &error)));
            self.states.insert(*key, state);
        }
    }

    /// Starts to serve what was bound since the last call.
    pub(crate) fn serve_all(&mut self) {
        let mut failed = Vec::new();
        for (key, state) in &mut self.states {
            let ListenerState::Listening { socket, is_served, stop, .. } = state else {
                continue;
            };
            if std::mem::replace(is_served, true) {
                continue;
            }
            let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
            let serving = match socket {
                Socket::Connections(listener) => {
                    let accepting = |own| accept(Arc::clone(&shared), *key, own, stop.clone());
                    shared.listen(listener, accepting)
                }
                Socket::Datagrams(socket) => {
                    shared.take(socket, |own| udp::serve(Arc::clone(&shared), *key, own, stop))
                }
            };
            if let Err(error) = serving {
                // It is tried again like one that could not be bound.
                failed.push((*key, ListenerState::Failed(explain(*key, &error))));
            }
        }
        self.states.extend(failed);
    }

    /// Closes the listeners that are not wanted; connections stay.
    pub(crate) async fn close_others(&mut self, wanted: &BTreeSet<PortKey>) {
        self.states.retain(|key, state| {
            let stays = wanted.contains(key);
            if let (false, ListenerState::Listening { stop, .. }) = (stays, state) {
                stop.cancel();
            }
            stays
        });
        // Somebody else needs the routes.
        if self.shared.is_handed_over() {
            return;
        }
        let addresses: Vec<Ipv6Addr> = wanted.iter().map(|key| key.own.address).collect();
        self.routes.keep_only(&addresses).await;
    }

    async fn bind(&mut self, key: PortKey) -> io::Result<ListenerState> {
        let OwnPort { address, listen_port } = key.own;
        let wanted = SocketAddrV6::new(address, listen_port, 0, 0);
        let is_ipv4 = address.to_ipv4_mapped().is_some();
        let taken = Socket::taken(key, &mut self.taken)?;
        let is_there = |socket: &Socket| {
            let at = socket.local_addr().map(|at| (at.ip().to_canonical(), at.port()));
            at.is_ok_and(|at| at == (IpAddr::V6(address).to_canonical(), listen_port))
        };
        let (socket, instead) = match (self.routes.make_local(address).await, taken) {
            (Ok(()), Some(socket)) if listen_port == 0 || is_there(&socket) => (socket, None),
            // Its IPv6 address has one already.
            (Err(refusal), _) if is_ipv4 => {
                return Ok(ListenerState::Failed(refusal.to_string()));
            }
            (Err(refusal), Some(socket)) => (socket, Some(refusal)),
            (Err(refusal), None) => (bind_instead(key)?, Some(refusal)),
            (Ok(()), _) => match Socket::bind(key.transport, wanted) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_ipv4 => {
                    (bind_instead(key)?, Some(Refusal::Privilege(address)))
                }
                outcome => (outcome?, None),
            },
        };
        let stop = self.shared.draining.child_token();
        let address = socket.local_addr()?;
        Ok(ListenerState::Listening { address, instead, socket, is_served: false, stop })
    }
}

async fn accept(shared: Arc<Shared>, key: PortKey, listener: TcpListener, stop: CancellationToken) {
    let mut stopped = pin!(stop.cancelled());
    loop {
        let (client, peer) = tokio::select! {
            // Who comes now is another process's client, if one has taken over.
            biased;
            () = &mut stopped => return,
            accepted = sockets::accept(&listener) => accepted,
        };
        tracing::debug!(%peer, address = %key.own.address, port = key.own.listen_port, "connection");
        let own = Arc::clone(&shared);
        let wanted = shared.table.load().port(key).and_then(|on| on.whole()?.thread());
        shared.carry_where(client, wanted, move |client| relay::carry(own, key, client, peer));
    }
}

/// A loopback port for an address that cannot be ours: the same one each time
/// where possible, so that bookmarks survive a restart.
fn bind_instead(key: PortKey) -> io::Result<Socket> {
    let first = fallback_port(key.own);
    let neighbours = (0..FALLBACK_TRIES).map(|offset| {
        let span = FALLBACK_PORTS.end - FALLBACK_PORTS.start;
        FALLBACK_PORTS.start + (first - FALLBACK_PORTS.start + offset) % span
    });
    for port in neighbours.chain([0]) {
        let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0);
        match Socket::bind(key.transport, address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// FNV-1a of the address and port, folded into the range. Not `Hash` from the
/// standard library, whose result may change between releases.
fn fallback_port(own: OwnPort) -> u16 {
    let bytes = own.address.octets().into_iter().chain(own.listen_port.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let span = u64::from(FALLBACK_PORTS.end - FALLBACK_PORTS.start);
    FALLBACK_PORTS.start + u16::try_from(hash % span).unwrap_or(0)
}

fn explain(key: PortKey, error: &io::Error) -> String {
    let OwnPort { address, listen_port } = key.own;
    let address = IpAddr::V6(address).to_canonical();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {listen_port} on {address} is used by another program; \
             trying again every few seconds"
        ),
        _ => {
            let address = SocketAddr::new(address, listen_port);
            format!("cannot listen on {address}: {error}; trying again every few seconds")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_port_is_stable_and_in_range() {
        let own = OwnPort { address: "fd00::1".parse().unwrap(), listen_port: 5432 };
        assert_eq!(fallback_port(own), fallback_port(own));
        assert!(FALLBACK_PORTS.contains(&fallback_port(own)));
        assert_ne!(fallback_port(own), fallback_port(OwnPort { listen_port: 80, ..own }));
    }
}
