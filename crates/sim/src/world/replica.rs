//! A control plane replica: the engine's writer over a fake log, and its slow
//! tick. [`feed`](super::feed) is what it does with a new state.
//!
//! It follows `server/src/engine`: commands wait in a queue, a [`Round`] decides
//! all that wait on a draft, one append makes them durable, and only then the
//! state is published and answers go out. What another replica appended first
//! makes the append stale; the loser reloads and decides again.

use std::collections::{BTreeMap, VecDeque};

use helix_control::decide::Context;
use helix_control::reconcile::Watch;
use helix_control::round::{self, Idempotency, Round, Stored};
use helix_model::deploy::Intent;
use helix_model::edge::Linked;
use helix_model::instance::{Desired, Observed, Phase};
use helix_model::{
    Actor, Code, Command, Event, Id, Instance, Node, Receipt, Recorded, State, Timestamp, node,
};

use super::World;
use super::feed::Feed;
use super::happening::{Happening, Message, Outcome, Place, Session};
use super::store::{Batch, LEASE_MS};
use crate::Canary;
use crate::agenda::Moment;

/// What every clock shows at the beginning, before its error.
const EPOCH_MS: i64 = 1_790_000_000_000;

/// How often it looks although nothing happened.
const TICK_MS: u64 = 500;

/// How long it waits for the store before it gives up on an append.
const APPEND_TIMEOUT_MS: u64 = 1000;

/// Commands decided in one go.
const BATCH_MAX: usize = 16;

/// As the log has it.
const PAYLOAD_MAX_BYTES: usize = 1 << 20;

pub(crate) struct Replica {
    pub up: bool,
    pub life: u32,
    pub state: State,
    /// By how much its clock is wrong.
    pub skew_ms: i64,
    pub links: BTreeMap<Session, Feed>,
    /// Until when it believes to have the lease.
    pub lease_until: Moment,
    /// Proposals of its reconcilers that are not answered yet.
    pub proposals_open: usize,
    pub queue: VecDeque<Submission>,
    pub writing: Option<Writing>,
    /// The position of the state their present pass was made from.
    pub proposed_at: u64,
    pub watch: Watch,
    round_due: bool,
    pub wake_due: bool,
}

/// A command that waits to be decided.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub command: Command,
    pub origin: Origin,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A person, whose wish's number is the idempotency key too.
    Person(usize),
    Reconciler,
    /// A machine.
    Machine,
    /// A node that introduces itself; what follows depends on the answer.
    Hello(Session, Vec<(Id<Instance>, Observed)>, Vec<Id<Instance>>),
    /// An edge that introduces itself.
    EdgeHello(Session),
    /// The replica itself.
    System,
}

/// A round that is on its way to the store.
pub(crate) struct Writing {
    batch: Batch,
    draft: State,
    answers: Vec<(Submission, Result<Receipt, Code>)>,
}

impl Replica {
    pub(crate) fn new(skew_ms: i64) -> Replica {
        Replica {
            up: false,
            life: 0,
            state: State::default(),
            skew_ms,
            links: BTreeMap::new(),
            lease_until: 0,
            proposals_open: 0,
            queue: VecDeque::new(),
            writing: None,
            proposed_at: 0,
            watch: Watch::default(),
            round_due: false,
            wake_due: false,
        }
    }

    pub(crate) fn clock(&self, now: Moment) -> Timestamp {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        Timestamp(EPOCH_MS + now + self.skew_ms)
    }
}

impl World {
    pub(crate) fn start_replica(&mut self, index: usize) {
        if self.replicas[index].up {
            return;
        }
        let fresh = Replica::new(self.replicas[index].skew_ms);
        let life = self.replicas[index].life + 1;
        let state = self.store.load();
        self.checks.replay.compare(&mut self.checks.failed, "a replica that started", &state);
        self.replicas[index] = Replica { up: true, life, state, ..fresh };
        self.agenda.plan(0, Happening::Tick { replica: index, life });
        if self.replicas[index].state.position == 0 {
            self.bootstrap(index);
        }
        self.wake(index);
    }

    pub(crate) fn crash_replica(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        if !replica.up {
            return;
        }
        replica.up = false;
        replica.life += 1;
        self.break_sessions_with(index);
    }

    /// The happening's replica, if it still lives that life.
    pub(crate) fn lives(&self, index: usize, life: u32) -> bool {
        self.replicas[index].up && self.replicas[index].life == life
    }

