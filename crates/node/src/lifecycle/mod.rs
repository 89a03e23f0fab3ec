//! The life of one instance on this machine as a pure state machine: events
//! in, actions out, time as a parameter. Start at [`Lifecycle::handle`].
//!
//! ```text
//! idle ► fetching ⇄ fetch pause        any state, once unwanted:
//!           ▼                            halting ► clearing ► gone
//!        booting ► (preparing) ► up ► halting (unhealthy)
//!           ▲      ▼       ▼
//!           └──── down ◄───┘ ► ended (policy says no more)
//! ```
//! It must not know shims, registries, sockets, files or clocks. Every event
//! of a boot carries its number, so that news of an earlier one is recognised.

mod cause;
mod crashes;
mod health;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use helix_model::Reason;
use helix_model::instance::{Exit, Observed, Phase};
use helix_model::manifest::{Check, Health as Rules, Transport};
use helix_model::plan::{InstancePlan, PortPlan, Running};

pub(crate) use cause::{Cause, End, StartFailure};
use crashes::{Crashes, doubled};
use health::{Change, Health};
pub(crate) use health::{Moment, Ports};

/// A fetch shorter than this is not worth telling anyone about: the image was
/// here already.
const FETCH_SILENT: Duration = Duration::from_millis(200);

/// First pause between tries to fetch an image; doubles from there.
const FETCH_PAUSE: Duration = Duration::from_secs(1);

/// Failed tries to fetch after which the instance counts as failed. Trying goes
/// on: the registry may come back.
const FETCH_TRIES_SILENT: u32 = 3;

/// How long after the grace a stopped program may take to be reported ended,
/// before its keeper is taken for lost and everything is removed by force.
const HALT_SLACK: Duration = Duration::from_secs(5);

/// Number of a start of an instance's program, from 1, within the agent's life.
pub(crate) type Boot = u32;

/// Something happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The plan has the instance.
    Wanted(Arc<InstancePlan>),
    /// The plan no longer has it.
    Unwanted,
    /// The plan has the instance, and it runs already: the agent was restarted.
    Adopted { was_ready: bool },
    /// The image is here, or is not.
    Fetched(Result<(), Refusal>),
    /// The program runs.
    Started { boot: Boot },
    /// What runs before the program has ended.
    Prepared { boot: Boot },
    /// The program could not be started.
    StartFailed { boot: Boot, failure: StartFailure },
    /// A health probe came back.
    Probed { boot: Boot, result: Result<Ports, String> },
    /// The program ended.
    Exited { boot: Boot, end: End },
    /// Everything it left on the machine has been removed.
    Cleared,
    /// Time passed.
    Tick,
}

/// Why an image could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) retryable: bool,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Bring the image here; answered by [`Event::Fetched`].
    Fetch,
    /// Stop bringing it; not answered.
    CancelFetch,
    /// Remove what the last boot left, then start the program; answered by
    /// [`Event::Started`] or [`Event::StartFailed`], later [`Event::Exited`].
    Start { boot: Boot },
    /// Probe its health; answered by [`Event::Probed`].
    Probe { boot: Boot },
    /// Ask the program to end, by force after the grace; [`Event::Exited`]
    /// follows.
    Stop { grace: Duration },
    /// End by force what may be left and remove it; answered by
    /// [`Event::Cleared`].
    Clear,
    /// Tell the control plane.
    Report(Observed),
    /// The instance is gone; nothing will follow.
    Finish,
}

/// What survives a restart of the agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) restarts: u32,
    pub(crate) exit: Option<Exit>,
}

#[derive(Debug)]
enum State {
    Idle,
    Fetching {
        tries: u32,
        since: Moment,
    },
    FetchPause {
        tries: u32,
        until: Moment,
    },
    Booting,
    /// What runs before the program does.
    Preparing,
    Up(Health),
    Halting {
        until: Moment,
        unhealthy: Option<String>,
    },
    Down {
        until: Moment,
    },
    /// Not to be started again; stays until unwanted.
    Ended,
    Clearing,
    Gone,
}

