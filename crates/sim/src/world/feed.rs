//! What a replica does with a new state: plans go out to the machines linked to
//! it, and its reconcilers propose the next steps.
//!
//! It follows `server/src/observe.rs` and `server/src/reconciler.rs`: a plan is
//! sent when it differs from the last one sent over that link, proposals are
//! made against one state and carried out on a later one.

use helix_control::plan::{edge_plan, node_plan};
use helix_control::reconcile::{reconcile, steps};
use helix_control::report::edge_commands;
use helix_model::edge::Linked;
use helix_model::instance::{Allocate, Desired, MarkDrained, Observe, Observed, Phase, SetDesired};
use helix_model::plan::{EdgePlan, EdgeReport, NodePlan, TunnelPlan};
use helix_model::{Command, Deploy, Id, Instance, Resource, State, edge, node, snapshot, volume};
use ipnet::IpNet;

use super::World;
use super::happening::{Happening, Message, Place, Session};
use super::replica::Origin;
use crate::Canary;

/// One link, as its replica sees it.
pub(crate) struct Feed {
    pub machine: Place,
    /// Known once the node has introduced itself.
    pub node: Option<Id<helix_model::Node>>,
    /// The link's number, as known to the log.
    pub link: u64,
    /// The same of an edge.
    pub edge: Option<Linked>,
    /// What the machine said since its introduction, until that is through.
    pub waiting: Vec<Message>,
    node_sent: Option<NodePlan>,
    edge_sent: Option<EdgePlan>,
}

impl Feed {
    pub(crate) fn new(machine: Place) -> Feed {
        Feed {
            machine,
            node: None,
            link: 0,
            edge: None,
            waiting: Vec::new(),
            node_sent: None,
            edge_sent: None,
        }
    }
}

impl World {
    /// Has a replica look at its state soon.
    pub(crate) fn wake(&mut self, index: usize) {
        let delay = self.random.between(0, 3);
        let replica = &mut self.replicas[index];
        if !replica.wake_due {
            replica.wake_due = true;
            self.agenda.plan(delay, Happening::Wake { replica: index, life: replica.life });
        }
    }

    pub(crate) fn awake(&mut self, index: usize) {
        self.replicas[index].wake_due = false;
        self.end_superseded(index);
        let sessions: Vec<_> = self.replicas[index].links.keys().copied().collect();
        for session in sessions {
            self.feed(index, session);
        }
        let replica = &self.replicas[index];
        let may = replica.proposals_open == 0 && replica.lease_until > self.agenda.now;
        if may {
            self.propose(index);
        }
    }

    /// A link that the log has a younger one of is ended: should its machine still
    /// be there, it connects anew.
    fn end_superseded(&mut self, index: usize) {
        let ignores = self.options.canary == Some(Canary::UnfencedLink);
        let replica = &self.replicas[index];
        let superseded = |(session, feed): (&Session, &Feed)| {
            let node = feed.node.and_then(|node| replica.state.nodes.get(node));
            let edge = feed.edge.and_then(|it| replica.state.edges.get(it.edge).zip(Some(it.link)));
            let is_old = node.is_some_and(|node| node.status.link != feed.link)
                || edge.is_some_and(|(edge, link)| edge.status.link != link);
            (is_old && !ignores).then_some(*session)
        };
        let superseded: Vec<_> = replica.links.iter().filter_map(superseded).collect();
        for session in superseded {
            self.tell(|| format!("replica {index} ends session {session}: there is a younger one"));
            self.replicas[index].links.remove(&session);
            self.break_session(session);
        }
    }

    fn feed(&mut self, index: usize, session: Session) {
        let replica = &mut self.replicas[index];
        let Some(feed) = replica.links.get_mut(&session) else { return };
        let machine = feed.machine;
        let message = match (machine, feed.node, feed.edge) {
            (Place::Node(_), Some(node), _) => {
                let plan = node_plan(&replica.state, node);
                let same = |sent: &NodePlan| {
                    sent.instances == plan.instances
                        && sent.stopping == plan.stopping
                        && sent.volumes == plan.volumes
                        && sent.removing == plan.removing
                        && sent.snapshots == plan.snapshots
                        && sent.removing_snapshots == plan.removing_snapshots
                };
                if feed.node_sent.as_ref().is_some_and(same) {
                    return;
                }
                feed.node_sent = Some(plan.clone());
                Message::NodePlan(Box::new(plan))
            }
            (Place::Edge(_), _, Some(edge)) => {
                let mut plan = edge_plan(&replica.state, edge.edge);
                if self.options.canary == Some(Canary::ForeignBackend) {
                    name_strangers(&mut plan);
                }
                if self.options.canary == Some(Canary::DisabledTunnel) {
                    serve_disabled(&mut plan, &replica.state);
                }
                self.checks.routes.planned(&mut self.checks.failed, &plan, &replica.state);
                self.checks.tunnels.planned(&mut self.checks.failed, &plan, &replica.state);
                if feed.edge_sent.as_ref().is_some_and(|sent| sent.asks_the_same(&plan)) {
                    return;
                }
                feed.edge_sent = Some(plan.clone());
                Message::EdgePlan(plan)
            }
            _ => return,
        };
        self.send(Some(session), Place::Replica(index), machine, message);
    }

