//! A control plane replica: the engine's writer over a fake log, and its slow
//! tick. [`feed`](super::feed) is what it does with a new state.
//!
//! It follows `server/src/engine`: commands wait in a queue, a round decides
//! all that wait on a draft, one append makes them durable, and only then the
//! state is published and answers go out. What another replica appended first
//! makes the append stale; the loser reloads and decides again.

use std::collections::{BTreeMap, VecDeque};

use helix_control::decide::{self, Context};
use helix_model::instance::{Desired, Observed, Phase};
use helix_model::{Actor, Code, Command, Event, Id, Instance, Node, Recorded, State, Timestamp};

use super::World;
use super::feed::Feed;
use super::happening::{Happening, Message, Outcome, Place, Session};
use super::store::{Batch, LEASE_MS, Receipt};
use crate::agenda::Moment;
use crate::{Canary, Known};

/// What every clock shows at the beginning, before its error.
const EPOCH_MS: i64 = 1_790_000_000_000;

/// How often it looks although nothing happened.
const TICK_MS: u64 = 500;

/// How long it waits for the store before it gives up on an append.
const APPEND_TIMEOUT_MS: u64 = 1000;

/// Commands decided in one go.
const BATCH_MAX: usize = 16;

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
    /// Up to where the log is known to its reconcilers' present pass.
    pub pass_position: u64,
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
            pass_position: 0,
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
        let draft = self.replicas[index].state.clone();
        let batch = Batch { expected: draft.position, ..Batch::default() };
        let mut writing = Writing { batch, draft, answers: Vec::new() };
        for _ in 0..BATCH_MAX {
            let Some(submission) = self.replicas[index].queue.pop_front() else { break };
            if self.is_outdated(index, &writing, &submission.origin) {
                self.proposal_answered(index);
                continue;
            }
            let answer = match self.remembered(&writing, &submission.origin) {
                Some(receipt) => Ok(receipt),
                None => self.decide(index, &mut writing, &submission),
            };
            if matches!(submission.origin, Origin::Reconciler) {
                self.replicas[index].pass_position = writing.draft.position;
            }
            writing.answers.push((submission, answer));
        }
        if self.options.canary == Some(Canary::AnswerEarly) {
            for (submission, answer) in &writing.answers {
                self.answer_person(index, submission, answer.clone());
            }
        }
        // Without entries there is no race to lose, but also no proof that this
        // was decided on all there is.
        let unproven = self.lets(Known::LaggingReplica);
        let nothing = writing.answers.is_empty()
            || unproven && writing.batch.entries.is_empty() && writing.batch.receipts.is_empty();
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

    fn store_delay(&mut self) -> u64 {
        let slow = self.network.slow && self.random.percent(20);
        self.random.between(0, if slow { 800 } else { 4 })
    }

    fn remembered(&self, writing: &Writing, origin: &Origin) -> Option<Receipt> {
        let Origin::Person(wish) = origin else { return None };
        if self.options.canary == Some(Canary::ForgetReceipts) {
            return None;
        }
        let key = key(*wish);
        let fresh = writing.batch.receipts.iter().find(|(known, _)| *known == key);
        fresh.map(|(_, receipt)| receipt).or_else(|| self.store.receipts.get(&key)).cloned()
    }

    fn decide(
        &mut self,
        index: usize,
        writing: &mut Writing,
        submission: &Submission,
    ) -> Result<Receipt, Code> {
        let now = self.replicas[index].clock(self.agenda.now);
        let random = &mut self.random;
        let mut entropy = || random.wide();
        let mut context = Context { now, entropy: &mut entropy };
        let decided = decide::decide(&writing.draft, &submission.command, &mut context);
        let mut decision = match decided {
            Ok(decision) => decision,
            Err(problem) => {
                let operation = submission.command.operation();
                self.tell(|| format!("replica {index} refuses {operation}: {problem}"));
                self.check_refusal(submission, problem.code);
                return Err(problem.code);
            }
        };
        if let Some(canary) = self.options.canary {
            sabotage(canary, &writing.draft, &mut decision.events);
            decision.state = writing.draft.clone();
            for event in &decision.events {
                decision.state.apply(decision.state.position + 1, now, event);
            }
        }
        let request = match submission.origin {
            Origin::Person(wish) => key(wish),
            _ => String::new(),
        };
        let actor = Actor::System(String::new());
        writing.batch.entries.extend(decision.events.into_iter().map(|event| Recorded {
            at: now,
            actor: actor.clone(),
            request_id: request.clone(),
            source: None,
            event,
        }));
        writing.draft = decision.state;
        let subject = decision.subject;
        let node = subject.and_then(|id| writing.draft.nodes.get(id.typed()?));
        let link = node.map_or(0, |node| node.status.link);
        let receipt = Receipt { position: writing.draft.position, subject, link };
        if let Origin::Person(_) = submission.origin {
            let forgets = self.options.canary == Some(Canary::ForgetReceipts);
            let key = if forgets { format!("{request}#{}", receipt.position) } else { request };
            writing.batch.receipts.push((key, receipt.clone()));
        }
        Ok(receipt)
    }

    /// Nobody can do anything about a deploy's end that is refused.
    fn check_refusal(&mut self, submission: &Submission, code: Code) {
        let Command::FinishDeploy(finish) = &submission.command else { return };
        let is_known = code == Code::HostTaken && !self.lets(Known::HostNotKept);
        if !is_known {
            let message = || format!("the end of {} is refused: {}", finish.deploy, code.as_str());
            self.checks.failed.get_or_insert_with(|| ("ends", message()));
        }
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
            self.checks.appended(&batch, self.agenda.now, &self.edge.work, asked);
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
            let keeps = !self.lets(Known::DroppedReport);
            match submission.origin {
                Origin::Reconciler => self.proposal_answered(index),
                Origin::Person(_) => {
                    self.answer_person(index, &submission, Err(Code::Unavailable));
                }
                Origin::Machine if !keeps => {}
                _ => self.replicas[index].queue.push_front(submission),
            }
        }
    }

    fn answer(&mut self, index: usize, submission: Submission, answer: Result<Receipt, Code>) {
        match submission.origin {
            Origin::Reconciler => self.proposal_answered(index),
            Origin::Hello(session, current, present) => {
                let link = answer.map_or(0, |receipt| receipt.link);
                self.attached(index, session, link, current, &present);
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
        let answer = Message::Answer { wish, answer };
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
        for (instance, observed) in absent.into_iter().chain(current).chain(waiting) {
            self.take_report(index, session, instance, observed);
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

    /// Whether a proposal is based on what is not so any more.
    fn is_outdated(&self, index: usize, writing: &Writing, origin: &Origin) -> bool {
        matches!(origin, Origin::Reconciler)
            && !self.lets(Known::StaleProposal)
            && self.replicas[index].pass_position != writing.draft.position
    }
}

/// The key, and the request id, of a person's wish.
pub(crate) fn key(wish: usize) -> String {
    format!("wish-{wish}")
}

/// Breaks the rule of a canary that lives in the decisions.
fn sabotage(canary: Canary, before: &State, events: &mut [Event]) {
    for event in events {
        match event {
            Event::InstanceAllocated(allocated) if canary == Canary::OneAddress => {
                allocated.spec.address = before.network;
            }
            Event::DeployCreated(created) if canary == Canary::RollbackNowhere => {
                if let (helix_model::deploy::Intent::Rollback, Some(previous)) =
                    (created.spec.intent, created.spec.previous)
                {
                    created.spec.release = previous;
                }
            }
            _ => {}
        }
    }
}
