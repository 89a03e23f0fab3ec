//! A fake edge: the latest plan wins and is kept on disk a moment later, work
//! is counted per instance, and what is idle of the draining ones is reported.
//! Traffic is drawn here too.

use std::collections::{BTreeMap, BTreeSet};

use helix_model::plan::{EdgePlan, EdgeReport, EndpointPlan, EndpointReport};
use helix_model::{Id, Instance, Name, Timestamp, Tunnel};

use super::body::Doing;
use super::happening::{Happening, Message, Place, Session};
use super::{World, tunnels};

/// Open pieces of work per instance.
pub(crate) type Work = BTreeMap<Id<Instance>, BTreeSet<u64>>;

/// Which tunnels have an agent attached, and since when.
pub(crate) type Agents = BTreeMap<Id<Tunnel>, Timestamp>;

/// How often it looks at its own standing.
const TICK_MS: u64 = 1000;

pub(crate) struct Edge {
    pub name: Name,
    pub up: bool,
    pub life: u32,
    pub link: Option<Session>,
    pub plan: EdgePlan,
    disk: Option<EdgePlan>,
    pub work: Work,
    pub agents: Agents,
    reported: Option<EdgeReport>,
}

impl Edge {
    pub(crate) fn new(name: Name) -> Edge {
        Edge {
            name,
            up: false,
            life: 0,
            link: None,
            plan: EdgePlan::default(),
            disk: None,
            work: Work::new(),
            agents: Agents::new(),
            reported: None,
        }
    }

    fn is_open(&self, instance: Id<Instance>) -> bool {
        self.work.get(&instance).is_some_and(|open| !open.is_empty())
    }
}

impl World {
    pub(crate) fn start_edge(&mut self, index: usize) {
        let edge = &mut self.edges[index];
        if edge.up {
            return;
        }
        edge.up = true;
        edge.life += 1;
        edge.plan = edge.disk.clone().unwrap_or_default();
        let life = edge.life;
        self.agenda.plan(TICK_MS, Happening::EdgeTick { edge: index, life });
        self.dial_soon(Place::Edge(index));
    }

    /// It dies, and every connection through it.
    pub(crate) fn crash_edge(&mut self, index: usize) {
        let edge = &mut self.edges[index];
        if !edge.up {
            return;
        }
        edge.up = false;
        edge.life += 1;
        edge.work.clear();
        edge.agents.clear();
        if let Some(session) = edge.link.take() {
            self.break_session(session);
        }
    }

    pub(crate) fn edge_says_hello(&mut self, index: usize) {
        self.edges[index].reported = None;
        self.say(Place::Edge(index), Message::EdgeHello);
        self.edge_reports(index);
    }

    pub(crate) fn edge_takes_plan(&mut self, index: usize, plan: EdgePlan) {
        let edge = &mut self.edges[index];
        if !edge.up || plan.version < edge.plan.version {
            return;
        }
        edge.plan = plan.clone();
        let (life, version) = (edge.life, plan.version);
        self.tell(|| format!("edge {index} follows plan {version}"));
        let delay = self.random.between(1, 5);
        let saved = Happening::EdgeSaved { edge: index, life, plan: Box::new(plan) };
        self.agenda.plan(delay, saved);
        self.edge_reports(index);
    }

    pub(crate) fn edge_saved(&mut self, index: usize, life: u32, plan: EdgePlan) {
        if self.edges[index].life == life {
            self.edges[index].disk = Some(plan);
        }
    }

    pub(crate) fn edge_tick(&mut self, index: usize, life: u32) {
        if self.edges[index].life == life {
            self.agenda.plan(TICK_MS, Happening::EdgeTick { edge: index, life });
            if self.healed_at.is_none() {
                self.agents_move(index);
            }
            self.edge_reports(index);
        }
    }

    fn edge_reports(&mut self, index: usize) {
        let edge = &mut self.edges[index];
        let idle = |id: &Id<Instance>| !edge.is_open(*id);
        let drained = edge.plan.draining.iter().copied().filter(idle).collect();
        let reachable = |plan: &EndpointPlan| EndpointReport {
            id: plan.id,
            reachable: vec![plan.id.to_string()],
            problem: None,
            reach: None,
        };
        let report = EdgeReport {
            version: edge.plan.version,
            drained,
            routed: Some(edge.plan.routed()),
            endpoints: edge.plan.endpoints.iter().map(reachable).collect(),
            answering: edge.plan.answering(),
            tunnels: tunnels::reports(&edge.plan, &edge.agents),
        };
        if edge.link.is_none() || edge.reported.as_ref() == Some(&report) {
            return;
        }
        edge.reported = Some(report.clone());
        self.say(Place::Edge(index), Message::EdgeReport(report));
    }

    /// Someone connects to a random endpoint at a random edge.
    pub(crate) fn traffic(&mut self) {
        if self.healed_at.is_none() {
            let delay = self.random.between(20, 400);
            self.agenda.plan(delay, Happening::Traffic);
        }
        let index = self.random.index(self.edges.len());
        let edge = &self.edges[index];
        if !edge.up || edge.plan.endpoints.is_empty() {
            return;
        }
        let endpoint = edge.plan.endpoints[self.random.index(edge.plan.endpoints.len())].clone();
        let draining = &edge.plan.draining;
        let open: Vec<_> =
            endpoint.backends.iter().filter(|it| !draining.contains(&it.instance)).collect();
        if open.is_empty() {
            return;
        }
        let backend = open[self.random.index(open.len())].clone();
        let address = backend.address.ip();
        let found = self.nodes.iter().enumerate().find_map(|(index, node)| {
            let here = |body: &&super::body::Body| {
                body.plan.address == address && matches!(body.doing, Doing::Up)
            };
            node.bodies.values().find(here).map(|body| (index, body))
        });
        let Some((node, body)) = found else { return };
        if self.network.is_blocked(Place::Edge(index), Place::Node(node)) {
            return;
        }
        self.checks.routes.opened(&mut self.checks.failed, &endpoint, &body.plan);
        let lasts = if self.random.percent(30) { 60_000 } else { self.random.between(1, 3000) };
        self.tokens += 1;
        let token = self.tokens;
        let instance = backend.instance;
        self.edges[index].work.entry(instance).or_default().insert(token);
        let lasts = self.random.between(1, lasts);
        self.agenda.plan(lasts, Happening::WorkEnds { edge: index, instance, token });
    }

    pub(crate) fn work_ends(&mut self, index: usize, instance: Id<Instance>, token: u64) {
        let Some(open) = self.edges[index].work.get_mut(&instance) else { return };
        open.remove(&token);
        if open.is_empty() {
            self.edges[index].work.remove(&instance);
            self.edge_reports(index);
        }
    }

    /// An instance is no more, and every connection to it.
    pub(crate) fn work_dies(&mut self, instance: Id<Instance>) {
        for index in 0..self.edges.len() {
            if self.edges[index].work.remove(&instance).is_some() && self.edges[index].up {
                self.edge_reports(index);
            }
        }
    }
}