    pub(crate) fn submit(&mut self, index: usize, command: Command, origin: Origin) {
        self.replicas[index].queue.push_back(Submission { command, origin });
        self.round_soon(index);
    }

    pub(crate) fn round_soon(&mut self, index: usize) {
        let delay = self.random.between(0, 2);
        let replica = &mut self.replicas[index];
        if !replica.round_due && replica.writing.is_none() && !replica.queue.is_empty() {
            replica.round_due = true;
            self.agenda.plan(delay, Happening::Round { replica: index, life: replica.life });
        }
    }

    pub(crate) fn round(&mut self, index: usize) {
        self.replicas[index].round_due = false;
        if self.replicas[index].writing.is_some() {
            return;
        }
        let now = self.replicas[index].clock(self.agenda.now);
        let before = self.replicas[index].state.clone();
        let mut round = Round::on(&before, PAYLOAD_MAX_BYTES);
        let mut submissions = Vec::new();
        for _ in 0..BATCH_MAX {
            let Some(submission) = self.replicas[index].queue.pop_front() else { break };
            let origin = self.origin(&submission);
            let key = origin.idempotency.as_ref().map(|it| &it.key);
            let stored = key.and_then(|key| self.store.receipts.get(key)).cloned();
            let random = &mut self.random;
            let mut entropy = || random.wide();
            let mut context = Context { now, entropy: &mut entropy };
            round.take(&submission.command, &origin, stored.as_ref(), &mut context);
            if let Some(Err(problem)) = round.answers.last() {
                let problem = problem.clone();
                let operation = submission.command.operation();
                self.tell(|| format!("replica {index} refuses {operation}: {problem}"));
            }
            submissions.push(submission);
        }
        let writing = self.write(&before, round, submissions);
        if self.options.canary == Some(Canary::AnswerEarly) {
            for (submission, answer) in &writing.answers {
                self.answer_person(index, submission, answer.clone());
            }
        }
        // Also when there is nothing to append: what is no news to a state that
        // lags behind may be news to the log.
        let nothing = writing.answers.is_empty();
        self.replicas[index].writing = Some(writing);
        let life = self.replicas[index].life;
        if nothing {
            self.append_done(index, Outcome::Appended);
        } else if self.network.is_blocked(Place::Replica(index), Place::Store) {
            let outcome = Outcome::Unknown;
            self.agenda
                .plan(APPEND_TIMEOUT_MS, Happening::AppendDone { replica: index, life, outcome });
        } else {
            let delay = self.store_delay();
            self.agenda.plan(delay, Happening::AppendArrives { replica: index, life });
        }
    }

    /// Who asks, as the engine knows it.
    fn origin(&mut self, submission: &Submission) -> round::Origin {
        let Origin::Person(wish) = submission.origin else {
            let actor = Actor::System(String::new());
            let request_id = String::new();
            return round::Origin {
                actor,
                request_id,
                source: None,
                idempotency: None,
                precondition: None,
            };
        };
        let request_id = key(wish);
        let mut key = request_id.clone();
        if self.options.canary == Some(Canary::ForgetReceipts) {
            self.tokens += 1;
            key = format!("{key}#{}", self.tokens);
        }
        let idempotency = Some(Idempotency { key, request_hash: [0; 32] });
        let actor = Actor::Token(String::new());
        round::Origin { actor, request_id, source: None, idempotency, precondition: None }
    }

    /// What a round comes to, read back from what it would write.
    fn write(&mut self, before: &State, round: Round, submissions: Vec<Submission>) -> Writing {
        let read = |entry: &round::Entry| serde_json::from_slice(&entry.payload).ok();
        let mut entries: Vec<Recorded> = round.entries.iter().filter_map(read).collect();
        let mut draft = round.state;
        if let Some(canary) = self.options.canary {
            draft = before.clone();
            for recorded in &mut entries {
                sabotage(canary, &draft, &mut recorded.event);
                draft.apply(draft.position + 1, recorded.at, &recorded.event);
            }
        }
        let stored = |kept: round::Kept| {
            (kept.key, Stored { request_hash: kept.request_hash, body: kept.body })
        };
        let receipts = round.receipts.into_iter().map(stored).collect();
        let batch = Batch { expected: round.expected, entries, receipts };
        let answers = round.answers.into_iter().map(|answer| answer.map_err(|it| it.code));
        Writing { batch, draft, answers: submissions.into_iter().zip(answers).collect() }
    }

    fn store_delay(&mut self) -> u64 {
        let slow = self.network.slow && self.random.percent(20);
        self.random.between(0, if slow { 800 } else { 4 })
    }

