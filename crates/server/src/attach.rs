//! Nodes and edges being attached: what follows for the state when one comes,
//! reports and goes. Which way it is linked is not known here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use helix_model::audit::{Attempt, Decision};
use helix_model::edge::Linked;
use helix_model::plan::EdgeReport;
use helix_model::{
    Actor, AnyId, Code, Command, Id, Instance, Name, Node, Org, Problem, Snapshot, Volume, edge,
    instance, node, snapshot, volume,
};

use crate::engine::Origin;
use crate::links::{EdgeLink, NodeLink};
use crate::server::Shared;
use crate::{clock, entropy, observe};

/// How long the database may be away when a machine goes: nothing else would tell
/// that it has, so long as this server lives.
const DETACH_PATIENCE: Duration = Duration::from_secs(120);

/// A node as it is connected now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub node: Id<Node>,
    pub name: Name,
    /// The number of its link. Whatever comes over it says so, and counts for
    /// nothing once the node has connected anew.
    pub link: u64,
}

impl Attached {
    /// What the node tries, for the audit trail: allowed, until something else is found.
    pub(crate) fn attempt(&self, operation: &str, org: Option<Id<Org>>, target: String) -> Attempt {
        Attempt {
            at: clock::now(),
            actor: Some(Actor::Machine(self.name.to_string())),
            token: None,
            source: None,
            request_id: entropy::request_id(),
            operation: operation.to_owned(),
            org,
            target,
            detail: String::new(),
            decision: Decision::Allow,
            reason: "allowed".to_owned(),
            count: 1,
        }
    }
}

/// An edge as it is connected now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedEdge {
    pub name: Name,
    /// Which edge it is, and the number of its link.
    pub linked: Linked,
}

/// A node that is linked here, and the way to it.
pub(crate) struct LinkedNode {
    pub node: Id<Node>,
    /// The link's number.
    pub number: u64,
    pub link: Arc<dyn NodeLink>,
}

/// An edge that is linked here, and the way to it.
pub(crate) struct LinkedEdge {
    pub linked: Linked,
    pub way: Arc<dyn EdgeLink>,
}

impl Shared {
    /// Connects a node and enrols it on first sight. `present` are the instances
    /// it has; others that should be stopped are known to be gone by their
    /// absence. Feeding it is the caller's business.
    pub(crate) async fn attach_node(
        &self,
        name: Name,
        facts: node::Facts,
        present: BTreeSet<Id<Instance>>,
        link: Arc<dyn NodeLink>,
    ) -> Result<Attached, Problem> {
        let attached = self.connect_node(name, facts).await?;
        let state = self.engine.state();
        // What the state remembers of instances the node does not have is from
        // before; traffic must not follow it.
        let absent = state.instances.iter();
        let absent = absent.filter(|it| it.spec.node == attached.node && !present.contains(&it.id));
        let absent: Vec<_> = absent.map(|it| (it.id, it.spec.desired)).collect();
        drop(state);
        let absent = absent.into_iter().map(|(id, desired)| {
            let phase = match desired {
                instance::Desired::Stopped => instance::Phase::Stopped,
                _ => instance::Phase::Pending,
            };
            let observed = instance::Observed { phase, ..Default::default() };
            self.instance_reported(&attached, id, observed)
        });
        join_all(absent).await;
        if let Ok(mut nodes) = self.nodes.write() {
            nodes.retain(|known| known.node != attached.node);
            nodes.push(LinkedNode { node: attached.node, number: attached.link, link });
        }
        Ok(attached)
    }

    /// Enrols a node on first sight and takes the number of its link.
    async fn connect_node(&self, name: Name, facts: node::Facts) -> Result<Attached, Problem> {
        let connect = node::Connect { name: name.clone(), facts, replica: self.own_url() };
        let (id, link) = self.connect(&name, Command::ConnectNode(connect)).await?;
        match id.typed() {
            Some(node) => Ok(Attached { node, name, link }),
            None => Err(untold(&name)),
        }
    }

    /// Connects an edge and enrols it on first sight. Feeding it is the caller's business.
    pub(crate) async fn attach_edge(
        &self,
        name: Name,
        facts: edge::Facts,
        way: Arc<dyn EdgeLink>,
    ) -> Result<AttachedEdge, Problem> {
        let connect = edge::Connect { name: name.clone(), facts, replica: self.own_url() };
        let (id, link) = self.connect(&name, Command::ConnectEdge(connect)).await?;
        match id.typed() {
            Some(edge) => {
                let linked = Linked { edge, link };
                if let Ok(mut edges) = self.edges.write() {
                    edges.retain(|known| known.linked.edge != edge);
                    edges.push(LinkedEdge { linked, way });
                }
                Ok(AttachedEdge { name, linked })
            }
            None => Err(untold(&name)),
        }
    }

