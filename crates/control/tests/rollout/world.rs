//! The world of the rollout tests: real decisions, a clock and a node of ours.

use std::time::Duration;

use helix_control::decide::{Context, decide};
use helix_control::plan;
use helix_control::reconcile::{Watch, reconcile};
use helix_model::edge::Linked;
use helix_model::instance::{self, Desired, Instance, Observed, Phase};
use helix_model::manifest::parse_with_defaults;
use helix_model::node::Availability;
use helix_model::plan::EdgePlan;
use helix_model::quota::{self, Dimension};
use helix_model::reference::Scope;
use helix_model::release::Image;
use helix_model::{
    AnyId, Command, Deploy, Id, Kind, Manifest, Name, Node, Problem, Reason, Resource, State,
    Timestamp, deploy, destroy, edge, env, node, org, project, reference, tally,
};

/// More passes than any change needs; beyond it the reconcilers go in circles.
const PASSES_MAX: usize = 100;

pub(crate) struct World {
    pub state: State,
    watch: Watch,
    now: Timestamp,
    entropy: u128,
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl World {
    /// An org, a project, no node.
    pub(crate) fn empty() -> World {
        let mut world = World {
            state: State::default(),
            watch: Watch::default(),
            now: Timestamp(1_000_000),
            entropy: 0,
        };
        world.command(Command::CreateInstallation).unwrap();
        world.command(Command::CreateOrg(org::Create { name: name("acme") })).unwrap();
        let org = world.state.orgs.named(None, &name("acme")).unwrap().id;
        let create = project::Create { org, name: name("main") };
        world.command(Command::CreateProject(create)).unwrap();
        world
    }

    pub(crate) fn with_node() -> World {
        World::with_node_of(16 << 30)
    }

    pub(crate) fn with_node_of(memory_bytes: u64) -> World {
        let mut world = World::empty();
        world.connect_with(memory_bytes);
        world
    }

    /// One ready instance of a release.
    pub(crate) fn serving(release: &str) -> World {
        let mut world = World::with_node();
        world.deploy(release);
        world.report_all(Phase::Ready);
        world
    }

    /// The node connects anew.
    pub(crate) fn connect(&mut self) {
        self.connect_with(16 << 30);
    }

    fn connect_with(&mut self, memory_bytes: u64) {
        self.connect_as("one", memory_bytes);
    }

    pub(crate) fn connect_as(&mut self, node: &str, memory_bytes: u64) {
        let facts = node::Facts {
            version: "0".to_owned(),
            cpus: 2,
            memory_bytes,
            isolation: "container".to_owned(),
            isolation_reason: "root".to_owned(),
            isolation_advice: None,
            volumes: Some(node::VolumeFacts {
                driver: "loop".to_owned(),
                size_enforced: true,
                reason: "root".to_owned(),
                capacity_bytes: 100 << 30,
            }),
        };
        let connect = node::Connect { name: name(node), facts, replica: None };
        self.command(Command::ConnectNode(connect)).unwrap();
    }

    pub(crate) fn second_project(&mut self) {
        let org = self.state.orgs.named(None, &name("acme")).unwrap().id;
        let create = project::Create { org, name: name("other") };
        self.command(Command::CreateProject(create)).unwrap();
    }

    pub(crate) fn command(&mut self, command: Command) -> Result<Option<AnyId>, Problem> {
        self.now = self.now.plus(Duration::from_millis(1));
        let entropy = &mut self.entropy;
        let mut fresh = || {
            *entropy += 1;
            *entropy
        };
        let mut context = Context { now: self.now, entropy: &mut fresh };
        let decision = decide(&self.state, &command, &mut context)?;
        self.state = decision.state;
        Ok(decision.subject)
    }

    /// Runs the reconcilers until they are content.
    pub(crate) fn settle(&mut self) {
        for _ in 0..PASSES_MAX {
            let before = self.state.position;
            let proposals = reconcile(&self.state, self.now);
            assert_eq!(self.watch.look(&self.state, self.now), proposals);
            for command in proposals {
                // Two proposals of one pass may compete; the loser is proposed
                // again if it still makes sense.
                let _ = self.command(command);
            }
            if self.state.position == before {
                return;
            }
        }
        panic!("the reconcilers do not come to rest");
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.settle();
    }

    pub(crate) fn deploy(&mut self, label: &str) -> Id<Deploy> {
        self.deploy_in("main", label)
    }

    /// Deploys; the label must be the release number that comes next, which
    /// keeps the tests readable.
    pub(crate) fn deploy_in(&mut self, project: &str, label: &str) -> Id<Deploy> {
        self.try_deploy(project, "production", label).unwrap()
    }

    pub(crate) fn try_deploy(
        &mut self,
        project: &str,
        env: &str,
        label: &str,
    ) -> Result<Id<Deploy>, Problem> {
        self.try_deploy_as(project, env, label, parse_with_defaults(8080))
    }

    pub(crate) fn try_deploy_as(
        &mut self,
        project: &str,
        env: &str,
        label: &str,
        manifest: Manifest,
    ) -> Result<Id<Deploy>, Problem> {
        let request = deploy::Request {
            org: name("acme"),
            project: name(project),
            app: name("shop"),
            env: name(env),
            by_digest: true,
            image: Image {
                repository: "registry/shop".to_owned(),
                tag: None,
                digest: format!("sha256:{label}"),
            },
            manifest,
            source: label.to_owned(),
        };
        let subject = self.command(Command::Deploy(Box::new(request)))?.unwrap();
        self.settle();
        let deploy: Id<Deploy> = subject.typed().unwrap();
        let release = self.state.deploys.get(deploy).unwrap().spec.release;
        assert_eq!(self.state.releases.get(release).unwrap().name.as_str(), label);
        Ok(deploy)
    }

    /// The id a path leads to.
    pub(crate) fn id(&self, kind: Kind, path: &str) -> AnyId {
        reference::resolve(&self.state, kind, path, &Scope::default()).unwrap()
    }

    pub(crate) fn destroy(&mut self, kind: Kind, path: &str) -> Result<(), Problem> {
        self.destroy_with(kind, path, false)
    }

    pub(crate) fn destroy_with(
        &mut self,
        kind: Kind,
        path: &str,
        cascade: bool,
    ) -> Result<(), Problem> {
        let target = self.id(kind, path);
        self.command(Command::Destroy(destroy::Destroy { target, cascade }))?;
        self.settle();
        Ok(())
    }

    /// Limits the org `acme`.
    pub(crate) fn limit(&mut self, dimension: Dimension, limit: u64) {
        let org = self.id(Kind::Org, "acme").typed();
        let limits = [(dimension, Some(limit))].into();
        self.command(Command::SetQuota(quota::Set { org, limits })).unwrap();
        self.settle();
    }

    pub(crate) fn tally(&self) -> tally::Tally {
        self.state.tally(self.id(Kind::Org, "acme").typed().unwrap())
    }

    pub(crate) fn node(&self, node: &str) -> &Resource<Node> {
        self.state.nodes.named(None, &name(node)).unwrap()
    }

    pub(crate) fn set_availability(&mut self, node: &str, availability: Availability) {
        let node = self.node(node).id;
        let set = node::SetAvailability { node, availability };
        self.command(Command::SetNodeAvailability(set)).unwrap();
        self.settle();
    }

    /// Who runs on a node, by name.
    pub(crate) fn on(&self, node: &str) -> Vec<String> {
        let node = self.node(node).id;
        self.live().filter(|it| it.spec.node == node).map(|it| it.name.to_string()).collect()
    }

    /// The first node's link breaks.
    pub(crate) fn disconnect(&mut self) {
        let node = self.state.nodes.iter().next().unwrap();
        let disconnect = node::Disconnect { node: node.id, link: node.status.link };
        self.command(Command::DisconnectNode(disconnect)).unwrap();
    }

    /// Every instance finishes its work and stops.
    pub(crate) fn let_go(&mut self) {
        let going = |it: &&Resource<Instance>| it.spec.desired != Desired::Running;
        let ids: Vec<_> = self.state.instances.iter().filter(going).map(|it| it.id).collect();
        for id in ids {
            let from = self.edge("front");
            self.mark_drained(from, id);
            self.observe(id, seen(Phase::Stopped));
        }
    }

    pub(crate) fn rollback(&mut self) -> Result<(), Problem> {
        let env = self.state.envs.iter().next().unwrap().id;
        self.command(Command::Rollback(deploy::Rollback { env, to: None }))?;
        self.settle();
        Ok(())
    }

    pub(crate) fn scale(&mut self, count: u32) {
        self.try_scale("web", count).unwrap();
    }

    pub(crate) fn try_scale(&mut self, process: &str, count: u32) -> Result<(), Problem> {
        let env = self.state.envs.iter().next().unwrap().id;
        let processes = [(name(process), count)].into();
        self.command(Command::Scale(env::Scale { env, processes }))?;
        self.settle();
        Ok(())
    }

    pub(crate) fn observe(&mut self, id: Id<Instance>, observed: Observed) {
        self.observe_over(None, id, observed);
    }

    fn observe_over(&mut self, link: Option<u64>, instance: Id<Instance>, observed: Observed) {
        let command = Command::ObserveInstance(instance::Observe { instance, observed, link });
        self.command(command).unwrap();
        self.settle();
    }

    pub(crate) fn report_over(&mut self, link: u64, instance: &str, phase: Phase) {
        let id = self.instance(instance).unwrap().id;
        self.observe_over(Some(link), id, seen(phase));
    }

    pub(crate) fn report(&mut self, instance: &str, phase: Phase) {
        let id = self.instance(instance).unwrap().id;
        self.observe(id, seen(phase));
    }

    pub(crate) fn fail(&mut self, instance: &str, reason: Reason, restarts: u32) {
        let id = self.instance(instance).unwrap().id;
        let observed = Observed { reason: Some(reason), restarts, ..seen(Phase::Failed) };
        self.observe(id, observed);
    }

    /// Reports a phase for every running instance, until no new ones come.
    pub(crate) fn report_all(&mut self, phase: Phase) {
        while let Some(id) = self.unlike(phase) {
            self.observe(id, seen(phase));
        }
    }

    /// Reports a phase for the oldest running instance not in it yet.
    pub(crate) fn report_next(&mut self, phase: Phase) -> bool {
        let next = self.unlike(phase);
        if let Some(id) = next {
            self.observe(id, seen(phase));
        }
        next.is_some()
    }

    pub(crate) fn fail_next(&mut self, reason: Reason) {
        let id = self.unlike(Phase::Ready).unwrap();
        self.observe(id, Observed { reason: Some(reason), ..seen(Phase::Failed) });
    }

    /// The only edge has nothing open to it.
    pub(crate) fn drained(&mut self, instance: &str) {
        self.drained_at("front", instance);
    }

    pub(crate) fn drained_at(&mut self, edge: &str, instance: &str) {
        let from = self.edge(edge);
        let id = self.instance(instance).unwrap().id;
        self.mark_drained(from, id);
    }

    /// An edge that links and says what is routed to it.
    pub(crate) fn edge_with(&mut self, edge: &str, prefixes: &[&str]) -> Result<(), Problem> {
        let addresses = prefixes.iter().map(|it| it.parse().unwrap()).collect();
        let facts = edge::Facts { addresses, ..edge::Facts::default() };
        let connect = edge::Connect { name: name(edge), facts, replica: None };
        self.command(Command::ConnectEdge(connect)).map(drop)
    }

    /// The plan of an edge without addresses of its own.
    pub(crate) fn edge_plan(&self) -> EdgePlan {
        plan::edge_plan(&self.state, Id::new(Timestamp(1), 0))
    }

    /// An edge by name, linked the first time.
    pub(crate) fn edge(&mut self, name: &str) -> Linked {
        let name: Name = name.parse().unwrap();
        let known = self.state.edges.named(None, &name);
        if known.is_none_or(|edge| !edge.status.connected) {
            let facts = edge::Facts::default();
            let connect = edge::Connect { name: name.clone(), facts, replica: None };
            self.command(Command::ConnectEdge(connect)).unwrap();
        }
        let edge = self.state.edges.named(None, &name).unwrap();
        Linked { edge: edge.id, link: edge.status.link }
    }

    /// An edge's link ends.
    pub(crate) fn edge_leaves(&mut self, name: &str) {
        let Linked { edge, link } = self.edge(name);
        self.command(Command::DisconnectEdge(edge::Disconnect { edge, link })).unwrap();
        self.settle();
    }

    pub(crate) fn mark_drained(&mut self, from: Linked, id: Id<Instance>) {
        let mark = instance::MarkDrained { instance: id, from };
        self.command(Command::MarkDrained(mark)).unwrap();
        self.settle();
    }

    fn unlike(&self, phase: Phase) -> Option<Id<Instance>> {
        self.live().find(|it| it.status.observed.phase != phase).map(|it| it.id)
    }

    fn live(&self) -> impl Iterator<Item = &Resource<Instance>> {
        self.state.instances.iter().filter(|it| it.spec.desired == Desired::Running)
    }

    pub(crate) fn instance(&self, name: &str) -> Option<&Resource<Instance>> {
        self.state.instances.iter().find(|it| it.name.as_str() == name)
    }

    pub(crate) fn desired(&self, instance: &str) -> Option<Desired> {
        self.instance(instance).map(|it| it.spec.desired)
    }

    fn release_of(&self, instance: &Resource<Instance>) -> String {
        self.state.releases.get(instance.spec.release).unwrap().name.to_string()
    }

    pub(crate) fn running(&self) -> Vec<String> {
        let describe = |it: &Resource<Instance>| {
            let phase = serde_json::to_value(it.status.observed.phase).unwrap();
            format!("{} {} {}", it.name, self.release_of(it), phase.as_str().unwrap())
        };
        self.live().map(describe).collect()
    }

    pub(crate) fn counts(&self) -> String {
        let of = |release| self.live().filter(|it| self.release_of(it) == release).count();
        format!("{} v1 + {} v2", of("v1"), of("v2"))
    }

    pub(crate) fn ready(&self) -> usize {
        self.live().filter(|it| it.status.observed.phase == Phase::Ready).count()
    }

    pub(crate) fn hosts(&self) -> Vec<String> {
        self.state.hosts.keys().cloned().collect()
    }

    pub(crate) fn phase(&self, deploy: Id<Deploy>) -> deploy::Phase {
        self.state.deploys.get(deploy).unwrap().status.phase
    }

    pub(crate) fn reason(&self, deploy: Id<Deploy>) -> Option<Reason> {
        self.state.deploys.get(deploy).unwrap().status.reason
    }

    pub(crate) fn serving_release(&self) -> String {
        let env = self.state.envs.iter().next().unwrap();
        let release = env.status.release.unwrap();
        self.state.releases.get(release).unwrap().name.to_string()
    }
}

pub(crate) fn seen(phase: Phase) -> Observed {
    let answers = (name("http"), ([127, 0, 0, 1], 8080).into());
    let ports = (phase == Phase::Ready).then_some(answers).into_iter().collect();
    Observed { phase, ports, ..Observed::default() }
}
