//! The core at scale: how fast instances are placed, how long a look at the
//! state takes after one change, what an instance costs in memory.
//!
//! Part of the program and not of the simulator: it reads the clock of the
//! machine and the size of this process. What it drives is the real core, with
//! nodes that exist in the state only.

use std::io::{self, Write};
use std::time::Duration;

use helix_control::decide::{Context, decide};
use helix_control::reconcile::Watch;
use helix_control::round::{Origin, Round};
use helix_model::instance::{Observe, Observed, Phase};
use helix_model::manifest::parse_with_defaults;
use helix_model::release::Image;
use helix_model::{
    Actor, Command, Id, Instance, Name, State, Timestamp, deploy, node, org, project, quota,
};
use nix::time::{ClockId, clock_gettime};

/// How many instances are placed.
const INSTANCES: usize = 100_000;

/// How many an env has.
const PER_ENV: usize = 50;

/// Memory of a node: more than its share of the instances at the smaller size.
const NODE_BYTES: u64 = 256 << 30;

/// Changes after which a look at the state is timed.
const CHANGES: usize = 2000;

/// The moment a history begins, in 2026: ids are made of it.
const HISTORY_BEGAN_MS: i64 = 1_767_225_600_000;

/// More of anything than is asked for.
const UNLIMITED: u64 = 1 << 60;

/// As the log has it.
const PAYLOAD_MAX_BYTES: usize = 1 << 20;

/// Nodes of the cluster whose history is told.
const HISTORY_NODES: usize = 1000;

/// What was measured at one size.
struct Figures {
    decided_per_second: f64,
    written_per_second: f64,
    look_p50_us: f64,
    look_p99_us: f64,
    memory_mib: f64,
}

/// A cluster that is one state.
struct Cluster {
    state: State,
    entropy: u128,
    clock_ms: i64,
}

/// Fills a cluster of so many nodes and prints a line: the number of nodes,
/// placements per second (decided, and written down too), microseconds of a look
/// (median, 99th percentile), MiB per 10,000 instances. One size per process, or
/// memory that the first gave back would hide what the second needs.
pub(crate) fn placement(nodes: usize, out: &mut impl Write) -> io::Result<bool> {
    let Some(figures) = measure(nodes) else {
        writeln!(out, "{nodes} nodes: not every instance was placed")?;
        return Ok(false);
    };
    let Figures { decided_per_second, written_per_second, .. } = figures;
    let Figures { look_p50_us, look_p99_us, memory_mib, .. } = figures;
    writeln!(
        out,
        "{nodes} {decided_per_second:.0} {written_per_second:.0} {look_p50_us:.1} \
         {look_p99_us:.1} {memory_mib:.1}"
    )?;
    Ok(true)
}

/// Prints the history of a cluster as so many events, each a line: when, and the
/// event as the log has it. First 100,000 instances are placed and become ready;
/// after that their health checks fail and pass.
pub(crate) fn history(events: usize, out: &mut impl Write) -> io::Result<bool> {
    let mut written = 0;
    let told = tell(events, &mut |round: &Round| {
        for entry in round.entries.iter().take(events - written) {
            write!(out, "{} ", entry.at.0)?;
            out.write_all(&entry.payload)?;
            out.write_all(b"\n")?;
            written += 1;
        }
        Ok(written)
    });
    match told {
        Some(result) => result.map(|written| written == events),
        None => Ok(false),
    }
}

/// What takes in each round, and says how many events there are by then.
type Take<'t> = dyn FnMut(&Round) -> io::Result<usize> + 't;

fn tell(events: usize, take: &mut Take<'_>) -> Option<io::Result<usize>> {
    let mut cluster = Cluster { state: State::default(), entropy: 0, clock_ms: HISTORY_BEGAN_MS };
    let mut failed = None;
    let mut written = 0;
    let mut carry_out = |cluster: &mut Cluster, command: &Command| {
        let round = cluster.round(command);
        match take(&round) {
            Ok(total) => written = total,
            Err(error) => failed = Some(error),
        }
        cluster.state = round.state;
        // The output is gone: there is no sense in going on.
        failed.is_none().then_some(())
    };
    let done = cluster.live(HISTORY_NODES, events, &mut carry_out);
    match (failed, done) {
        (Some(error), _) => Some(Err(error)),
        (None, done) => done.map(|()| Ok(written)),
    }
}

