//! The fake edge: the latest plan wins and is kept on disk a moment later, work
//! is counted per instance, and what is idle of the draining ones is reported.
//! Traffic is drawn here too.

use std::collections::{BTreeMap, BTreeSet};

use helix_model::plan::{EdgePlan, EdgeReport, EndpointPlan, EndpointReport};
use helix_model::{Id, Instance};

use super::World;
use super::body::Doing;
use super::happening::{Happening, Message, Place, Session};

/// Open pieces of work per instance.
pub(crate) type Work = BTreeMap<Id<Instance>, BTreeSet<u64>>;

/// How often it looks at its own standing.
const TICK_MS: u64 = 1000;

#[derive(Default)]
pub(crate) struct Edge {
    pub up: bool,
    pub life: u32,
    pub link: Option<Session>,
    pub plan: EdgePlan,
    disk: Option<EdgePlan>,
    pub work: Work,
    reported: Option<EdgeReport>,
}

impl World {
    pub(crate) fn start_edge(&mut self) {
        if self.edge.up {
            return;
        }
        let life = self.edge.life + 1;
        let disk = self.edge.disk.take();
        let plan = disk.clone().unwrap_or_default();
        self.edge = Edge { up: true, life, plan, disk, ..Edge::default() };
        self.agenda.plan(TICK_MS, Happening::EdgeTick { life });
        self.dial_soon(Place::Edge);
    }

    /// It dies, and every connection through it.
    pub(crate) fn crash_edge(&mut self) {
        if !self.edge.up {
            return;
        }
        self.edge.up = false;
        self.edge.life += 1;
        self.edge.work.clear();
        if let Some(session) = self.edge.link.take() {
            self.break_session(session);
        }
    }

    pub(crate) fn edge_says_hello(&mut self) {
        self.edge.reported = None;
        self.say(Place::Edge, Message::EdgeHello);
        self.edge_reports();
    }

    pub(crate) fn edge_takes_plan(&mut self, plan: EdgePlan) {
        if !self.edge.up || plan.version < self.edge.plan.version {
            return;
        }
        let version = plan.version;
        self.tell(|| format!("edge follows plan {version}"));
        self.edge.plan = plan.clone();
        let life = self.edge.life;
        let delay = self.random.between(1, 5);
        self.agenda.plan(delay, Happening::EdgeSaved { life, plan: Box::new(plan) });
        self.edge_reports();
    }

    pub(crate) fn edge_saved(&mut self, life: u32, plan: EdgePlan) {
        if self.edge.life == life {
            self.edge.disk = Some(plan);
        }
    }

    pub(crate) fn edge_tick(&mut self) {
        let life = self.edge.life;
        self.agenda.plan(TICK_MS, Happening::EdgeTick { life });
        self.edge_reports();
    }

    fn edge_reports(&mut self) {
        let idle = |id: &&Id<Instance>| self.edge.work.get(id).is_none_or(BTreeSet::is_empty);
        let drained = self.edge.plan.draining.iter().filter(idle).copied().collect();
        let plan = &self.edge.plan;
        let reachable = |plan: &EndpointPlan| EndpointReport {
            id: plan.id,
            reachable: vec![plan.id.to_string()],
            problem: None,
        };
        let report = EdgeReport {
            version: plan.version,
            drained,
            routed: Some(plan.routed()),
            endpoints: plan.endpoints.iter().map(reachable).collect(),
        };
        if self.edge.link.is_none() || self.edge.reported.as_ref() == Some(&report) {
            return;
        }
        self.edge.reported = Some(report.clone());
        self.say(Place::Edge, Message::EdgeReport(report));
    }

    /// Someone connects to a random endpoint.
    pub(crate) fn traffic(&mut self) {
        if self.healed_at.is_none() {
            let delay = self.random.between(20, 400);
            self.agenda.plan(delay, Happening::Traffic);
        }
        if !self.edge.up || self.edge.plan.endpoints.is_empty() {
            return;
        }
        let chosen = self.random.index(self.edge.plan.endpoints.len());
        let endpoint = self.edge.plan.endpoints[chosen].clone();
        let draining = &self.edge.plan.draining;
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
        let Some((index, body)) = found else { return };
        if self.network.is_blocked(Place::Edge, Place::Node(index)) {
            return;
        }
        self.checks.routes.opened(&mut self.checks.failed, &endpoint, &body.plan);
        let lasts = if self.random.percent(30) { 60_000 } else { self.random.between(1, 3000) };
        self.tokens += 1;
        let token = self.tokens;
        let instance = backend.instance;
        self.edge.work.entry(instance).or_default().insert(token);
        let lasts = self.random.between(1, lasts);
        self.agenda.plan(lasts, Happening::WorkEnds { instance, token });
    }

    pub(crate) fn work_ends(&mut self, instance: Id<Instance>, token: u64) {
        let Some(open) = self.edge.work.get_mut(&instance) else { return };
        open.remove(&token);
        if open.is_empty() {
            self.edge.work.remove(&instance);
            self.edge_reports();
        }
    }

    /// An instance is no more, and every connection to it.
    pub(crate) fn work_dies(&mut self, instance: Id<Instance>) {
        if self.edge.work.remove(&instance).is_some() && self.edge.up {
            self.edge_reports();
        }
    }
}
