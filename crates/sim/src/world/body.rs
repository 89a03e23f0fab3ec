//! One instance on a fake node, from the fetching of its image to its end.
//!
//! It follows the state machine of `node/src/lifecycle`: the same states, the
//! same reports, the same restarts, with drawn durations. How the program
//! behaves follows from its image's name, see [`Behaviour`].

use helix_model::instance::{Exit, OVERHEAD_BYTES, Observed, Phase};
use helix_model::manifest::{RELEASE_PROCESS, RestartPolicy};
use helix_model::plan::{InstancePlan, Running};
use helix_model::{Id, Instance, Reason};

use super::World;
use super::wishes::FAILING_COMMAND;

/// Crashes in a row that make a crash loop.
const LOOP_AT: u32 = 3;

/// Longest pause before another start or another fetch.
const PAUSE_MAX_MS: u64 = 60_000;

/// A fetch shorter than this is not worth telling anyone about.
const FETCH_SILENT_MS: u64 = 200;

/// What a program does, told by the repository of its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Good,
    /// Runs and never passes its health check.
    Sick,
    Exits,
    Oom,
    /// There is no such image.
    Missing,
}

impl Behaviour {
    pub(crate) const BAD: [Behaviour; 4] =
        [Behaviour::Sick, Behaviour::Exits, Behaviour::Oom, Behaviour::Missing];

    pub(crate) fn repository(self) -> &'static str {
        match self {
            Behaviour::Good => "good",
            Behaviour::Sick => "sick",
            Behaviour::Exits => "exits",
            Behaviour::Oom => "oom",
            Behaviour::Missing => "missing",
        }
    }

    pub(crate) fn of(image: &str) -> Behaviour {
        let known = |it: &Behaviour| image.starts_with(it.repository());
        Behaviour::BAD.into_iter().find(known).unwrap_or(Behaviour::Good)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Fetching {
        tries: u32,
    },
    FetchPause {
        tries: u32,
    },
    Booting,
    Up,
    Halting {
        unhealthy: bool,
    },
    Down,
    /// Not to be started again; `own` when that is the program's own doing.
    Ended {
        own: bool,
    },
    Clearing,
    /// Ended while no agent was there to see it.
    Dead,
}

pub(crate) struct Body {
    pub plan: InstancePlan,
    pub wanted: bool,
    pub doing: Doing,
    /// Passed its health check; on disk, so that it outlives the agent.
    pub ready: bool,
    /// The change that is planned for it.
    pub token: u64,
    fetched: bool,
    boots: u32,
    restarts: u32,
    crashes: u32,
    exit: Option<Exit>,
}

impl Body {
    fn new(plan: InstancePlan) -> Body {
        Body {
            plan,
            wanted: true,
            doing: Doing::Fetching { tries: 0 },
            ready: false,
            token: 0,
            fetched: false,
            boots: 0,
            restarts: 0,
            crashes: 0,
            exit: None,
        }
    }

    /// Whether there is a program that may use memory.
    pub(crate) fn has_program(&self) -> bool {
        matches!(self.doing, Doing::Booting | Doing::Up | Doing::Halting { .. })
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        if self.has_program() { self.plan.resources.memory_bytes + OVERHEAD_BYTES } else { 0 }
    }

    fn behaviour(&self) -> Behaviour {
        Behaviour::of(&self.plan.image)
    }

    fn seen(&self, phase: Phase, reason: Option<Reason>) -> Observed {
        let at = |port: &helix_model::plan::PortPlan| {
            (port.name.clone(), (self.plan.address, port.internal).into())
        };
        let ports = match phase {
            Phase::Ready => self.plan.ports.iter().map(at).collect(),
            _ => Default::default(),
        };
        let message = reason.map(|reason| reason.meaning().to_owned());
        let (restarts, ended) = (self.restarts, matches!(self.doing, Doing::Ended { .. }));
        let exit = self.exit.clone();
        Observed { phase, reason, message, ports, restarts, ended, exit, ..Observed::default() }
    }
}

impl World {
    /// The plan has the instance.
    pub(crate) fn wanted(&mut self, node: usize, plan: InstancePlan) {
        let id = plan.id;
        if let Some(body) = self.nodes[node].bodies.get_mut(&id) {
            body.plan = plan;
            body.wanted = true;
        } else {
            self.nodes[node].bodies.insert(id, Body::new(plan));
            self.fetch(node, id, 0);
        }
    }

    /// The plan does not have it any more.
    pub(crate) fn unwanted(&mut self, node: usize, id: Id<Instance>) {
        let now = self.agenda.now;
        let Some(body) = self.nodes[node].bodies.get_mut(&id) else { return };
        body.wanted = false;
        match body.doing {
            Doing::Up => {
                self.checks.grace.ended(&mut self.checks.failed, id, now, &self.edges);
                self.halt(node, id, false);
            }
            // These end by themselves, and then find that it is unwanted.
            Doing::Booting | Doing::Halting { .. } | Doing::Clearing => {}
            _ => self.clear(node, id),
        }
    }

