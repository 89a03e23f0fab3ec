//! The fake network: delays, loss, partitions, and the sessions machines keep
//! with replicas.
//!
//! A session is a stream: what arrives over it arrives in the order it was
//! sent, and a loss ends it (both ends learn of that in their own time). Plans
//! are the exception: they are reordered and repeated at will, since their
//! version says which is the latest. What people send is lost, repeated and
//! reordered freely.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::feed::Feed;
use super::happening::{Happening, Message, Place, Session};
use crate::agenda::Moment;

/// How long an end may take to notice that a session is over.
const NOTICE_MS: u64 = 4000;

#[derive(Default)]
pub(crate) struct Network {
    blocked: BTreeSet<(Place, Place)>,
    pub slow: bool,
    /// Whether messages get lost now and then.
    pub lossy: bool,
    sessions: BTreeMap<Session, Line>,
    count: Session,
}

/// One session as the wire sees it.
struct Line {
    machine: Place,
    replica: usize,
    broken: bool,
    /// Nothing sent later arrives earlier, in either direction.
    up_until: Moment,
    down_until: Moment,
}

impl Network {
    pub(crate) fn new(lossy: bool) -> Network {
        Network { lossy, ..Network::default() }
    }

    pub(crate) fn is_blocked(&self, one: Place, other: Place) -> bool {
        self.blocked.contains(&(one.min(other), one.max(other)))
    }

    pub(crate) fn block(&mut self, one: Place, other: Place) {
        self.blocked.insert((one.min(other), one.max(other)));
    }

    pub(crate) fn unblock(&mut self, one: Place, other: Place) {
        self.blocked.remove(&(one.min(other), one.max(other)));
    }

    pub(crate) fn calm(&mut self) {
        self.blocked.clear();
        self.slow = false;
        self.lossy = false;
    }
}

impl World {
    pub(crate) fn send(
        &mut self,
        session: Option<Session>,
        from: Place,
        to: Place,
        message: Message,
    ) {
        let is_lost = self.network.is_blocked(from, to)
            || self.network.lossy && self.random.between(0, 999) < 8;
        if is_lost {
            self.tell(|| format!("lost from {from:?} to {to:?}: {}", name(&message)));
            if let Some(session) = session {
                self.break_session(session);
            }
            return;
        }
        let mut delay = self.delay();
        let repeats = match (&message, session) {
            (Message::NodePlan(_) | Message::EdgePlan(_), _) | (_, None) => self.random.percent(4),
            (_, Some(session)) => {
                delay = self.in_order(session, from, delay);
                false
            }
        };
        if repeats {
            let later = self.delay() + self.random.between(0, 3000);
            let message = message.clone();
            self.agenda.plan(later, Happening::Arrives { session, from, to, message });
        }
        self.agenda.plan(delay, Happening::Arrives { session, from, to, message });
    }

    fn delay(&mut self) -> u64 {
        if self.network.slow && self.random.percent(15) {
            self.random.between(20, 3000)
        } else {
            self.random.between(0, 8)
        }
    }

    fn in_order(&mut self, session: Session, from: Place, delay: u64) -> u64 {
        let now = self.agenda.now;
        let Some(line) = self.network.sessions.get_mut(&session) else { return delay };
        let until = if from == line.machine { &mut line.up_until } else { &mut line.down_until };
        *until = (*until).max(now + delay);
        *until - now
    }

    /// A message reaches its end, unless the session or that end is gone.
    pub(crate) fn arrives(
        &mut self,
        session: Option<Session>,
        from: Place,
        to: Place,
        message: Message,
    ) {
        let Some(session) = session else {
            return match (to, message) {
                (Place::Replica(index), Message::Ask { wish }) => self.asked(index, wish),
                (_, Message::Answer { wish, answer }) => self.answered(wish, answer),
                _ => {}
            };
        };
        // What was on the wire when the session broke may still come through.
        match to {
            Place::Replica(index) if self.replicas[index].up => {
                if self.replicas[index].links.contains_key(&session) {
                    self.replica_hears(index, session, message);
                } else if matches!(message, Message::Hello { .. } | Message::EdgeHello)
                    && !self.is_broken(session)
                {
                    self.replicas[index].links.insert(session, Feed::new(from));
                    self.replica_hears(index, session, message);
                }
            }
            Place::Node(node) if self.is_current(session) => match message {
                Message::NodePlan(plan) => self.node_takes_plan(node, *plan),
                Message::BackupKept(id, kept) => self.backup_answered(node, id, kept),
                _ => {}
            },
            Place::Edge(edge) => {
                if let (Message::EdgePlan(plan), true) = (message, self.is_current(session)) {
                    self.edge_takes_plan(edge, plan);
                }
            }
            _ => {}
        }
    }

