//! What nodes and edges report, turned into commands; and plans sent out when
//! they change.

use std::sync::Arc;

use helix_control::plan;
use helix_model::plan::{EdgePlan, EdgeReport, NodePlan};
use helix_model::{Actor, Command, Id, Instance, endpoint, instance};

use crate::engine::{Engine, Origin};
use crate::entropy;
use crate::links::{EdgeLink, NodeLink};
use crate::server::Attached;

/// Submits what a machine reports. A refusal is logged: the machine cannot do
/// anything about it.
pub(crate) async fn report(engine: &Engine, machine: &str, command: Command) {
    let origin = Origin {
        actor: Actor::Machine(machine.to_owned()),
        request_id: entropy::request_id(),
        source: None,
        idempotency: None,
        precondition: None,
    };
    if let Err(problem) = engine.submit(command, origin).await {
        tracing::warn!(%problem, machine, "a report was refused");
    }
}

/// The commands in an edge's report.
pub(crate) fn edge_commands(report: EdgeReport) -> impl Iterator<Item = Command> {
    let drained = report.drained.into_iter();
    let drained = drained.map(|instance| Command::MarkDrained(instance::MarkDrained { instance }));
    let endpoints = report.endpoints.into_iter().map(|it| {
        let status = endpoint::Status { reachable: it.reachable, problem: it.problem };
        Command::ObserveEndpoint(endpoint::Observe { endpoint: it.id, status })
    });
    drained.chain(endpoints)
}

/// The command in a node's report on one instance.
pub(crate) fn instance_command(
    id: Id<Instance>,
    observed: instance::Observed,
    link: u64,
) -> Command {
    Command::ObserveInstance(instance::Observe { instance: id, observed, link: Some(link) })
}

/// Sends a node its plan now and whenever it changes; ends when the node has
/// connected anew.
pub(crate) async fn feed_node(engine: Engine, to: Attached, link: Arc<dyn NodeLink>) {
    let mut position = engine.position();
    let mut sent: Option<NodePlan> = None;
    loop {
        position.mark_unchanged();
        let state = engine.state();
        if state.nodes.get(to.node).is_none_or(|node| node.status.link != to.link) {
            return;
        }
        let plan = plan::node_plan(&state, to.node);
        drop(state);
        if sent.as_ref().is_none_or(|sent| !asks_the_same(sent, &plan)) {
            link.apply(plan.clone());
            sent = Some(plan);
        }
        if position.changed().await.is_err() {
            return;
        }
    }
}

/// Sends an edge its plan now and whenever it changes; does not end by itself.
pub(crate) async fn feed_edge(engine: Engine, link: Arc<dyn EdgeLink>) {
    let mut position = engine.position();
    let mut sent: Option<EdgePlan> = None;
    loop {
        position.mark_unchanged();
        let plan = plan::edge_plan(&engine.state());
        let changed = sent
            .as_ref()
            .is_none_or(|sent| sent.endpoints != plan.endpoints || sent.draining != plan.draining);
        if changed {
            link.apply(plan.clone());
            sent = Some(plan);
        }
        if position.changed().await.is_err() {
            return;
        }
    }
}

/// Whether two plans ask the same of a node.
fn asks_the_same(one: &NodePlan, other: &NodePlan) -> bool {
    one.instances == other.instances && one.stopping == other.stopping
}
