//! The fake world: one thread, one agenda, one source of chance.
//!
//! Start at [`World::run`]. Each fake has one file and is an `impl World`
//! there, because everything in it may plan, draw and check.

mod body;
mod disks;
mod edge;
mod faults;
mod feed;
mod happening;
mod network;
mod node;
mod people;
mod replica;
mod settle;
mod store;
mod tenants;
mod trace;
mod tunnels;
mod wishes;

use std::collections::BTreeMap;

use helix_model::{Id, Snapshot};

use crate::agenda::{Agenda, Moment};
use crate::checks::Checks;
use crate::random::Random;
use crate::{Failure, Options, Summary};

pub(crate) use body::Body;
pub(crate) use disks::digest;
pub(crate) use edge::Edge;
use happening::Happening;
pub(crate) use node::Node;
pub(crate) use replica::key;
pub(crate) use store::{Batch, Store};

use faults::Fault;
use network::Network;
use people::Wish;
use replica::Replica;
use trace::Trace;

/// Happenings without an end in sight; a run takes some ten thousand.
const STEPS_MAX: u64 = 2_000_000;

/// Steps between two looks at what lasts.
const LOOK_EVERY: u64 = 32;

pub(crate) struct World {
    seed: u64,
    options: Options,
    random: Random,
    agenda: Agenda<Happening>,
    store: Store,
    network: Network,
    replicas: Vec<Replica>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// The store of backups, and what is in each.
    backups: BTreeMap<Id<Snapshot>, u64>,
    wishes: Vec<Wish>,
    /// How many orgs people want.
    orgs: usize,
    faults: Vec<Fault>,
    fault_pause_ms: u64,
    skew_max_ms: u64,
    healed_at: Option<Moment>,
    /// Looks in a row at which all was as it should be.
    settled_looks: u32,
    /// Numbers for timers and work, never used twice.
    tokens: u64,
    checks: Checks,
    trace: Trace,
    summary: Summary,
}

impl World {
    /// Draws a cluster and what it will have to bear.
    pub(crate) fn new(seed: u64, options: Options) -> World {
        let mut random = Random::new(seed);
        let skew_max_ms = random.pick(&[0, 50, 2000, 30_000]).unwrap_or(0);
        let count = random.between(1, 3);
        let replicas = (0..count).map(|_| Replica::new(0)).collect();
        let names = ["north", "south", "east"];
        let count = random.between(1, names.len() as u64);
        let mut nodes = Vec::new();
        for name in names.into_iter().zip(0..count).filter_map(|(name, _)| name.parse().ok()) {
            let memory_bytes = random.between(6, 40) * (128 << 20);
            nodes.push(Node::new(name, memory_bytes));
        }
        let count = random.between(1, 3);
        let names = ["front", "side", "back"].into_iter().zip(0..count);
        let names = names.filter_map(|(name, _)| name.parse().ok());
        let edges = names.map(Edge::new).collect();
        let share = random.pick(&[0, 25, 50, 90, 100]).unwrap_or(0);
        let faults = Fault::ALL.into_iter().filter(|_| random.percent(share)).collect();
        let network = Network::new(random.percent(50));
        World {
            seed,
            options,
            orgs: 1 + random.index(2),
            fault_pause_ms: random.pick(&[800, 3000, 10_000]).unwrap_or(3000),
            random,
            agenda: Agenda::new(),
            store: Store::default(),
            network,
            replicas,
            nodes,
            edges,
            backups: BTreeMap::new(),
            wishes: Vec::new(),
            faults,
            skew_max_ms,
            healed_at: None,
            settled_looks: 0,
            tokens: 0,
            checks: Checks::new(skew_max_ms),
            trace: Trace::new(options.trace_steps),
            summary: Summary::default(),
        }
    }

