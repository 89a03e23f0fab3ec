//! One agent's link, from its welcome to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use helix_link::{Incoming, Link, Opened, Side, Stream, Transport};
use helix_model::{Id, Timestamp, Tunnel, tunnel};
use helix_tunnel::protocol::{
    self, FROM_AGENT_BYTES_MAX, FromAgent, FromEdge, Hello, INSTANCE_BYTES_MAX, Leave, PROTOCOL,
    VERSION_BYTES_MAX,
};
use tokio::sync::watch;
use tokio::time::timeout;

use super::probe;
use super::seat::{Attached, Seat};
use crate::backend::Session;
use crate::shards;
use crate::shared::Shared;

/// How long an agent may take to say what it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what goes through an agent that was sent away may go on.
const LEAVE_GRACE: Duration = Duration::from_secs(60);

/// How long an agent may stand by. It measures two ways meanwhile, which takes seconds.
const STANDBY_MAX: Duration = Duration::from_secs(60);

/// Who has come in.
pub(super) struct Guest {
    pub(super) tunnel: Id<Tunnel>,
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
    let agent = Arc::new(Attached {
        link,
        since: now(),
        version: hello.version,
        transport: guest.transport,
        address: guest.from.ip(),
        proxy_protocol: hello.proxy_protocol,
        session: Session::fresh(),
        thread: shards::here(),
        generation: guest.generation,
        instance: hello.instance,
        leave: watch::Sender::new(None),
    });
    let talk = Talk { agent: &agent, guest: &guest, shared: &shared, stream };
    let talking = async {
        tokio::select! {
            () = talk.run(hello.standby) => {}
            () = probe::answer(&mut incoming) => {}
        }
    };
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
        Ok(hello) if is_short(&hello) => Some((hello, stream)),
        _ => {
            stream.sender.reset("what the agent says of itself cannot be read");
            None
        }
    }
}

fn is_short(hello: &Hello) -> bool {
    let instance = hello.instance.as_deref().unwrap_or_default();
    hello.version.len() <= VERSION_BYTES_MAX && instance.len() <= INSTANCE_BYTES_MAX
}

/// What an agent and the edge say of the tunnel.
struct Talk<'a> {
    agent: &'a Arc<Attached>,
    guest: &'a Guest,
    shared: &'a Shared,
    stream: Stream,
}

impl Talk<'_> {
    /// Seats the agent once it has been welcomed, or, standing by, when it says so; until
    /// it leaves or is to leave.
    async fn run(mut self, standby: bool) {
        let mut leave = self.agent.leave.subscribe();
        let has_seat = match standby {
            true => self.stand_by().await,
            // First the seat: a visitor may come as soon as the agent knows of its welcome.
            false => self.sit().await && self.welcome().await,
        };
        if !has_seat {
            return;
        }
        let agent = self.agent;
        let why = tokio::select! {
            why = leave.wait_for(Option::is_some) => why.ok().and_then(|why| *why),
            // It has no more to say; the end of it is its goodbye.
            () = async { while self.taken().await {} } => return,
            _ = agent.link.ended() => return,
        };
        let why = why.unwrap_or(Leave::Draining);
        let _ = self.say(&FromEdge::Leave { why }).await;
        self.linger(why, &mut leave).await;
    }

    async fn welcome(&mut self) -> bool {
        let reachable = self.guest.reachable.clone();
        self.say(&FromEdge::Welcome { reachable }).await
    }

    /// Welcomes one that is to measure, if there is room for that, and seats it when it says
    /// so.
    async fn stand_by(&mut self) -> bool {
        let Some(place) = self.shared.agents.measuring.take() else {
            self.say(&FromEdge::Leave { why: Leave::Busy }).await;
            return false;
        };
        let takes =
            self.welcome().await && timeout(STANDBY_MAX, self.taken()).await.unwrap_or_default();
        drop(place);
        takes && self.sit().await
    }

    /// What is open goes on for a while, or as long as it takes where the agent has only
    /// moved; the agent ends the link when all has ended.
    async fn linger(&self, mut why: Leave, leave: &mut watch::Receiver<Option<Leave>>) {
        if why == Leave::Moved {
            let is_other = |why: &Option<Leave>| *why != Some(Leave::Moved);
            let other = tokio::select! {
                other = leave.wait_for(is_other) => other.ok().and_then(|why| *why),
                _ = self.agent.link.ended() => return,
            };
            why = other.unwrap_or(Leave::Draining);
        }
        if why != Leave::Revoked {
            let _ = timeout(LEAVE_GRACE, self.agent.link.ended()).await;
        }
    }

    /// Takes the seat, if it is still one and the token still good.
    async fn sit(&mut self) -> bool {
        let seat = self.shared.agents.seat(self.guest.tunnel);
        let is_there = seat.is_some_and(|seat| Arc::ptr_eq(&seat, &self.guest.seat));
        if !is_there || self.guest.generation < self.guest.seat.generation() {
            self.say(&FromEdge::Leave { why: Leave::Revoked }).await;
            return false;
        }
        self.guest.seat.take(self.agent);
        self.shared.agents.changed.notify_one();
        true
    }

    /// Whether the agent says that it takes the tunnel; `false` when it says no more.
    async fn taken(&mut self) -> bool {
        while let Ok(Some(message)) = self.stream.receiver.next().await {
            if message.len() > FROM_AGENT_BYTES_MAX {
                return false;
            }
            // What a later agent may say is nothing that has to be understood.
            if let Ok(FromAgent::Take) = protocol::read(&message) {
                return true;
            }
        }
        false
    }

    async fn say(&mut self, what: &FromEdge) -> bool {
        self.stream.sender.send(protocol::write(what)).await.is_ok()
    }
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