    fn propose(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let now = replica.clock(self.agenda.now);
        let mut commands = replica.watch.look(&replica.state, now);
        if commands != reconcile(&replica.state, now) {
            let message = || "the watch proposes other than a look at everything".to_owned();
            self.checks.failed.get_or_insert_with(|| ("reconcile", message()));
        }
        if let Some(canary) = self.options.canary {
            self.mislead(canary, index, &mut commands);
        }
        let replica = &mut self.replicas[index];
        replica.proposals_open = commands.len();
        replica.proposed_at = replica.state.position;
        for command in commands {
            self.submit(index, command, Origin::Reconciler);
        }
    }

    /// Breaks the rule of a canary that lives in the reconcilers.
    fn mislead(&mut self, canary: Canary, index: usize, commands: &mut Vec<Command>) {
        let state = self.replicas[index].state.clone();
        let now = self.replicas[index].clock(self.agenda.now);
        let instances = &state.instances;
        let leads_to = |command: &Command, is_meant: fn(&Command) -> bool| {
            let Command::Reconcile(env) = command else { return false };
            let env = state.envs.get(*env);
            env.is_some_and(|env| steps(&state, env, now).iter().any(is_meant))
        };
        let step = |id, desired| Command::SetInstanceDesired(SetDesired { instance: id, desired });
        match canary {
            Canary::NeverFinish => {
                let ends = |step: &Command| matches!(step, Command::FinishDeploy(_));
                commands.retain(|it| !leads_to(it, ends));
            }
            Canary::NeverAllocate if self.healed_at.is_some() => {
                let calls = |step: &Command| matches!(step, Command::AllocateInstance(_));
                commands.retain(|it| !leads_to(it, calls));
            }
            Canary::StopDraining => {
                let draining = instances.iter().filter(|it| it.spec.desired == Desired::Draining);
                commands.extend(draining.map(|it| step(it.id, Desired::Stopped)));
            }
            Canary::CommandIgnored => {
                let waiting = |it: &&Resource<Deploy>| {
                    !it.status.phase.is_final() && it.awaits_release_command(&state)
                };
                commands.extend(state.deploys.iter().filter(waiting).filter_map(|deploy| {
                    Some(Command::AllocateInstance(Allocate {
                        env: deploy.spec.env,
                        release: deploy.spec.release,
                        deploy: Some(deploy.id),
                        process: "web".parse().ok()?,
                        node: None,
                    }))
                }));
            }
            Canary::RetireReady if self.random.percent(2) => {
                let ready = |it: &&Resource<Instance>| {
                    it.spec.desired == Desired::Running && it.status.observed.phase == Phase::Ready
                };
                let first = instances.iter().find(ready);
                commands.extend(first.map(|it| step(it.id, Desired::Draining)));
            }
            _ => {}
        }
    }

    /// A machine's message reaches its replica.
    pub(crate) fn replica_hears(&mut self, index: usize, session: Session, message: Message) {
        match message {
            Message::Hello { facts, present, current } => {
                let Some(Place::Node(node)) =
                    self.replicas[index].links.get(&session).map(|feed| feed.machine)
                else {
                    return;
                };
                let name = self.nodes[node].name.clone();
                let facts = *facts;
                let command = Command::ConnectNode(node::Connect { name, facts, replica: None });
                let origin = Origin::Hello(session, current, present.into_iter().collect());
                self.submit(index, command, origin);
            }
            Message::Report(..)
            | Message::VolumeReport(..)
            | Message::SnapshotReport(..)
            | Message::EdgeReport(_) => match self.replicas[index].links.get_mut(&session) {
                Some(feed) if feed.node.is_none() && feed.edge.is_none() => {
                    feed.waiting.push(message);
                }
                _ => self.take_word(index, session, message),
            },
            Message::KeepBackup(id, content) => self.keep_backup(index, session, id, content),
            Message::EdgeHello => {
                let Some(Place::Edge(edge)) =
                    self.replicas[index].links.get(&session).map(|feed| feed.machine)
                else {
                    return;
                };
                let name = self.edges[edge].name.clone();
                let facts = edge::Facts { addresses: prefixes(edge), ..edge::Facts::default() };
                let command = Command::ConnectEdge(edge::Connect { name, facts, replica: None });
                self.submit(index, command, Origin::EdgeHello(session));
            }
            _ => {}
        }
    }

