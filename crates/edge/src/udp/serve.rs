//! What comes to one port: each datagram goes the way of its client's session.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use helix_model::manifest::Transport;
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::session::{DATAGRAM_BYTES_MAX, Session, passed};
use crate::access_log::Connection;
use crate::meter::Why;
use crate::proxy_protocol::Ends;
use crate::shared::Shared;
use crate::stats::count;
use crate::table::PortKey;

/// Sessions on one port. Each has a socket; whoever makes up senders must not take all
/// that the edge may have.
const SESSIONS_MAX: usize = 10_000;

/// How often sessions that are over are forgotten.
const SWEEP: Duration = Duration::from_secs(5);

/// The sessions of one port.
struct Port {
    shared: Arc<Shared>,
    key: PortKey,
    socket: Arc<UdpSocket>,
    sessions: HashMap<SocketAddr, Arc<Session>>,
    /// Ends the sessions with the port.
    stop: CancellationToken,
}

/// Takes datagrams until told to stop. Sessions end with it: without the port there is
/// nowhere that their clients could be answered from.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    key: PortKey,
    socket: Arc<UdpSocket>,
    stop: CancellationToken,
) {
    let sessions = HashMap::new();
    let mut port = Port { shared, key, socket, sessions, stop: stop.clone() };
    stop.run_until_cancelled(port.take()).await;
}

impl Port {
    async fn take(&mut self) {
        let mut sweeps = interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let socket = Arc::clone(&self.socket);
        loop {
            tokio::select! {
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((length, client)) => self.pass_on(client, &buffer[..length]).await,
                    // An answer that could not be delivered comes back as an error of the
                    // next call, and is about that client alone.
                    Err(error) => tracing::debug!(%error, "a client is gone"),
                },
                _ = sweeps.tick() => self.sessions.retain(|_, session| !session.has_ended()),
            }
        }
    }

    async fn pass_on(&mut self, client: SocketAddr, datagram: &[u8]) {
        let known = self.sessions.get(&client).filter(|session| !session.has_ended());
        let session = match known.cloned() {
            Some(session) => Some(session),
            None => self.begin(client).await,
        };
        if let Some(session) = session.filter(|session| session.pass_on(datagram)) {
            passed(&self.shared, datagram.len());
            session.received(datagram.len());
        } else {
            count(&self.shared.counters.udp_dropped);
        }
    }

    async fn begin(&mut self, client: SocketAddr) -> Option<Arc<Session>> {
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.retain(|_, session| !session.has_ended());
            if self.sessions.len() >= SESSIONS_MAX {
                return None;
            }
        }
        let service = self.shared.table.load().datagrams(self.key).cloned()?;
        let ends = Ends { client, server: self.socket.local_addr().ok()? };
        let (span, mut line) =
            (service.span(), Connection::begin(self.shared.access_log.as_ref(), client));
        line.is_for(service.meter());
        let admitted = match service.admit() {
            Ok(admitted) => admitted,
            Err(full) => {
                span.refused(full);
                line.ended_by(full.word());
                return None;
            }
        };
        let mut attempts = service.attempts();
        while let Some((upstream, work)) = attempts.next() {
            let header = match service.sends_proxy_header() || upstream.asks_for_header() {
                true => ends.header(Transport::Udp),
                false => Vec::new(),
            };
            match Session::open(&upstream, client, header, span.meter()).await {
                Ok((mut session, back)) => {
                    line.is_at(upstream.id);
                    session.line = line;
                    let (session, work) = (Arc::new(session), work.admitted(admitted));
                    self.sessions.insert(client, Arc::clone(&session));
                    let (shared, listener) = (Arc::clone(&self.shared), Arc::clone(&self.socket));
                    let stop = self.stop.child_token();
                    let answering = Arc::clone(&session).answer(
                        shared,
                        listener,
                        client,
                        stop,
                        (back, (work, span)),
                    );
                    self.shared.tasks.spawn(answering);
                    return Some(session);
                }
                Err(error) => tracing::debug!(%error, "no session with a backend"),
            }
        }
        span.refused(Why::NoBackend);
        line.ended_by(Why::NoBackend.word());
        None
    }
}