/// What the control plane is to think of it, apart from counters.
#[derive(Clone, Debug)]
struct Verdict {
    phase: Phase,
    reason: Option<Reason>,
    message: Option<String>,
    ports: Ports,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    plan: Arc<InstancePlan>,
    isolation: String,
    wanted: bool,
    state: State,
    boot: Boot,
    fetched: bool,
    crashes: Crashes,
    memory: Memory,
    /// `None` until there is something to say: what was adopted keeps the
    /// standing it had until it has been probed.
    verdict: Option<Verdict>,
    reported: Option<Observed>,
}

impl Lifecycle {
    /// An instance nothing has been done for yet.
    pub(crate) fn new(plan: Arc<InstancePlan>, isolation: &str, memory: Memory) -> Lifecycle {
        Lifecycle {
            plan,
            isolation: isolation.to_owned(),
            wanted: false,
            state: State::Idle,
            boot: 0,
            fetched: false,
            crashes: Crashes::default(),
            memory,
            verdict: None,
            reported: None,
        }
    }

    /// Takes note of an event and says what to do about it, in order.
    pub(crate) fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        let out = &mut actions;
        match event {
            Event::Wanted(plan) => self.wanted(plan, now, out),
            Event::Unwanted => self.unwanted(now, out),
            Event::Adopted { was_ready } => self.adopted(was_ready, now),
            Event::Fetched(result) => self.fetched(result, now, out),
            Event::Started { boot } => self.started(boot, now, out),
            Event::Prepared { boot } => self.prepared(boot, now),
            Event::StartFailed { boot, failure } => {
                self.start_failed(boot, Cause::start(failure), now, out);
            }
            Event::Probed { boot, result } => self.probed(boot, result, now, out),
            Event::Exited { boot, end } => self.exited(boot, end, now, out),
            Event::Cleared => self.cleared(now, out),
            Event::Tick => {}
        }
        self.tick(now, out);
        self.report(out);
        if matches!(self.state, State::Gone) {
            actions.push(Action::Finish);
        }
        actions
    }

    /// When to call with [`Event::Tick`] unless something happens before.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        match &self.state {
            State::Fetching { since, .. } if self.verdict.is_none() => Some(*since + FETCH_SILENT),
            State::FetchPause { until, .. }
            | State::Halting { until, .. }
            | State::Down { until } => Some(*until),
            State::Up(health) => health.wake_at(),
            _ => None,
        }
    }

    /// What is to be remembered across restarts of the agent.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether it serves.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(&self.state, State::Up(health) if health.is_ready())
    }

    fn wanted(&mut self, plan: Arc<InstancePlan>, now: Moment, out: &mut Vec<Action>) {
        self.plan = plan;
        self.wanted = true;
        if matches!(self.state, State::Idle) {
            self.fetch(0, now, out);
        }
    }

    fn unwanted(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.wanted = false;
        match &mut self.state {
            State::Fetching { .. } => {
                out.push(Action::CancelFetch);
                self.clear(out);
            }
            State::Idle | State::FetchPause { .. } | State::Down { .. } | State::Ended => {
                self.clear(out);
            }
            State::Preparing | State::Up(_) => self.halt(None, now, out),
            // These end by themselves, and then find that it is unwanted.
            State::Booting | State::Halting { .. } | State::Clearing | State::Gone => {}
        }
    }

    fn adopted(&mut self, was_ready: bool, now: Moment) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        self.boot += 1;
        self.wanted = true;
        self.state = match was_ready || self.plan.prestart.is_empty() {
            true => State::Up(Health::resume(rules(&self.plan), was_ready, now)),
            // Whether that is over is told at once.
            false => State::Preparing,
        };
        if !was_ready {
            self.judge(Phase::Starting, None, None);
        }
    }

    fn fetch(&mut self, tries: u32, now: Moment, out: &mut Vec<Action>) {
        if self.fetched {
            self.start(out);
        } else {
            self.state = State::Fetching { tries, since: now };
            out.push(Action::Fetch);
        }
    }

    fn fetched(&mut self, result: Result<(), Refusal>, now: Moment, out: &mut Vec<Action>) {
        let State::Fetching { tries, .. } = self.state else {
            return;
        };
        let refusal = match result {
            Ok(()) => {
                self.fetched = true;
                return self.start(out);
            }
            Err(refusal) => refusal,
        };
        let (reason, message) = (refusal.reason, refusal.message);
        if !refusal.retryable {
            self.state = State::Ended;
            return self.judge(Phase::Failed, Some(reason), Some(message));
        }
        let tries = tries.saturating_add(1);
        let pause = doubled(FETCH_PAUSE, tries - 1);
        self.state = State::FetchPause { tries, until: now + pause };
        let phase = if tries < FETCH_TRIES_SILENT { Phase::Pulling } else { Phase::Failed };
        self.judge(phase, Some(reason), Some(format!("{message}; trying again")));
    }

    fn start(&mut self, out: &mut Vec<Action>) {
        self.boot += 1;
        if self.boot > 1 {
            self.memory.restarts = self.memory.restarts.saturating_add(1);
        }
        self.state = State::Booting;
        self.judge(Phase::Starting, None, None);
        out.push(Action::Start { boot: self.boot });
    }

    fn started(&mut self, boot: Boot, now: Moment, out: &mut Vec<Action>) {
        if boot != self.boot || !matches!(self.state, State::Booting) {
            return;
        }
        self.state = match self.plan.prestart.is_empty() {
            true => State::Up(Health::begin(rules(&self.plan), now)),
            false => State::Preparing,
        };
        if !self.wanted {
            self.halt(None, now, out);
        }
    }

    fn prepared(&mut self, boot: Boot, now: Moment) {
        if boot == self.boot && matches!(self.state, State::Preparing) {
            self.state = State::Up(Health::begin(rules(&self.plan), now));
        }
    }

    fn start_failed(&mut self, boot: Boot, cause: Cause, now: Moment, out: &mut Vec<Action>) {
        if boot == self.boot && matches!(self.state, State::Booting) {
            self.fell(cause, None, now, out);
        }
    }

    fn probed(
        &mut self,
        boot: Boot,
        result: Result<Ports, String>,
        now: Moment,
        out: &mut Vec<Action>,
    ) {
        let State::Up(health) = &mut self.state else {
            return;
        };
        if boot != self.boot {
            return;
        }
        let change = health.probed(result, now);
        self.health_changed(change, now, out);
    }

    fn health_changed(&mut self, change: Option<Change>, now: Moment, out: &mut Vec<Action>) {
        let failed = Some(Reason::HealthcheckFailed);
        match change {
            None => {}
            Some(Change::Ready(ports)) => {
                self.judge(Phase::Ready, None, None);
                if let Some(verdict) = &mut self.verdict {
                    verdict.ports = ports;
                }
            }
            Some(Change::Unready(seen)) => self.judge(Phase::Unready, failed, Some(seen)),
            Some(Change::GaveUp(seen)) => {
                self.judge(Phase::Failed, failed, Some(seen.clone()));
                self.halt(Some(seen), now, out);
            }
        }
    }

    fn exited(&mut self, boot: Boot, end: End, now: Moment, out: &mut Vec<Action>) {
        if boot != self.boot {
            return;
        }
        match &mut self.state {
            State::Up(health) => {
                let served = health.served(now);
                self.memory.exit = end.exit.clone();
                self.fell(Cause::exit(end), served, now, out);
            }
            State::Preparing => {
                self.memory.exit = end.exit.clone();
                self.fell(Cause::exit(end), None, now, out);
            }
            State::Halting { unhealthy, .. } => {
                let unhealthy = unhealthy.take();
                self.memory.exit = end.exit;
                self.halted(unhealthy, now, out);
            }
            _ => {}
        }
    }

    /// The program is no more: start it again, later or never.
    fn fell(&mut self, cause: Cause, served: Option<Duration>, now: Moment, out: &mut Vec<Action>) {
        if !self.wanted {
            return self.clear(out);
        }
        let restart = &self.plan.restart;
        // What is being emptied gets no new work, so there is no use in a new one.
        let draining = self.plan.desired == Running::Draining;
        let pause = if cause.of_machine {
            Some(self.crashes.record_machine(restart))
        } else {
            self.crashes.record(restart, cause.clean, served)
        };
        let pause = pause.filter(|_| !draining);
        let (reason, message) = match pause {
            Some(pause) => cause.retried(self.crashes, pause),
            None if draining => cause.last("it is being drained"),
            None => cause.last("its restart policy has it stay down"),
        };
        self.state = pause.map_or(State::Ended, |pause| State::Down { until: now + pause });
        self.judge(Phase::Failed, Some(reason), Some(message));
    }

    fn halt(&mut self, unhealthy: Option<String>, now: Moment, out: &mut Vec<Action>) {
        let grace = Duration::from_millis(self.plan.stop_grace_ms);
        self.state = State::Halting { until: now + grace + HALT_SLACK, unhealthy };
        out.push(Action::Stop { grace });
    }

    fn halted(&mut self, unhealthy: Option<String>, now: Moment, out: &mut Vec<Action>) {
        match unhealthy {
            Some(seen) => self.fell(Cause::unhealthy(seen), None, now, out),
            None => self.clear(out),
        }
    }

    fn clear(&mut self, out: &mut Vec<Action>) {
        self.state = State::Clearing;
        out.push(Action::Clear);
    }

    fn cleared(&mut self, now: Moment, out: &mut Vec<Action>) {
        if !matches!(self.state, State::Clearing) {
            return;
        }
        // The plan may have changed its mind meanwhile.
        if self.wanted {
            return self.fetch(0, now, out);
        }
        self.state = State::Gone;
        self.judge(Phase::Stopped, None, None);
    }

    fn tick(&mut self, now: Moment, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Fetching { since, .. }
                if self.verdict.is_none() && *since + FETCH_SILENT <= now =>
            {
                self.judge(Phase::Pulling, None, None);
            }
            State::FetchPause { tries, until } if *until <= now => {
                let tries = *tries;
                self.fetch(tries, now, out);
            }
            State::Down { until } if *until <= now => self.fetch(0, now, out),
            State::Halting { until, unhealthy } if *until <= now => {
                let unhealthy = unhealthy.take();
                self.halted(unhealthy, now, out);
            }
            State::Up(health) => {
                let change = health.tick(now);
                if health.take_probe(now) {
                    out.push(Action::Probe { boot: self.boot });
                }
                self.health_changed(change, now, out);
            }
            _ => {}
        }
    }

    fn judge(&mut self, phase: Phase, reason: Option<Reason>, message: Option<String>) {
        self.verdict = Some(Verdict { phase, reason, message, ports: Ports::new() });
    }

    fn report(&mut self, out: &mut Vec<Action>) {
        let Some(verdict) = &self.verdict else {
            return;
        };
        if matches!(self.state, State::Clearing) {
            // How it ended is told together with its being gone.
            return;
        }
        let observed = Observed {
            phase: verdict.phase,
            reason: verdict.reason,
            message: verdict.message.clone(),
            ports: verdict.ports.clone(),
            restarts: self.memory.restarts,
            exit: self.memory.exit.clone(),
            ended: matches!(self.state, State::Ended),
            isolation: Some(self.isolation.clone()),
        };
        if self.reported.as_ref() != Some(&observed) {
            self.reported = Some(observed.clone());
            out.push(Action::Report(observed));
        }
    }
}

/// The health rules of a plan. One with ports but without rules is asked
/// whether one of them is open: an address is only worth handing out once
/// something listens there.
pub(crate) fn rules(plan: &InstancePlan) -> Option<Rules> {
    let fallback = |port: &PortPlan| Rules {
        check: match port.transport {
            Transport::Tcp => Check::Tcp,
            Transport::Udp => Check::Udp,
        },
        port: Some(port.name.clone()),
        interval_seconds: 10,
        timeout_seconds: 2,
        grace_seconds: 10,
        success_threshold: 1,
        failure_threshold: 3,
    };
    let connects = plan.ports.iter().find(|port| port.transport.is_tcp());
    plan.health.clone().or_else(|| connects.or(plan.ports.first()).map(fallback))
}
