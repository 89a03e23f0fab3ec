//! A fake node: its agent, its disk, and the plan it follows.
//!
//! It follows `crates/node`: the latest plan wins and is kept on disk before it
//! is acted on, what is absent from it stops, a restarted agent adopts what
//! still runs and reports nothing about it before it has probed it. One
//! instance on it is a [`body`](super::body).

use std::collections::{BTreeMap, BTreeSet};

use helix_model::instance::{Observed, Phase};
use helix_model::plan::NodePlan;
use helix_model::{Id, Instance, Name, node};

use super::World;
use super::body::{Body, Doing};
use super::disks::Disks;
use super::happening::{Happening, Message, Place, Session};
use crate::Canary;

pub(crate) struct Node {
    pub name: Name,
    pub memory_bytes: u64,
    pub up: bool,
    /// Counts the agent's starts and ends.
    pub life: u32,
    pub link: Option<Session>,
    /// The plan on disk, which is the one in force too.
    pub plan: Option<NodePlan>,
    pub bodies: BTreeMap<Id<Instance>, Body>,
    /// What it tells of its instances; in memory only.
    pub board: BTreeMap<Id<Instance>, Observed>,
    pub disks: Disks,
    pub disk_full: bool,
    /// When its machine has power again.
    pub away_until: u64,
    pub registry_down: bool,
}

impl Node {
    pub(crate) fn new(name: Name, memory_bytes: u64) -> Node {
        Node {
            name,
            memory_bytes,
            up: false,
            life: 0,
            link: None,
            plan: None,
            bodies: BTreeMap::new(),
            board: BTreeMap::new(),
            disks: Disks::default(),
            disk_full: false,
            away_until: 0,
            registry_down: false,
        }
    }

    fn facts(&self, boasts: bool) -> node::Facts {
        node::Facts {
            version: "0".to_owned(),
            cpus: 2,
            memory_bytes: self.memory_bytes * if boasts { 4 } else { 1 },
            isolation: "container".to_owned(),
            isolation_reason: "root".to_owned(),
            isolation_advice: None,
            volumes: Some(node::VolumeFacts {
                driver: "loop".to_owned(),
                size_enforced: true,
                reason: "root".to_owned(),
                capacity_bytes: 64 << 30,
            }),
        }
    }

    pub(crate) fn plans(&self, instance: Id<Instance>) -> bool {
        self.plan.iter().flat_map(|plan| &plan.instances).any(|it| it.id == instance)
    }
}

impl World {
    pub(crate) fn start_agent(&mut self, index: usize) {
        let now = self.agenda.now;
        let node = &mut self.nodes[index];
        if node.up || now < node.away_until {
            return;
        }
        node.up = true;
        node.life += 1;
        node.link = None;
        node.board.clear();
        node.disks.forget(self.options.canary);
        self.adopt(index);
        self.reconcile_node(index);
        self.dial_soon(Place::Node(index));
    }

    /// The agent dies; programs run on.
    pub(crate) fn crash_agent(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if !node.up {
            return;
        }
        node.up = false;
        node.life += 1;
        if let Some(session) = node.link.take() {
            self.break_session(session);
        }
        for body in self.nodes[index].bodies.values_mut() {
            // A program that was being stopped or started goes on to its end
            // without anyone there to see it.
            if !matches!(body.doing, Doing::Up) {
                body.doing = Doing::Dead;
            }
        }
    }

    /// The whole machine dies, and its programs with it.
    pub(crate) fn crash_machine(&mut self, index: usize) {
        self.crash_agent(index);
        let ids: Vec<_> = self.nodes[index].bodies.keys().copied().collect();
        for id in ids {
            if let Some(body) = self.nodes[index].bodies.get_mut(&id) {
                body.doing = Doing::Dead;
            }
            self.work_dies(id);
        }
    }

