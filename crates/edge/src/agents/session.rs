//! One agent's link, from its welcome to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use helix_link::{Incoming, Link, Opened, Receiver, Sender, Side, Stream, Transport};
use helix_model::Timestamp;
use helix_model::tunnel;
use helix_tunnel::protocol::{self, FromEdge, Hello, Leave, PROTOCOL, VERSION_BYTES_MAX};
use tokio::sync::watch;
use tokio::time::timeout;

use super::seat::{Attached, Seat};
use crate::backend::Session;
use crate::shared::Shared;

/// How long an agent may take to say what it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what goes through an agent that was sent away may go on.
const LEAVE_GRACE: Duration = Duration::from_secs(60);

/// Who has come in.
pub(super) struct Guest {
    pub(super) seat: Arc<Seat>,
    pub(super) from: SocketAddr,
    pub(super) transport: tunnel::Transport,
    /// Of its token.
    pub(super) generation: u64,
    /// Where its visitors come from.
    pub(super) reachable: Vec<String>,
}

/// Runs the link to its end.
pub(super) async fn run(shared: Arc<Shared>, transport: Transport, guest: Guest) {
    let (link, mut incoming) = Link::start(transport, Side::Server);
    let Ok(Some((hello, stream))) = timeout(HELLO_TIMEOUT, hello(&mut incoming)).await else {
        return link.close();
    };
    let Stream { sender, receiver } = stream;
    let agent = Arc::new(Attached {
        link,
        since: now(),
        version: hello.version,
        transport: guest.transport,
        address: guest.from.ip(),
        proxy_protocol: hello.proxy_protocol,
        session: Session::fresh(),
        generation: guest.generation,
        leave: watch::Sender::new(None),
    });
    let reachable = guest.reachable.clone();
    let talking = talk(&agent, &guest.seat, &shared, (sender, receiver), reachable);
    shared.closing.interrupts(talking).await;
    guest.seat.leave(&agent);
    agent.link.close();
    shared.agents.changed.notify_one();
    drop(incoming);
}

/// The agent's first words, and the stream to answer on.
async fn hello(incoming: &mut Incoming) -> Option<(Hello, Stream)> {
    let Opened { header, stream } = incoming.next().await?;
    match protocol::read::<Hello>(&header) {
        Ok(hello) if hello.protocol > PROTOCOL => {
            stream.sender.reset("this edge is older than the agent: update the edge first");
            None
        }
        Ok(hello) if hello.version.len() <= VERSION_BYTES_MAX => Some((hello, stream)),
        _ => {
            stream.sender.reset("what the agent says of itself cannot be read");
            None
        }
    }
}

/// Seats the agent once it has been welcomed, until it leaves or is to leave.
async fn talk(
    agent: &Arc<Attached>,
    seat: &Arc<Seat>,
    shared: &Shared,
    (mut sender, mut receiver): (Sender, Receiver),
    reachable: Vec<String>,
) {
    let mut leave = agent.leave.subscribe();
    // First the seat: a visitor may come as soon as the agent knows of its welcome.
    seat.take(Arc::clone(agent));
    shared.agents.changed.notify_one();
    if sender.send(protocol::write(&FromEdge::Welcome { reachable })).await.is_err() {
        return;
    }
    let why = tokio::select! {
        why = leave.wait_for(Option::is_some) => why.ok().and_then(|why| *why),
        // It has nothing to say; the end of it is its goodbye.
        _ = async { while let Ok(Some(_)) = receiver.next().await {} } => return,
        _ = agent.link.ended() => return,
    };
    let why = why.unwrap_or(Leave::Draining);
    let _ = sender.send(protocol::write(&FromEdge::Leave { why })).await;
    if why == Leave::Revoked {
        return;
    }
    // What is open goes on for a while; the agent ends the link when all has ended.
    let _ = timeout(LEAVE_GRACE, agent.link.ended()).await;
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