    /// What an edge's introduction leads to.
    pub(crate) fn edge_attached(&mut self, index: usize, session: Session, linked: Option<Linked>) {
        let Some(feed) = self.replicas[index].links.get_mut(&session) else { return };
        feed.edge = linked;
        for message in std::mem::take(&mut feed.waiting) {
            self.take_word(index, session, message);
        }
        self.wake(index);
    }

    /// Records what an edge says.
    fn take_edge_report(&mut self, index: usize, from: Linked, report: EdgeReport) {
        let state = &self.replicas[index].state;
        let mut commands = edge_commands(state, from, report);
        if self.options.canary == Some(Canary::OneEdgeSpeaks) {
            let others = state.edges.iter().filter(|it| it.id != from.edge);
            let others = others.map(|it| Linked { edge: it.id, link: it.status.link });
            let for_others = |from: Linked| {
                let drained = commands.iter().filter_map(move |command| match command {
                    Command::MarkDrained(it) => {
                        Some(Command::MarkDrained(MarkDrained { from, ..it.clone() }))
                    }
                    _ => None,
                });
                drained.collect::<Vec<_>>()
            };
            let more: Vec<_> = others.flat_map(for_others).collect();
            commands.extend(more);
        }
        for command in commands {
            self.submit(index, command, Origin::Machine);
        }
    }

    /// Records what a machine says of anything on it.
    pub(crate) fn take_word(&mut self, index: usize, session: Session, message: Message) {
        let Some(feed) = self.replicas[index].links.get(&session) else { return };
        let (link, edge) = (feed.link, feed.edge);
        let command = match message {
            Message::EdgeReport(report) => {
                if let Some(from) = edge {
                    self.take_edge_report(index, from, report);
                }
                return;
            }
            Message::VolumeReport(volume, observed) => {
                Command::ObserveVolume(volume::Observe { volume, observed, link })
            }
            Message::SnapshotReport(snapshot, observed) => {
                Command::ObserveSnapshot(snapshot::Observe { snapshot, observed, link })
            }
            Message::Report(id, observed) => return self.take_report(index, session, id, observed),
            _ => return,
        };
        self.submit(index, command, Origin::Machine);
    }

    pub(crate) fn take_report(
        &mut self,
        index: usize,
        session: Session,
        instance: Id<Instance>,
        observed: Observed,
    ) {
        let Some(link) = self.replicas[index].links.get(&session).map(|feed| feed.link) else {
            return;
        };
        let link = (self.options.canary != Some(Canary::UnfencedLink)).then_some(link);
        let command = Command::ObserveInstance(Observe { instance, observed, link });
        self.submit(index, command, Origin::Machine);
    }

    /// A replica learns that a link is gone.
    pub(crate) fn replica_loses(&mut self, index: usize, session: Session) {
        let Some(feed) = self.replicas[index].links.remove(&session) else { return };
        if let Some(Linked { edge, link }) = feed.edge {
            let disconnect = edge::Disconnect { edge, link };
            self.submit(index, Command::DisconnectEdge(disconnect), Origin::System);
        }
        if let Some(node) = feed.node {
            let mut link = feed.link;
            if self.options.canary == Some(Canary::UnfencedLink) {
                let known = self.replicas[index].state.nodes.get(node);
                link = known.map_or(0, |node| node.status.link);
            }
            let disconnect = node::Disconnect { node, link };
            self.submit(index, Command::DisconnectNode(disconnect), Origin::System);
        }
    }
}

/// Adds to an endpoint the backends of another one.
fn name_strangers(plan: &mut EdgePlan) {
    let stranger = plan.endpoints.last().and_then(|last| last.backends.first().cloned());
    if let (Some(stranger), Some(first)) = (stranger, plan.endpoints.first_mut()) {
        first.backends.push(stranger);
    }
}

/// Adds the tunnels that are out of use.
fn serve_disabled(plan: &mut EdgePlan, state: &State) {
    let disabled = state.tunnels.iter().filter(|it| it.spec.disabled.is_some());
    plan.tunnels.extend(disabled.map(|it| TunnelPlan {
        id: it.id,
        name: it.name.clone(),
        exposure: it.spec.exposure.clone(),
        generation: it.spec.generation,
        certificate: None,
    }));
}

/// What is routed to an edge: every second one has a few IPv4 addresses, and the third
/// IPv6 for envs, too.
fn prefixes(edge: usize) -> Vec<IpNet> {
    let ipv4 = edge.is_multiple_of(2).then(|| format!("198.51.100.{}/30", 4 * (edge % 64)));
    let ipv6 = (edge % 3 == 2).then(|| format!("2001:db8:{edge:x}::/64"));
    ipv4.into_iter().chain(ipv6).filter_map(|text| text.parse().ok()).collect()
}