    /// Plays it to the end: trouble first, then all heals and must settle.
    pub(crate) fn run(mut self) -> Result<Summary, Box<Failure>> {
        self.begin();
        while self.checks.failed.is_none() {
            let Some(happening) = self.agenda.next() else { break };
            self.summary.steps += 1;
            if self.summary.steps > STEPS_MAX {
                self.checks.failed = Some(("settled", "it never comes to rest".to_owned()));
            }
            self.happen(happening);
            if self.summary.steps.is_multiple_of(LOOK_EVERY) {
                self.checks.looked(&self.nodes, &self.backups, self.agenda.now);
            }
            if self.settled_looks > settle::LOOKS {
                self.finish();
                break;
            }
        }
        match self.checks.failed.take() {
            None => Ok(self.summary),
            Some((checker, message)) => Err(Box::new(Failure {
                seed: self.seed,
                checker,
                message,
                at_ms: self.agenda.now,
                steps: self.trace.told(),
            })),
        }
    }

    fn begin(&mut self) {
        for replica in 0..self.replicas.len() {
            let delay = self.random.between(0, 200);
            self.agenda.plan(delay, Happening::StartReplica(replica));
        }
        for node in 0..self.nodes.len() {
            let delay = self.random.between(0, 2000);
            self.agenda.plan(delay, Happening::StartAgent { node });
        }
        for edge in 0..self.edges.len() {
            let delay = self.random.between(0, 1000);
            self.agenda.plan(delay, Happening::StartEdge { edge });
        }
        self.agenda.plan(500, Happening::Wish);
        self.agenda.plan(1000, Happening::Traffic);
        self.agenda.plan(3000, Happening::Fault);
        let trouble_ms = self.random.between(5000, 60_000);
        self.agenda.plan(trouble_ms, Happening::Heal);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StartReplica(replica) => self.start_replica(replica),
            Happening::Arrives { session, from, to, message } => {
                self.arrives(session, from, to, message);
            }
            Happening::Broken { session, end } => self.session_broken(session, end),
            Happening::Dial { machine, life } => self.dial(machine, life),
            Happening::Body { node, instance, token } => self.body_changes(node, instance, token),
            Happening::Take { node, life, snapshot, tries } => {
                self.take(node, life, snapshot, tries);
            }
            Happening::StartAgent { node } => self.start_agent(node),
            Happening::StartEdge { edge } => self.start_edge(edge),
            Happening::EdgeTick { edge, life } => self.edge_tick(edge, life),
            Happening::EdgeSaved { edge, life, plan } => self.edge_saved(edge, life, *plan),
            Happening::Traffic => self.traffic(),
            Happening::WorkEnds { edge, instance, token } => {
                self.work_ends(edge, instance, token);
            }
            Happening::Wish => self.wish(),
            Happening::Ask { wish } => self.ask(wish),
            Happening::Fault => self.fault(),
            Happening::Over(trouble) => self.over(trouble),
            Happening::Heal => self.heal(),
            Happening::Look => self.look(),
            other => self.replica_happens(other),
        }
    }

    fn replica_happens(&mut self, happening: Happening) {
        match happening {
            Happening::Round { replica, life } if self.lives(replica, life) => self.round(replica),
            // What is on the wire arrives although its sender has died.
            Happening::AppendArrives { replica, life }
                if self.replicas[replica].life <= life + 1 =>
            {
                self.append_arrives(replica);
            }
            Happening::AppendDone { replica, life, outcome } if self.lives(replica, life) => {
                self.append_done(replica, outcome);
            }
            Happening::Follow { replica, life } if self.lives(replica, life) => {
                self.follow(replica);
            }
            Happening::Wake { replica, life } if self.lives(replica, life) => self.awake(replica),
            Happening::Tick { replica, life } if self.lives(replica, life) => self.tick(replica),
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.checks.at_end(&self.store);
        for replica in &self.replicas {
            self.checks.replay.compare(&mut self.checks.failed, "a replica", &replica.state);
        }
        self.summary.entries = self.store.head();
        self.summary.took_ms = self.agenda.now;
        self.summary.digest = self.checks.digest();
        self.summary.deploys =
            self.replicas.first().map_or(0, |replica| replica.state.deploys.len() as u64);
    }
}