    pub(crate) fn append_arrives(&mut self, index: usize) {
        let Some(writing) = &self.replicas[index].writing else { return };
        let appended = self.store.append(&writing.batch);
        let mut outcome = if appended { Outcome::Appended } else { Outcome::Stale };
        if appended {
            let batch = writing.batch.clone();
            self.tell_entries(index, &batch.entries);
            let wishes = &self.wishes;
            let asked = |request: &str| {
                let number = request.strip_prefix("wish-")?.parse::<usize>().ok()?;
                wishes.get(number).map(|wish| &wish.command)
            };
            self.checks.appended(&batch, self.agenda.now, &self.edges, asked);
            self.notify_others(index);
        }
        let blocked = self.network.is_blocked(Place::Replica(index), Place::Store);
        let delay = if blocked {
            outcome = Outcome::Unknown;
            APPEND_TIMEOUT_MS
        } else {
            self.store_delay()
        };
        let life = self.replicas[index].life;
        self.agenda.plan(delay, Happening::AppendDone { replica: index, life, outcome });
    }

    fn notify_others(&mut self, index: usize) {
        for other in 0..self.replicas.len() {
            if other != index && self.replicas[other].up && !self.random.percent(10) {
                let delay = self.random.between(1, 50);
                let life = self.replicas[other].life;
                self.agenda.plan(delay, Happening::Follow { replica: other, life });
            }
        }
    }

    pub(crate) fn append_done(&mut self, index: usize, outcome: Outcome) {
        let Some(writing) = self.replicas[index].writing.take() else { return };
        let Writing { draft, answers, .. } = writing;
        match outcome {
            Outcome::Appended => {
                let changed = self.replicas[index].state.position != draft.position;
                self.replicas[index].state = draft;
                for (submission, answer) in answers {
                    self.answer(index, submission, answer);
                }
                if changed {
                    self.wake(index);
                }
            }
            Outcome::Stale => {
                self.tell(|| format!("replica {index} lost a race for the log"));
                self.reload(index);
                self.again(index, answers);
            }
            Outcome::Unknown => {
                self.tell(|| format!("replica {index} does not know whether it appended"));
                if !self.network.is_blocked(Place::Replica(index), Place::Store) {
                    self.reload(index);
                }
                self.give_up(index, answers);
            }
        }
        self.round_soon(index);
    }

    /// People's and machines' commands are decided again on the newer state;
    /// reconcilers look again anyway.
    fn again(&mut self, index: usize, answers: Vec<(Submission, Result<Receipt, Code>)>) {
        for (submission, _) in answers.into_iter().rev() {
            if matches!(submission.origin, Origin::Reconciler) {
                self.proposal_answered(index);
            } else {
                self.replicas[index].queue.push_front(submission);
            }
        }
    }

    fn give_up(&mut self, index: usize, answers: Vec<(Submission, Result<Receipt, Code>)>) {
        for (submission, _) in answers.into_iter().rev() {
            match submission.origin {
                Origin::Reconciler => self.proposal_answered(index),
                Origin::Person(_) => {
                    self.answer_person(index, &submission, Err(Code::Unavailable));
                }
                _ => self.replicas[index].queue.push_front(submission),
            }
        }
    }

    fn answer(&mut self, index: usize, submission: Submission, answer: Result<Receipt, Code>) {
        match submission.origin {
            Origin::Reconciler => self.proposal_answered(index),
            Origin::Hello(session, current, present) => {
                let status = answer.ok().map(|receipt| serde_json::from_value(receipt.current));
                let status: node::Status = status.and_then(Result::ok).unwrap_or_default();
                self.attached(index, session, status.link, current, &present);
            }
            Origin::EdgeHello(session) => {
                let receipt = answer.ok();
                let linked = receipt.and_then(|receipt| {
                    let edge = receipt.subject?.id.typed()?;
                    Some(Linked { edge, link: receipt.current["link"].as_u64()? })
                });
                self.edge_attached(index, session, linked);
            }
            Origin::Person(_) => self.answer_person(index, &submission, answer),
            Origin::Machine | Origin::System => {}
        }
    }

    fn answer_person(
        &mut self,
        index: usize,
        submission: &Submission,
        answer: Result<Receipt, Code>,
    ) {
        let Origin::Person(wish) = submission.origin else { return };
        let answer = Message::Answer { wish, answer: answer.map(Box::new) };
        self.send(None, Place::Replica(index), Place::People, answer);
    }