fn measure(nodes: usize) -> Option<Figures> {
    let mut cluster = Cluster::new(nodes)?;
    cluster.deploy_all(&mut Cluster::carry_out)?;
    let empty = State::clone(&cluster.state);
    let resident_before = resident_bytes();
    let began = cpu_time();
    cluster.fill(&mut Cluster::carry_out)?;
    let decided = cpu_time() - began;
    let grown = resident_bytes().saturating_sub(resident_before);
    let (look_p50_us, look_p99_us) = cluster.looks()?;
    let mut again = Cluster { state: empty, ..cluster };
    let began = cpu_time();
    again.fill(&mut Cluster::write)?;
    let written = cpu_time() - began;
    let count = INSTANCES as f64;
    Some(Figures {
        decided_per_second: count / decided.as_secs_f64(),
        written_per_second: count / written.as_secs_f64(),
        look_p50_us,
        look_p99_us,
        memory_mib: grown as f64 / f64::from(1 << 20) / (count / 10_000.0),
    })
}

/// How a command is carried out.
type CarryOut<'c> = dyn FnMut(&mut Cluster, &Command) -> Option<()> + 'c;

impl Cluster {
    fn new(nodes: usize) -> Option<Cluster> {
        let mut cluster = Cluster { state: State::default(), entropy: 0, clock_ms: 1_000_000 };
        cluster.connect(nodes, &mut Cluster::carry_out)?;
        Some(cluster)
    }

    /// Everything is placed, then goes on until the log has so many events.
    fn live(&mut self, nodes: usize, events: usize, carry_out: &mut CarryOut<'_>) -> Option<()> {
        self.connect(nodes, carry_out)?;
        self.deploy_all(carry_out)?;
        self.fill(carry_out)?;
        let ids: Vec<Id<Instance>> = self.state.instances.iter().map(|it| it.id).collect();
        let phases = [Phase::Ready, Phase::Unready].into_iter().cycle();
        for phase in phases {
            for id in &ids {
                if self.state.position >= events as u64 {
                    return Some(());
                }
                self.clock_ms += 1;
                carry_out(self, &observation(*id, phase))?;
            }
        }
        Some(())
    }

    fn connect(&mut self, nodes: usize, carry_out: &mut CarryOut<'_>) -> Option<()> {
        carry_out(self, &Command::CreateInstallation)?;
        for number in 0..nodes {
            let facts = node::Facts {
                version: "0".to_owned(),
                cpus: 16,
                memory_bytes: NODE_BYTES,
                isolation: "container".to_owned(),
                isolation_reason: "pretended".to_owned(),
                isolation_advice: None,
                volumes: None,
            };
            let name: Name = format!("node-{number}").parse().ok()?;
            let connect = node::Connect { name, facts, replica: None };
            carry_out(self, &Command::ConnectNode(connect))?;
        }
        Some(())
    }

    /// Everything is asked for, nothing is placed yet.
    fn deploy_all(&mut self, carry_out: &mut CarryOut<'_>) -> Option<()> {
        let org: Name = "acme".parse().ok()?;
        carry_out(self, &Command::CreateOrg(org::Create { name: org.clone() }))?;
        let id = self.state.orgs.named(None, &org)?.id;
        // One org has it all, far more than an org may have where nobody said so.
        let limits = quota::Dimension::ALL.iter().map(|it| (*it, Some(UNLIMITED))).collect();
        carry_out(self, &Command::SetQuota(quota::Set { org: Some(id), limits }))?;
        let project: Name = "main".parse().ok()?;
        let create = project::Create { org: id, name: project.clone() };
        carry_out(self, &Command::CreateProject(create))?;
        for number in 0..INSTANCES / PER_ENV {
            let mut manifest = parse_with_defaults(8080);
            for process in manifest.processes.values_mut() {
                process.scaling.min = u32::try_from(PER_ENV).ok()?;
            }
            let digest = format!("sha256:{number:064x}");
            let request = deploy::Request {
                org: org.clone(),
                project: project.clone(),
                app: format!("app-{number}").parse().ok()?,
                env: "production".parse().ok()?,
                by_digest: true,
                image: Image { repository: "registry/app".to_owned(), tag: None, digest },
                manifest,
                source: "bench".to_owned(),
            };
            carry_out(self, &Command::Deploy(Box::new(request)))?;
        }
        Some(())
    }