    /// Has a machine connected: which it is, and the number of its link.
    async fn connect(&self, name: &Name, command: Command) -> Result<(AnyId, u64), Problem> {
        let origin = Origin {
            actor: Actor::Machine(name.to_string()),
            request_id: entropy::request_id(),
            source: None,
            idempotency: None,
            precondition: None,
        };
        let receipt = self.engine.submit(command, origin).await?;
        // The receipt and not the state: another link may be younger already.
        let link = receipt.current["link"].as_u64();
        let subject = receipt.subject.map(|subject| subject.id);
        subject.zip(link).ok_or_else(|| untold(name))
    }

    /// What a machine that is linked here is found by from other replicas.
    fn own_url(&self) -> Option<String> {
        self.replicas.as_ref().map(|replicas| replicas.url.clone())
    }

    /// Takes in what a node sees of an instance.
    pub(crate) async fn instance_reported(
        &self,
        from: &Attached,
        id: Id<Instance>,
        observed: instance::Observed,
    ) {
        let command = observe::instance_command(id, observed, from.link);
        observe::report(&self.engine, from.name.as_str(), command).await;
    }

    /// Takes in what a node sees of a volume.
    pub(crate) async fn volume_reported(
        &self,
        from: &Attached,
        id: Id<Volume>,
        observed: volume::Observed,
    ) {
        let command = observe::volume_command(id, observed, from.link);
        observe::report(&self.engine, from.name.as_str(), command).await;
    }

    /// Takes in how a node's disk is.
    pub(crate) async fn disk_reported(&self, from: &Attached, disk: node::Disk) {
        let command = observe::disk_command(from.node, disk, from.link);
        observe::report(&self.engine, from.name.as_str(), command).await;
    }

    /// Takes in what a node sees of a snapshot.
    pub(crate) async fn snapshot_reported(
        &self,
        from: &Attached,
        id: Id<Snapshot>,
        observed: snapshot::Observed,
    ) {
        let command = observe::snapshot_command(id, observed, from.link);
        observe::report(&self.engine, from.name.as_str(), command).await;
    }

    /// Takes in what an edge reports.
    pub(crate) async fn edge_reported(&self, from: &AttachedEdge, report: EdgeReport) {
        let state = self.engine.state();
        for command in helix_control::report::edge_commands(&state, from.linked, report) {
            observe::report(&self.engine, from.name.as_str(), command).await;
        }
    }

    /// An edge's link is gone, by accident or on purpose.
    pub(crate) async fn detach_edge(&self, gone: &AttachedEdge) {
        let Linked { edge, link } = gone.linked;
        if let Ok(mut edges) = self.edges.write() {
            edges.retain(|known| known.linked != gone.linked);
        }
        self.note_gone(&gone.name, Command::DisconnectEdge(edge::Disconnect { edge, link })).await;
    }

    /// A node's link is gone, by accident or on purpose.
    pub(crate) async fn detach_node(&self, gone: &Attached) {
        if let Ok(mut nodes) = self.nodes.write() {
            nodes.retain(|known| known.node != gone.node || known.number != gone.link);
        }
        let disconnect = node::Disconnect { node: gone.node, link: gone.link };
        self.note_gone(&gone.name, Command::DisconnectNode(disconnect)).await;
    }

    async fn note_gone(&self, name: &Name, command: Command) {
        let noting = observe::report(&self.engine, name.as_str(), command);
        if tokio::time::timeout(DETACH_PATIENCE, noting).await.is_err() {
            tracing::warn!(machine = %name, "nobody could be told that a machine is gone");
        }
    }

    /// The way to a node that is linked here.
    pub(crate) fn linked(&self, node: Id<Node>) -> Option<Arc<dyn NodeLink>> {
        let nodes = self.nodes.read().ok()?;
        nodes.iter().find(|known| known.node == node).map(|known| Arc::clone(&known.link))
    }

    /// The replica that a node is linked to, when it is not this one.
    pub(crate) fn elsewhere(&self, node: Id<Node>) -> Option<String> {
        let own = &self.replicas.as_ref()?.url;
        let state = self.engine.state();
        let status = &state.nodes.get(node)?.status;
        status.replica.clone().filter(|url| status.connected && url != own)
    }
}

/// The receipt of a machine that connects lacks what is always there.
fn untold(name: &Name) -> Problem {
    Problem::new(Code::Internal, format!("the receipt of `{name}` does not tell its link"))
}