    fn proposal_answered(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        replica.proposals_open = replica.proposals_open.saturating_sub(1);
        // Proposals that changed nothing would be the same again.
        if replica.proposals_open == 0 && replica.state.position != replica.proposed_at {
            self.wake(index);
        }
    }

    /// Reads what others have appended.
    pub(crate) fn reload(&mut self, index: usize) {
        let before = self.replicas[index].state.position;
        let mut state = std::mem::take(&mut self.replicas[index].state);
        if self.options.canary == Some(Canary::SkipEvent) && state.position + 1 < self.store.head()
        {
            state.position += 1;
        }
        self.store.replay(&mut state);
        self.replicas[index].state = state;
        if self.replicas[index].state.position != before {
            self.wake(index);
        }
    }

    pub(crate) fn follow(&mut self, index: usize) {
        let cut_off = self.network.is_blocked(Place::Replica(index), Place::Store);
        if !cut_off && self.replicas[index].writing.is_none() {
            self.reload(index);
        }
    }

    pub(crate) fn tick(&mut self, index: usize) {
        let life = self.replicas[index].life;
        self.agenda.plan(TICK_MS, Happening::Tick { replica: index, life });
        self.follow(index);
        let now = self.agenda.now;
        let reachable = !self.network.is_blocked(Place::Replica(index), Place::Store);
        if reachable && self.store.lease(index, now) {
            // A holder whose clock runs slow believes too long.
            let believes = if self.random.percent(5) { LEASE_MS } else { 0 };
            self.replicas[index].lease_until = now + LEASE_MS + believes;
        }
        if reachable && self.random.percent(2) {
            let state = &self.replicas[index].state;
            self.checks.replay.compare(&mut self.checks.failed, "a replica", state);
            self.store.snapshot = serde_json::to_vec(state).ok();
        }
        if self.replicas[index].queue.is_empty() {
            self.tend_backups(index);
        }
        self.round_soon(index);
        self.wake(index);
    }

    /// What a node's introduction leads to: what the state remembers of
    /// instances the node does not have is from before.
    fn attached(
        &mut self,
        index: usize,
        session: Session,
        link: u64,
        current: Vec<(Id<Instance>, Observed)>,
        present: &[Id<Instance>],
    ) {
        let Some(node) = self.node_of(index, session) else { return };
        let state = &self.replicas[index].state;
        let absent = state.instances.iter();
        let absent = absent.filter(|it| it.spec.node == node && !present.contains(&it.id));
        let phase = |desired| match desired {
            Desired::Stopped => Phase::Stopped,
            _ => Phase::Pending,
        };
        let seen = |phase| Observed { phase, ..Observed::default() };
        let absent: Vec<_> = absent.map(|it| (it.id, seen(phase(it.spec.desired)))).collect();
        let mut waiting = Vec::new();
        if let Some(feed) = self.replicas[index].links.get_mut(&session) {
            feed.node = Some(node);
            feed.link = link;
            waiting = std::mem::take(&mut feed.waiting);
        }
        for (instance, observed) in absent.into_iter().chain(current) {
            self.take_report(index, session, instance, observed);
        }
        for message in waiting {
            self.take_word(index, session, message);
        }
        self.wake(index);
    }

    fn node_of(&self, index: usize, session: Session) -> Option<Id<Node>> {
        let Place::Node(node) = self.replicas[index].links.get(&session)?.machine else {
            return None;
        };
        let name = &self.nodes[node].name;
        self.replicas[index].state.nodes.named(None, name).map(|node| node.id)
    }
}

/// The key, and the request id, of a person's wish.
pub(crate) fn key(wish: usize) -> String {
    format!("wish-{wish}")
}

/// Breaks the rule of a canary that lives in the decisions.
fn sabotage(canary: Canary, before: &State, event: &mut Event) {
    match event {
        Event::InstanceAllocated(allocated) if canary == Canary::OneAddress => {
            allocated.spec.address = before.network;
        }
        Event::InstanceAllocated(allocated) if canary == Canary::SharedVolume => {
            let other = before.instances.iter().find(|it| !it.spec.mounts.is_empty());
            allocated.spec.mounts.extend(other.into_iter().flat_map(|it| it.spec.mounts.clone()));
        }
        Event::DeployCreated(created) if canary == Canary::RollbackNowhere => {
            if let (Intent::Rollback, Some(previous)) = (created.spec.intent, created.spec.previous)
            {
                created.spec.release = previous;
            }
        }
        _ => {}
    }
}
