//! One task per instance: carries out what its [`Lifecycle`] asks for and tells
//! it what came of it. It decides nothing itself.
//!
//! Everything slow runs in tasks of its own beside the loop, so that a changed
//! plan is heard at once. Dropping the actor at any point leaves the program
//! running, to be adopted later.

use std::future::pending;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use helix_model::instance::Observed;
use helix_model::plan::InstancePlan;
use helix_model::{Id, Instance, Reason};
use helix_runtime::{InstanceSpec, Isolation, Shim};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::address::{free_loopback_port, routed_ipv4};
use crate::boot::{self, Circumstances};
use crate::disk::reason_of;
use crate::error::NodeError;
use crate::images::Image;
use crate::lifecycle::{self, Action, Boot, Event, Lifecycle, Memory, Refusal, StartFailure};
use crate::machine::{self, chain};
use crate::peers::Member;
use crate::probe::{Targets, probe};
use crate::shared::{Shared, Want, now};
use crate::slot::Slot;
use crate::{files, gone};

/// One instance's task.
pub(crate) struct Actor {
    shared: Arc<Shared>,
    id: Id<Instance>,
    dir: PathBuf,
    want: watch::Receiver<Want>,
    plan: Arc<InstancePlan>,
    network: Ipv6Addr,
    life: Lifecycle,
    slot: Slot,
    /// Tell nobody: the agent is leaving.
    quiet: bool,
    image: Option<Image>,
    /// The file with its secrets, once it is here.
    secrets: Option<PathBuf>,
    shim: Option<Shim>,
    targets: Arc<Targets>,
    tasks: JoinSet<Done>,
    fetch: Option<AbortHandle>,
}

/// What a task beside the loop came to.
enum Done {
    Fetched(Result<(Image, Option<PathBuf>), Refusal>),
    Started(Boot, Result<Shim, StartFailure>),
    Event(Event),
    Nothing,
}