    /// Takes up again what an earlier life of the agent left.
    fn adopt(&mut self, index: usize) {
        let Some(plan) = self.nodes[index].plan.clone() else { return };
        let ids: Vec<_> = self.nodes[index].bodies.keys().copied().collect();
        for id in ids {
            let planned = plan.instances.iter().find(|it| it.id == id);
            let Some(body) = self.nodes[index].bodies.get_mut(&id) else { continue };
            let runs = matches!(body.doing, Doing::Up);
            match (planned, runs) {
                (Some(planned), true) => self.adopt_body(index, planned),
                (None, true) => self.unwanted(index, id),
                (_, false) => {
                    // Started afresh when it is planned, cleared away when not.
                    self.nodes[index].bodies.remove(&id);
                }
            }
        }
    }

    pub(crate) fn node_takes_plan(&mut self, index: usize, plan: NodePlan) {
        let node = &mut self.nodes[index];
        if !node.up {
            return;
        }
        let stale = node.plan.as_ref().is_some_and(|known| {
            known.node == plan.node && (plan.version < known.version || *known == plan)
        });
        if stale {
            return;
        }
        // What it has from when it was another node is left alone, and nobody's.
        if node.plan.as_ref().is_some_and(|known| known.node != plan.node) {
            node.disks = Disks::default();
        }
        let first = node.plan.is_none();
        let version = plan.version;
        node.plan = Some(plan);
        self.tell(|| format!("node {index} follows plan {version}"));
        if first {
            self.adopt(index);
        }
        self.reconcile_node(index);
    }

    pub(crate) fn reconcile_node(&mut self, index: usize) {
        let Some(plan) = self.nodes[index].plan.clone() else { return };
        self.tend_disks(index, &plan);
        let planned: BTreeSet<_> = plan.instances.iter().map(|it| it.id).collect();
        let bodies = &self.nodes[index].bodies;
        let has_strangers =
            bodies.keys().any(|id| !planned.contains(id) && !plan.stopping.contains(id));
        for instance in plan.instances {
            if !has_strangers || self.nodes[index].bodies.contains_key(&instance.id) {
                self.wanted(index, instance);
            }
        }
        for id in plan.stopping {
            self.say_gone(index, id);
        }
        if self.options.canary == Some(Canary::IgnoreAbsence) {
            return;
        }
        let gone: Vec<_> =
            self.nodes[index].bodies.keys().filter(|id| !planned.contains(id)).copied().collect();
        for id in gone {
            self.unwanted(index, id);
        }
    }

    /// The plan asks whether an instance is gone.
    fn say_gone(&mut self, index: usize, id: Id<Instance>) {
        let node = &self.nodes[index];
        let is_told = node.board.get(&id).is_some_and(|seen| seen.phase == Phase::Stopped);
        if !node.bodies.contains_key(&id) && !is_told {
            self.post(index, id, Observed { phase: Phase::Stopped, ..Observed::default() });
        }
    }

    pub(crate) fn node_says_hello(&mut self, index: usize) {
        let boasts = self.options.canary == Some(Canary::BoastMemory);
        let node = &self.nodes[index];
        let present = node.board.keys().chain(node.bodies.keys()).copied().collect();
        let hello = Message::Hello {
            facts: Box::new(node.facts(boasts)),
            present,
            current: node.board.iter().map(|(id, seen)| (*id, seen.clone())).collect(),
        };
        self.say(Place::Node(index), hello);
        self.tell_disks_again(index);
    }

    /// Notes what is seen of an instance and passes it on when it is news.
    pub(crate) fn post(&mut self, index: usize, id: Id<Instance>, observed: Observed) {
        let board = &mut self.nodes[index].board;
        if board.get(&id) == Some(&observed) {
            return;
        }
        board.insert(id, observed.clone());
        self.tell(|| {
            let reason = observed.reason.map_or("", helix_model::Reason::code);
            format!("node {index} sees {id} {:?} {reason}", observed.phase)
        });
        self.say(Place::Node(index), Message::Report(id, observed));
    }

    pub(crate) fn body_soon(&mut self, index: usize, id: Id<Instance>, delay_ms: u64) {
        self.tokens += 1;
        let token = self.tokens;
        if let Some(body) = self.nodes[index].bodies.get_mut(&id) {
            body.token = token;
            self.agenda.plan(delay_ms, Happening::Body { node: index, instance: id, token });
        }
    }
}