    /// It runs already: the agent was started again.
    pub(crate) fn adopt_body(&mut self, node: usize, plan: &InstancePlan) {
        let id = plan.id;
        let Some(body) = self.nodes[node].bodies.get_mut(&id) else { return };
        body.plan = plan.clone();
        body.wanted = true;
        body.boots = 1;
        body.crashes = 0;
        // One that was ready keeps its standing until it has been probed.
        let was_ready = body.ready;
        if !was_ready {
            self.judge(node, id, Phase::Starting, None);
        }
        let delay = if was_ready { 1000 } else { 8000 };
        let delay = self.random.between(50, delay);
        self.body_soon(node, id, delay);
    }

    /// The change that was planned for it is due.
    pub(crate) fn body_changes(&mut self, node: usize, id: Id<Instance>, token: u64) {
        if !self.nodes[node].up {
            return;
        }
        let Some(body) = self.nodes[node].bodies.get(&id).filter(|it| it.token == token) else {
            return;
        };
        match body.doing {
            Doing::Fetching { tries } => self.fetched(node, id, tries),
            Doing::FetchPause { tries } => self.fetch(node, id, tries),
            Doing::Booting => self.booted(node, id),
            Doing::Up => self.shows(node, id),
            Doing::Halting { unhealthy } => self.halted(node, id, unhealthy),
            Doing::Down => self.fetch(node, id, 0),
            Doing::Clearing => self.cleared(node, id),
            Doing::Ended { .. } | Doing::Dead => {}
        }
    }

    fn set(&mut self, node: usize, id: Id<Instance>, doing: Doing) {
        if let Some(body) = self.nodes[node].bodies.get_mut(&id) {
            body.doing = doing;
            if doing != Doing::Up {
                body.ready = false;
            }
        }
        self.checks.memory.runs(&mut self.checks.failed, &self.nodes[node]);
    }

    fn judge(&mut self, node: usize, id: Id<Instance>, phase: Phase, reason: Option<Reason>) {
        if let Some(body) = self.nodes[node].bodies.get(&id) {
            let seen = body.seen(phase, reason);
            self.post(node, id, seen);
        }
    }

    fn fetch(&mut self, node: usize, id: Id<Instance>, tries: u32) {
        if self.nodes[node].bodies.get(&id).is_some_and(|body| body.fetched) {
            return self.boot(node, id);
        }
        self.set(node, id, Doing::Fetching { tries });
        let slow = self.random.percent(20);
        let takes = self.random.between(1, if slow { 6000 } else { 400 });
        if takes > FETCH_SILENT_MS {
            self.judge(node, id, Phase::Pulling, None);
        }
        self.body_soon(node, id, takes);
    }

    fn fetched(&mut self, node: usize, id: Id<Instance>, tries: u32) {
        let down = self.nodes[node].registry_down;
        let Some(body) = self.nodes[node].bodies.get_mut(&id) else { return };
        if body.behaviour() == Behaviour::Missing {
            self.set(node, id, Doing::Ended { own: true });
            return self.judge(node, id, Phase::Failed, Some(Reason::ImageNotFound));
        }
        if down {
            let tries = tries + 1;
            let phase = if tries < 3 { Phase::Pulling } else { Phase::Failed };
            self.set(node, id, Doing::FetchPause { tries });
            self.judge(node, id, phase, Some(Reason::ImagePullFailed));
            let pause = (1000 << tries.min(6)).min(PAUSE_MAX_MS);
            return self.body_soon(node, id, pause);
        }
        body.fetched = true;
        self.boot(node, id);
    }

    fn boot(&mut self, node: usize, id: Id<Instance>) {
        if let Some(body) = self.nodes[node].bodies.get_mut(&id) {
            body.boots += 1;
            if body.boots > 1 {
                body.restarts += 1;
            }
        }
        self.set(node, id, Doing::Booting);
        self.judge(node, id, Phase::Starting, None);
        let delay = self.random.between(5, 1500);
        self.body_soon(node, id, delay);
    }

    fn booted(&mut self, node: usize, id: Id<Instance>) {
        if self.nodes[node].disk_full {
            return self.start_failed(node, id);
        }
        self.set(node, id, Doing::Up);
        let Some(body) = self.nodes[node].bodies.get(&id) else { return };
        if !body.wanted {
            return self.halt(node, id, false);
        }
        let (low, high) = match body.behaviour() {
            Behaviour::Sick => (10_000, 30_000),
            Behaviour::Good | Behaviour::Missing => (20, 6000),
            Behaviour::Exits | Behaviour::Oom => (50, 2000),
        };
        let delay = self.random.between(low, high);
        self.body_soon(node, id, delay);
    }

