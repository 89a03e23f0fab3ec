//! One listener per address and port in the plan.
//!
//! An endpoint whose address cannot be made this machine's gets a loopback port
//! instead, and says so. What could not be bound is tried again by the director.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use helix_model::plan::{EndpointPlan, Route};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::relay;
use crate::any_ip::{AnyIpRoutes, Refusal};
use crate::config::AnyIp;
use crate::shared::Shared;
use crate::sockets;
use crate::table::TcpKey;

/// Loopback ports for endpoints without their own address: below the range the
/// kernel hands out for outgoing connections (from 32768), so that they are
/// mostly free and stay the same from run to run.
const FALLBACK_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// How many neighbouring fallback ports are tried before any free one is taken.
const FALLBACK_TRIES: u16 = 16;

/// Every listener of TCP endpoints.
#[derive(Debug)]
pub(crate) struct Listeners {
    shared: Arc<Shared>,
    routes: AnyIpRoutes,
    states: BTreeMap<TcpKey, ListenerState>,
}

/// What became of one address and port.
#[derive(Debug)]
pub(crate) enum ListenerState {
    /// Accepting, or about to.
    Listening {
        address: SocketAddr,
        /// Why it is another address than asked for.
        instead: Option<Refusal>,
        /// Taken by the accept loop.
        listener: Option<TcpListener>,
        stop: CancellationToken,
    },
    /// Not accepting, for this reason; to be tried again.
    Failed(String),
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
    pub(crate) fn new(shared: Arc<Shared>, any_ip: AnyIp) -> Listeners {
        Listeners { shared, routes: AnyIpRoutes::new(any_ip), states: BTreeMap::new() }
    }

    /// The state of an endpoint's listener; `None` for HTTP, which shares one.
    pub(crate) fn state(&self, endpoint: &EndpointPlan) -> Option<&ListenerState> {
        match &endpoint.route {
            Route::Tcp { address, port } => self.states.get(&(*address, *port)),
            Route::Http { .. } => None,
        }
    }

    /// Binds what is wanted and not yet bound.
    pub(crate) async fn bind_missing(&mut self, wanted: &[TcpKey]) {
        for key in wanted {
            if let Some(ListenerState::Listening { .. }) = self.states.get(key) {
                continue;
            }
            let state = self.bind(*key).await.unwrap_or_else(|error| {
                ListenerState::Failed(explain(SocketAddrV6::new(key.0, key.1, 0, 0), &error))
            });
            self.states.insert(*key, state);
        }
    }

    /// Starts to accept on what was bound since the last call.
    pub(crate) fn accept_on_all(&mut self) {
        for (key, state) in &mut self.states {
            let ListenerState::Listening { listener, stop, .. } = state else {
                continue;
            };
            if let Some(listener) = listener.take() {
                let accept = accept(Arc::clone(&self.shared), *key, listener, stop.clone());
                self.shared.tasks.spawn(accept);
            }
        }
    }

    /// Closes the listeners that are not wanted; connections stay.
    pub(crate) async fn close_others(&mut self, wanted: &[TcpKey]) {
        self.states.retain(|key, state| {
            let stays = wanted.contains(key);
            if let (false, ListenerState::Listening { stop, .. }) = (stays, state) {
                stop.cancel();
            }
            stays
        });
        let addresses: Vec<Ipv6Addr> = wanted.iter().map(|(address, _)| *address).collect();
        self.routes.keep_only(&addresses).await;
    }

    async fn bind(&mut self, (address, port): TcpKey) -> io::Result<ListenerState> {
        let (listener, instead) = match self.routes.make_local(address).await {
            Err(refusal) => (listen_instead((address, port))?, Some(refusal)),
            Ok(()) => match sockets::listen_any(SocketAddrV6::new(address, port, 0, 0)) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    (listen_instead((address, port))?, Some(Refusal::Privilege(address)))
                }
                outcome => (outcome?, None),
            },
        };
        let stop = self.shared.draining.child_token();
        let address = listener.local_addr()?;
        Ok(ListenerState::Listening { address, instead, listener: Some(listener), stop })
    }
}

async fn accept(shared: Arc<Shared>, key: TcpKey, listener: TcpListener, stop: CancellationToken) {
    while let Some((client, peer)) = stop.run_until_cancelled(sockets::accept(&listener)).await {
        tracing::debug!(%peer, address = %key.0, port = key.1, "connection");
        shared.tasks.spawn(relay::carry(Arc::clone(&shared), key, client));
    }
}

/// A loopback port for an address that cannot be ours: the same one each time
/// where possible, so that bookmarks survive a restart.
fn listen_instead(key: TcpKey) -> io::Result<TcpListener> {
    let first = fallback_port(key);
    let neighbours = (0..FALLBACK_TRIES).map(|offset| {
        let span = FALLBACK_PORTS.end - FALLBACK_PORTS.start;
        FALLBACK_PORTS.start + (first - FALLBACK_PORTS.start + offset) % span
    });
    for port in neighbours.chain([0]) {
        match sockets::listen_any(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// FNV-1a of the address and port, folded into the range. Not `Hash` from the
/// standard library, whose result may change between releases.
fn fallback_port((address, port): TcpKey) -> u16 {
    let bytes = address.octets().into_iter().chain(port.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let span = u64::from(FALLBACK_PORTS.end - FALLBACK_PORTS.start);
    FALLBACK_PORTS.start + u16::try_from(hash % span).unwrap_or(0)
}

fn explain(address: SocketAddrV6, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} on {} is used by another program; trying again every few seconds",
            address.port(),
            address.ip()
        ),
        _ => format!("cannot listen on {address}: {error}; trying again every few seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_port_is_stable_and_in_range() {
        let key = ("fd00::1".parse().unwrap(), 5432);
        assert_eq!(fallback_port(key), fallback_port(key));
        assert!(FALLBACK_PORTS.contains(&fallback_port(key)));
        assert_ne!(fallback_port(key), fallback_port((key.0, 80)));
    }
}