impl Actor {
    /// An actor for an instance of the plan. `slot` is what is remembered of it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        plan: Arc<InstancePlan>,
        network: Ipv6Addr,
        slot: Option<Slot>,
        want: watch::Receiver<Want>,
    ) -> Actor {
        let mut slot = slot.unwrap_or_else(|| Slot::new(&plan));
        slot.gone_at_ms = None;
        let memory = Memory { restarts: slot.restarts, exit: slot.exit.clone() };
        let isolation = shared.machine.isolation().as_str();
        Actor {
            id: plan.id,
            dir: shared.config.instance_dir(plan.id),
            life: Lifecycle::new(plan.clone(), isolation, memory),
            shared,
            want,
            plan,
            network,
            slot,
            quiet: false,
            image: None,
            secrets: None,
            shim: None,
            targets: Arc::default(),
            tasks: JoinSet::new(),
            fetch: None,
        }
    }

    /// Runs until the instance is gone, or the agent lets go of it.
    pub(crate) async fn run(mut self) -> Id<Instance> {
        let first = self.find().await;
        if self.tell(first) {
            return self.id;
        }
        self.want.mark_changed();
        loop {
            let wake = self.life.wake_at().map(|moment| self.shared.instant(moment));
            let event = tokio::select! {
                changed = self.want.changed() => match changed {
                    Ok(()) => self.wanted(),
                    Err(_) => return self.id,
                },
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    match done {
                        Ok(done) => self.absorb(done),
                        Err(error) if error.is_cancelled() => continue,
                        Err(error) => {
                            tracing::error!(instance = %self.id, %error, "a task failed");
                            continue;
                        }
                    }
                }
                () = sleep_until(wake) => Event::Tick,
            };
            if self.tell(event) {
                return self.id;
            }
        }
    }

    /// Whether it runs already.
    async fn find(&mut self) -> Event {
        if let Some(shim) = machine::adopt(&self.dir).await
            && let Ok(spec) = InstanceSpec::load(&self.dir)
        {
            tracing::info!(instance = %self.id, "adopted");
            self.targets = Arc::new(boot::targets(&self.plan, &spec));
            self.shim = Some(shim);
            self.watch_end(1);
            if let Some(member) = self.member() {
                self.shared.peers.join(self.id, member, &self.shared.egress).await;
            }
            return Event::Adopted { was_ready: self.slot.ready };
        }
        self.slot.ready = false;
        Event::Wanted(self.plan.clone())
    }

    fn wanted(&mut self) -> Event {
        let want = self.want.borrow_and_update().clone();
        match want {
            Want::Run(plan, network) => {
                self.quiet = false;
                (self.plan, self.network) = (plan.clone(), network);
                self.tell_peers();
                Event::Wanted(plan)
            }
            Want::Stop => Event::Unwanted,
            Want::Rest => {
                self.quiet = true;
                Event::Unwanted
            }
        }
    }

    fn absorb(&mut self, done: Done) -> Event {
        match done {
            Done::Fetched(result) => {
                self.fetch = None;
                Event::Fetched(result.map(|(image, secrets)| {
                    (self.image, self.secrets) = (Some(image), secrets);
                }))
            }
            Done::Started(boot, Ok(shim)) => {
                self.shim = Some(shim);
                self.watch_end(boot);
                Event::Started { boot }
            }
            Done::Started(boot, Err(failure)) => Event::StartFailed { boot, failure },
            Done::Event(event) => event,
            Done::Nothing => Event::Tick,
        }
    }

    /// Tells the state machine and does what it asks for; true when over.
    fn tell(&mut self, event: Event) -> bool {
        let actions = self.life.handle(event, self.shared.moment());
        let finished = actions.contains(&Action::Finish);
        for action in actions {
            self.perform(action);
        }
        finished
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Fetch => self.fetch(),
            Action::CancelFetch => {
                if let Some(fetch) = self.fetch.take() {
                    fetch.abort();
                }
            }
            Action::Start { boot } => self.start(boot),
            Action::Probe { boot } => self.probe(boot),
            Action::Stop { grace } => self.stop(grace),
            Action::Clear => self.clear(),
            Action::Report(observed) => self.report(observed),
            Action::Finish => self.finish(),
        }
    }

    fn fetch(&mut self) {
        let (shared, plan) = (self.shared.clone(), self.plan.clone());
        let fetch = async move {
            let fetched = async {
                if let Some(refusal) = shared.disk.refusal() {
                    return Err(refusal);
                }
                let image =
                    shared.images.fetch(&plan.image, shared.secrets.pull_login(plan.id)).await;
                shared.disk.images_changed();
                Ok((image?, secrets(&shared, &plan).await?))
            };
            Done::Fetched(fetched.await)
        };
        self.fetch = Some(self.tasks.spawn(fetch));
    }

    fn start(&mut self, boot: Boot) {
        let mut spec = match self.spec() {
            Ok(spec) => spec,
            Err(failure) => {
                self.tasks.spawn(async move { Done::Started(boot, Err(failure)) });
                return;
            }
        };
        self.targets = Arc::new(boot::targets(&self.plan, &spec));
        let (shared, dir, network) = (self.shared.clone(), self.dir.clone(), self.network);
        let plan = self.plan.clone();
        let (id, mounts, member) = (self.id, self.plan.mounts.clone(), self.member());
        self.tasks.spawn(async move {
            // Here already, unless somebody cleared this machine's memory.
            if let Err(refusal) = secrets(&shared, &plan).await {
                let failure = StartFailure::of_machine(refusal.reason, refusal.message);
                return Done::Started(boot, Err(failure));
            }
            if shared.egress.ready(network).await {
                boot::let_out(&mut spec);
                if let Some(member) = member.clone() {
                    boot::add_peers(&mut spec, shared.peers.join(id, member, &shared.egress).await);
                }
            }
            for mount in mounts {
                match shared.volumes.open(mount.volume, id).await {
                    Ok(source) => boot::add_volume(&mut spec, source, mount),
                    Err(failure) => {
                        let failure = StartFailure::of_machine(failure.reason, failure.message);
                        return Done::Started(boot, Err(failure));
                    }
                }
            }
            let started = shared.machine.start(&dir, &spec).await;
            if let (Ok(_), Some(member)) = (&started, member) {
                // Who has come or gone since is in its file only now.
                shared.peers.join(id, member, &shared.egress).await;
            }
            Done::Started(boot, started)
        });
    }

    /// What is to be started, with everything this machine allots to it.
    fn spec(&mut self) -> Result<InstanceSpec, StartFailure> {
        let failed = |what: String| StartFailure::of_machine(Reason::WorkloadStartFailed, what);
        let image = self.image.clone().ok_or_else(|| failed("its image is not here".to_owned()))?;
        let unwritten = |error: NodeError| {
            let reason = reason_of(&error, Reason::WorkloadStartFailed);
            StartFailure::of_machine(reason, chain(&error))
        };
        files::make_dir(&self.dir).map_err(unwritten)?;
        let isolation = self.shared.machine.isolation();
        if isolation == Isolation::Container && self.slot.ipv4_slot.is_none() {
            let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
            let routed = routed_ipv4(&routes);
            self.slot.ipv4_slot = self.shared.slots().take(self.network, &routed);
            // Before anything uses the address: after a crash of the agent it
            // must be known to be taken.
            self.slot.store(&self.dir).map_err(unwritten)?;
        }
        let loopback_ports = match isolation {
            Isolation::Container => Vec::new(),
            _ => self.loopback_ports().map_err(|error| {
                let message = format!("cannot find a free loopback port: {error}");
                StartFailure::of_machine(Reason::NetworkSetupFailed, message)
            })?,
        };
        let here = Circumstances {
            boot_id: self.shared.boot_id(),
            isolation,
            network: self.network,
            ipv4_slot: self.slot.ipv4_slot,
            loopback_ports,
            secrets: self.secrets.clone(),
            resolvers: self.shared.egress.resolvers().to_vec(),
        };
        Ok(boot::instance_spec(&self.plan, &image, &here))
    }

    /// Has the others find it, or not any more, as the plan has it now. What is not
    /// running yet joins them when it starts.
    fn tell_peers(&mut self) {
        if let (Some(member), Some(_)) = (self.member(), &self.shim) {
            let (shared, id) = (self.shared.clone(), self.id);
            self.tasks.spawn(async move {
                shared.peers.rejoin(id, member, &shared.egress).await;
                Done::Nothing
            });
        }
    }

    /// What it is to those it may reach.
    fn member(&self) -> Option<Member> {
        Member::of(&self.plan, self.network, self.slot.ipv4_slot, &self.shared.config)
    }

    fn loopback_ports(&self) -> std::io::Result<Vec<u16>> {
        self.plan.ports.iter().map(|_| free_loopback_port()).collect()
    }

    fn watch_end(&mut self, boot: Boot) {
        if let Some(shim) = self.shim.clone().filter(|_| !self.plan.prestart.is_empty()) {
            self.tasks.spawn(async move {
                machine::prepared(&shim).await;
                Done::Event(Event::Prepared { boot })
            });
        }
        if let Some(shim) = self.shim.clone() {
            self.tasks.spawn(async move {
                Done::Event(Event::Exited { boot, end: machine::ended(&shim).await })
            });
        }
    }

    fn probe(&mut self, boot: Boot) {
        let Some(rules) = lifecycle::rules(&self.plan) else {
            return;
        };
        let (targets, shim) = (self.targets.clone(), self.shim.clone());
        self.tasks.spawn(async move {
            let result = probe(&targets, &rules, shim.as_ref()).await;
            Done::Event(Event::Probed { boot, result })
        });
    }

    fn stop(&mut self, grace: Duration) {
        let Some(shim) = self.shim.clone() else {
            return;
        };
        let id = self.id;
        self.tasks.spawn(async move {
            // It may just have ended, which the watcher tells. A shim that is
            // lost is dealt with when the grace is over.
            if let Err(error) = shim.stop(grace).await {
                tracing::debug!(instance = %id, error = chain(&error), "cannot ask it to stop");
            }
            Done::Nothing
        });
    }

    fn clear(&mut self) {
        let (dir, id, shared) = (self.dir.clone(), self.id, self.shared.clone());
        let volumes: Vec<_> = self.plan.mounts.iter().map(|mount| mount.volume).collect();
        self.tasks.spawn(async move {
            // Before its address can be another's.
            shared.peers.part(id, &shared.egress).await;
            if let Err(error) = machine::clear(&dir).await {
                tracing::error!(instance = %id, %error, "cannot remove what it left");
            }
            for volume in volumes {
                shared.volumes.close(volume, id).await;
            }
            Done::Event(Event::Cleared)
        });
    }

    fn report(&mut self, observed: Observed) {
        tracing::debug!(
            instance = %self.id,
            phase = ?observed.phase,
            message = observed.message.as_deref(),
            "observed"
        );
        self.remember();
        if !self.quiet {
            self.shared.board.report(self.id, observed);
        }
    }

    /// Brings the slot file up to date with the state machine.
    fn remember(&mut self) {
        let memory = self.life.memory();
        let next = Slot {
            restarts: memory.restarts,
            exit: memory.exit.clone(),
            ready: self.life.is_ready(),
            ..self.slot.clone()
        };
        if next == self.slot || !self.dir.is_dir() {
            return;
        }
        match next.store(&self.dir) {
            Ok(()) => self.slot = next,
            // Still different, it is tried again with the next news.
            Err(error) => {
                tracing::warn!(instance = %self.id, error = chain(&error), "cannot note its state");
            }
        }
    }

    fn finish(&mut self) {
        // Also while the agent only rests: nothing runs that needs them, and whoever
        // starts it again has a server to ask.
        self.shared.secrets.forget(self.id);
        if self.quiet {
            return;
        }
        self.release_ipv4();
        gone::mark(&self.dir, &self.slot, now());
    }

    fn release_ipv4(&mut self) {
        if let Some(slot) = self.slot.ipv4_slot.take() {
            self.shared.slots().release(slot);
        }
    }
}

/// The file with an instance's secrets, when it is to have some.
async fn secrets(shared: &Shared, plan: &InstancePlan) -> Result<Option<PathBuf>, Refusal> {
    match plan.secrets {
        Some(pin) => shared.secrets.file(plan.id, pin).await.map(Some),
        None => Ok(None),
    }
}

/// Sleeps until a moment, or for ever when there is none.
async fn sleep_until(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => pending().await,
    }
}