    /// A new session of a machine with a replica.
    pub(crate) fn connect(&mut self, machine: Place, replica: usize) -> Session {
        self.network.count += 1;
        let session = self.network.count;
        let line = Line { machine, replica, broken: false, up_until: 0, down_until: 0 };
        self.network.sessions.insert(session, line);
        session
    }

    pub(crate) fn break_session(&mut self, session: Session) {
        let Some(line) = self.network.sessions.get_mut(&session) else { return };
        if line.broken {
            return;
        }
        line.broken = true;
        let ends = [line.machine, Place::Replica(line.replica)];
        for end in ends {
            let delay = self.random.between(1, NOTICE_MS);
            self.agenda.plan(delay, Happening::Broken { session, end });
        }
    }

    /// A replica is gone, and with it every session it had.
    pub(crate) fn break_sessions_with(&mut self, replica: usize) {
        let of_replica = self.network.sessions.iter().filter(|(_, line)| line.replica == replica);
        let sessions: Vec<_> = of_replica.map(|(session, _)| *session).collect();
        for session in sessions {
            self.break_session(session);
        }
    }

    pub(crate) fn session_broken(&mut self, session: Session, end: Place) {
        match end {
            Place::Replica(index) => self.replica_loses(index, session),
            machine => {
                if self.link_of(machine) == Some(session) {
                    self.set_link(machine, None);
                    self.dial_soon(machine);
                }
            }
        }
    }

    pub(crate) fn is_broken(&self, session: Session) -> bool {
        self.network.sessions.get(&session).is_none_or(|line| line.broken)
    }

    /// Whether this is the session its machine uses.
    pub(crate) fn is_current(&self, session: Session) -> bool {
        let machine = self.network.sessions.get(&session).map(|line| line.machine);
        machine.is_some_and(|machine| self.link_of(machine) == Some(session))
    }

    /// Sends a machine's words over its link, if it has one.
    pub(crate) fn say(&mut self, machine: Place, message: Message) {
        let Some(session) = self.link_of(machine) else { return };
        let Some(replica) = self.network.sessions.get(&session).map(|line| line.replica) else {
            return;
        };
        if self.is_broken(session) {
            return;
        }
        self.send(Some(session), machine, Place::Replica(replica), message);
    }

    pub(crate) fn dial_soon(&mut self, machine: Place) {
        let delay = self.random.between(10, 1500);
        let life = self.life_of(machine);
        self.agenda.plan(delay, Happening::Dial { machine, life });
    }

    /// A machine looks for a replica that answers.
    pub(crate) fn dial(&mut self, machine: Place, life: u32) {
        if self.life_of(machine) != life || self.link_of(machine).is_some() {
            return;
        }
        let replica = self.random.index(self.replicas.len());
        let reachable =
            self.replicas[replica].up && !self.network.is_blocked(machine, Place::Replica(replica));
        if !reachable {
            return self.dial_soon(machine);
        }
        let session = self.connect(machine, replica);
        self.set_link(machine, Some(session));
        self.tell(|| format!("{machine:?} is linked to replica {replica} (session {session})"));
        match machine {
            Place::Node(node) => self.node_says_hello(node),
            Place::Edge(edge) => self.edge_says_hello(edge),
            _ => {}
        }
    }

    pub(crate) fn link_of(&self, machine: Place) -> Option<Session> {
        match machine {
            Place::Node(node) => self.nodes[node].link,
            Place::Edge(edge) => self.edges[edge].link,
            _ => None,
        }
    }

    pub(crate) fn set_link(&mut self, machine: Place, session: Option<Session>) {
        match machine {
            Place::Node(node) => self.nodes[node].link = session,
            Place::Edge(edge) => self.edges[edge].link = session,
            _ => {}
        }
    }

    fn life_of(&self, machine: Place) -> u32 {
        match machine {
            Place::Node(node) => self.nodes[node].life,
            Place::Edge(edge) => self.edges[edge].life,
            _ => 0,
        }
    }
}

fn name(message: &Message) -> &'static str {
    match message {
        Message::Hello { .. } => "hello",
        Message::Report(..) => "report",
        Message::VolumeReport(..) => "volume report",
        Message::SnapshotReport(..) => "snapshot report",
        Message::KeepBackup(..) => "backup",
        Message::BackupKept(..) => "answer to a backup",
        Message::NodePlan(_) => "node plan",
        Message::EdgeHello => "edge hello",
        Message::EdgeReport(_) => "edge report",
        Message::EdgePlan(_) => "edge plan",
        Message::Ask { .. } => "ask",
        Message::Answer { .. } => "answer",
    }
}
