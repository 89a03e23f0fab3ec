//! What comes to one port: each datagram goes the way of its client's session.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use helix_model::manifest::Transport;
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::session::{Client, Session, passed};
use crate::access_log::Connection;
use crate::meter::Why;
use crate::proxy_protocol::Ends;
use crate::scratch;
use crate::shared::Shared;
use crate::stats::count;
use crate::table::PortKey;

/// Sessions on one port. Each has a socket; whoever makes up senders must not take all
/// that the edge may have.
const SESSIONS_MAX: usize = 10_000;

/// Datagrams that are taken before others on the thread have their turn.
const AT_ONCE: usize = 64;

/// How often sessions that are over are forgotten.
const SWEEP: Duration = Duration::from_secs(5);

/// The sessions of one port.
struct Port {
    shared: Arc<Shared>,
    key: PortKey,
    socket: Arc<UdpSocket>,
    sessions: HashMap<SocketAddr, Arc<Session>>,
}

impl Drop for Port {
    /// Without the port there is nowhere that clients could be answered from.
    fn drop(&mut self) {
        self.sessions.values().for_each(|session| session.end());
    }
}

/// Takes datagrams until told to stop; sessions end with it.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    key: PortKey,
    socket: UdpSocket,
    stop: CancellationToken,
) {
    let (socket, sessions) = (Arc::new(socket), HashMap::new());
    Port { shared, key, socket, sessions }.take(stop).await;
}

impl Port {
    async fn take(mut self, stop: CancellationToken) {
        let mut stopped = pin!(stop.cancelled());
        let mut sweeps = interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let socket = Arc::clone(&self.socket);
        loop {
            tokio::select! {
                // What another process listens for by now is left to it, and what was taken
                // is passed on before the end.
                biased;
                () = &mut stopped => return,
                _ = sweeps.tick() => self.sweep(),
                // Its error is that of the next call.
                _ = socket.readable() => self.take_waiting().await,
            }
        }
    }

    /// Takes what has come, as far as that is fair to others on this thread; less when there
    /// was something to wait for.
    async fn take_waiting(&mut self) {
        for _ in 0..AT_ONCE {
            match scratch::with(|buffer| self.take_one(buffer)) {
                Ok(None) => {}
                Ok(Some((client, first))) => {
                    let session = self.begin(client).await;
                    return self.pass_on(session.as_deref(), &first);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An answer that could not be delivered comes back as an error of the next
                // call, and is about that client alone.
                Err(error) => tracing::debug!(%error, "a client is gone"),
            }
        }
    }

    /// Takes one; it is returned if it is the first of a session.
    fn take_one(&self, buffer: &mut [u8]) -> io::Result<Option<(SocketAddr, Vec<u8>)>> {
        let (length, client) = self.socket.try_recv_from(buffer)?;
        let datagram = &buffer[..length];
        match self.sessions.get(&client).filter(|session| !session.has_ended()) {
            Some(session) => self.pass_on(Some(session), datagram),
            None => return Ok(Some((client, datagram.to_vec()))),
        }
        Ok(None)
    }

    fn pass_on(&self, session: Option<&Session>, datagram: &[u8]) {
        if let Some(session) = session.filter(|session| session.pass_on(datagram)) {
            passed(&self.shared, datagram.len());
            session.received(datagram.len());
        } else {
            count(&self.shared.counters.udp_dropped);
        }
    }

    /// Ends sessions in which nothing goes on, and forgets those that are over.
    fn sweep(&mut self) {
        self.sessions.values().filter(|session| session.is_idle()).for_each(|it| it.end());
        self.sessions.retain(|_, session| !session.has_ended());
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
            // Answers are half of the work, and of all sessions it is one thread that has the other.
            let beside = self.shared.beside();
            match Session::open(&upstream, client, header, (span.meter(), &beside)).await {
                Ok((mut session, back)) => {
                    line.is_at(upstream.id);
                    session.line = line;
                    let (session, work) = (Arc::new(session), work.admitted(admitted));
                    self.sessions.insert(client, Arc::clone(&session));
                    let (shared, listener) = (Arc::clone(&self.shared), Arc::clone(&self.socket));
                    let client = Client { shared, listener, address: client };
                    let answering = Arc::clone(&session).answer(client, (back, (work, span)));
                    self.shared.tasks.spawn_on(answering, &beside);
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