    /// Follows what the reconcilers propose until every instance is placed.
    fn fill(&mut self, carry_out: &mut CarryOut<'_>) -> Option<()> {
        let mut watch = Watch::default();
        while self.state.instances.len() < INSTANCES {
            let before = self.state.position;
            for command in watch.look(&self.state, Timestamp(self.clock_ms)) {
                carry_out(self, &command)?;
            }
            if self.state.position == before {
                return None;
            }
        }
        Some(())
    }

    fn carry_out(&mut self, command: &Command) -> Option<()> {
        let entropy = &mut self.entropy;
        let mut fresh = || {
            *entropy += 1 << 32;
            *entropy
        };
        let mut context = Context { now: Timestamp(self.clock_ms), entropy: &mut fresh };
        self.state = decide(&self.state, command, &mut context).ok()?.state;
        Some(())
    }

    /// The same as the engine does it: with receipts, and everything encoded.
    fn write(&mut self, command: &Command) -> Option<()> {
        self.state = self.round(command).state;
        Some(())
    }

    fn round(&mut self, command: &Command) -> Round {
        let origin = Origin {
            actor: Actor::System("reconciler".to_owned()),
            request_id: "req_bench".to_owned(),
            source: None,
            idempotency: None,
            precondition: None,
        };
        let entropy = &mut self.entropy;
        let mut fresh = || {
            *entropy += 1 << 32;
            *entropy
        };
        let mut context = Context { now: Timestamp(self.clock_ms), entropy: &mut fresh };
        let mut round = Round::on(&self.state, PAYLOAD_MAX_BYTES);
        round.take(command, &origin, None, &mut context);
        round
    }

    /// Changes one instance after the other and times the look that follows.
    fn looks(&mut self) -> Option<(f64, f64)> {
        let ids: Vec<Id<Instance>> = self.state.instances.iter().map(|it| it.id).collect();
        for id in &ids {
            self.observe(*id, Phase::Ready)?;
        }
        let mut watch = Watch::default();
        self.settle(&mut watch)?;
        let mut took_us = Vec::with_capacity(CHANGES);
        for turn in 0..CHANGES {
            // A stride that shares no factor with the count goes everywhere.
            let id = *ids.get(turn * 7919 % ids.len())?;
            self.observe(id, Phase::Unready)?;
            let began = cpu_time();
            let proposed = watch.look(&self.state, Timestamp(self.clock_ms)).len();
            took_us.push((cpu_time() - began).as_secs_f64() * 1e6);
            if proposed > 0 {
                return None;
            }
        }
        took_us.sort_by(f64::total_cmp);
        let at = |share: usize| took_us.get(took_us.len() * share / 100).copied();
        Some((at(50)?, at(99)?))
    }

    fn settle(&mut self, watch: &mut Watch) -> Option<()> {
        loop {
            let commands = watch.look(&self.state, Timestamp(self.clock_ms));
            if commands.is_empty() {
                return Some(());
            }
            for command in commands {
                self.carry_out(&command)?;
            }
        }
    }

    fn observe(&mut self, instance: Id<Instance>, phase: Phase) -> Option<()> {
        self.carry_out(&observation(instance, phase))
    }
}

fn observation(instance: Id<Instance>, phase: Phase) -> Command {
    let observed = Observed { phase, ..Observed::default() };
    Command::ObserveInstance(Observe { instance, observed, link: None })
}

/// How long this thread has worked: all of this is one thread's work, and what
/// others do on the machine is not of it.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// What of this process is in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    pages * 4096
}