    /// The machine could not start it.
    fn start_failed(&mut self, node: usize, id: Id<Instance>) {
        let cause = Reason::WorkloadStartFailed;
        let wanted = self.nodes[node].bodies.get(&id).is_some_and(|body| body.wanted);
        if !wanted {
            return self.fell(node, id, cause);
        }
        // Not the program's doing, so its restart policy has no say.
        self.set(node, id, Doing::Down);
        self.judge(node, id, Phase::Failed, Some(cause));
        let pause = self.random.between(500, 5000);
        self.body_soon(node, id, pause);
    }

    /// A program shows what it is.
    fn shows(&mut self, node: usize, id: Id<Instance>) {
        let Some(body) = self.nodes[node].bodies.get_mut(&id) else { return };
        if body.plan.process.as_str() == RELEASE_PROCESS {
            let command = body.plan.command.iter().flatten().next();
            let fails = command.is_some_and(|it| it == FAILING_COMMAND)
                || body.behaviour() != Behaviour::Good;
            body.exit = Some(Exit { code: Some(fails.into()), signal: None, oom_killed: false });
            return self.fell(node, id, Reason::WorkloadExited);
        }
        match body.behaviour() {
            Behaviour::Good | Behaviour::Missing => {
                body.ready = true;
                self.judge(node, id, Phase::Ready, None);
            }
            Behaviour::Sick => {
                self.judge(node, id, Phase::Failed, Some(Reason::HealthcheckFailed));
                self.halt(node, id, true);
            }
            Behaviour::Exits => self.fell(node, id, Reason::WorkloadExited),
            Behaviour::Oom => self.fell(node, id, Reason::OomKilled),
        }
    }

    /// The program is no more: start it again, later or never.
    pub(crate) fn fell(&mut self, node: usize, id: Id<Instance>, cause: Reason) {
        self.work_dies(id);
        let agent_up = self.nodes[node].up;
        let Some(body) = self.nodes[node].bodies.get_mut(&id) else { return };
        if !agent_up {
            body.doing = Doing::Dead;
            return;
        }
        if !body.wanted {
            return self.clear(node, id);
        }
        body.crashes += 1;
        let restart = &body.plan.restart;
        let again = match restart.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => body.crashes <= restart.max_retries,
            RestartPolicy::Never => false,
        } && body.plan.desired == Running::Running;
        let doubled = (restart.backoff_seconds * 1000) << (body.crashes - 1).min(6);
        let pause = doubled.clamp(100, PAUSE_MAX_MS);
        let looping = body.crashes >= LOOP_AT;
        if again {
            let reason = if looping { Reason::CrashLoopBackoff } else { cause };
            self.set(node, id, Doing::Down);
            self.judge(node, id, Phase::Failed, Some(reason));
            self.body_soon(node, id, pause);
        } else {
            let own = cause != Reason::WorkloadStartFailed;
            self.set(node, id, Doing::Ended { own });
            self.judge(node, id, Phase::Failed, Some(cause));
        }
    }

    /// Asks the program to end; it takes its time within its grace.
    fn halt(&mut self, node: usize, id: Id<Instance>, unhealthy: bool) {
        let Some(body) = self.nodes[node].bodies.get(&id) else { return };
        let grace = body.plan.stop_grace_ms;
        let takes = if self.random.percent(20) { grace } else { grace.min(300) };
        let takes = self.random.between(1, takes.max(1));
        self.set(node, id, Doing::Halting { unhealthy });
        self.body_soon(node, id, takes);
    }

    fn halted(&mut self, node: usize, id: Id<Instance>, unhealthy: bool) {
        if unhealthy {
            self.fell(node, id, Reason::HealthcheckFailed);
        } else {
            self.clear(node, id);
        }
    }

    fn clear(&mut self, node: usize, id: Id<Instance>) {
        self.work_dies(id);
        self.set(node, id, Doing::Clearing);
        let delay = self.random.between(1, 100);
        self.body_soon(node, id, delay);
    }

    fn cleared(&mut self, node: usize, id: Id<Instance>) {
        let Some(body) = self.nodes[node].bodies.get(&id) else { return };
        // The plan may have changed its mind meanwhile.
        if body.wanted {
            return self.fetch(node, id, 0);
        }
        let seen = body.seen(Phase::Stopped, None);
        self.nodes[node].bodies.remove(&id);
        self.post(node, id, seen);
        if self.nodes[node].up {
            self.reconcile_node(node);
        }
    }

    /// A fault: the program is killed, or fails its health check for a while.
    pub(crate) fn body_suffers(&mut self, node: usize, id: Id<Instance>, cause: Option<Reason>) {
        let Some(body) = self.nodes[node].bodies.get_mut(&id) else { return };
        if body.doing != Doing::Up {
            return;
        }
        match cause {
            Some(cause) => self.fell(node, id, cause),
            None if body.ready && self.nodes[node].up => {
                self.judge(node, id, Phase::Unready, Some(Reason::HealthcheckFailed));
                let delay = self.random.between(500, 15_000);
                self.body_soon(node, id, delay);
            }
            None => {}
        }
    }
}
