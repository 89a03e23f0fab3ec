//! What nodes and edges report, turned into commands; and plans sent out when
//! they change.

use std::sync::Arc;
use std::time::Duration;

use helix_control::plan;
use helix_model::plan::{EdgePlan, NodePlan};
use helix_model::{
    Actor, Code, Command, Id, Instance, Node, Problem, Receipt, Snapshot, Volume, instance, node,
    snapshot, volume,
};
use tokio::sync::watch;

use crate::attach::{Attached, AttachedEdge};
use crate::engine::{Engine, Origin};
use crate::entropy;
use crate::links::{EdgeLink, NodeLink};

/// How long a report waits before it is submitted again, at first and at most:
/// nothing repeats it, since a machine only tells what has changed.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// Submits what a machine reports, until it is recorded or refused. A refusal is
/// logged: the machine cannot do anything about it.
pub(crate) async fn report(engine: &Engine, machine: &str, command: Command) {
    let mut pause = AGAIN;
    while let Err(problem) = submit(engine, machine, command.clone()).await {
        if problem.code != Code::Unavailable {
            return tracing::warn!(%problem, machine, "a report was refused");
        }
        tracing::debug!(%problem, machine, "a report could not be recorded yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

/// The same for what is found out again, or does not matter much.
pub(crate) async fn report_once(engine: &Engine, machine: &str, command: Command) {
    if let Err(problem) = submit(engine, machine, command).await {
        tracing::warn!(%problem, machine, "a report was refused");
    }
}

async fn submit(engine: &Engine, machine: &str, command: Command) -> Result<Receipt, Problem> {
    let origin = Origin {
        actor: Actor::Machine(machine.to_owned()),
        request_id: entropy::request_id(),
        source: None,
        idempotency: None,
        precondition: None,
    };
    engine.submit(command, origin).await
}

/// The command in a node's report on one instance.
pub(crate) fn instance_command(
    id: Id<Instance>,
    observed: instance::Observed,
    link: u64,
) -> Command {
    Command::ObserveInstance(instance::Observe { instance: id, observed, link: Some(link) })
}

/// The command in a node's report on one volume.
pub(crate) fn volume_command(id: Id<Volume>, observed: volume::Observed, link: u64) -> Command {
    Command::ObserveVolume(volume::Observe { volume: id, observed, link })
}

/// The command in a node's report on its disk.
pub(crate) fn disk_command(node: Id<Node>, disk: node::Disk, link: u64) -> Command {
    Command::ObserveNode(node::Observe { node, disk, link })
}

/// The command in a node's report on one snapshot.
pub(crate) fn snapshot_command(
    id: Id<Snapshot>,
    observed: snapshot::Observed,
    link: u64,
) -> Command {
    Command::ObserveSnapshot(snapshot::Observe { snapshot: id, observed, link })
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

/// Sends an edge its plan now and whenever it changes; ends when the edge has connected
/// anew.
pub(crate) async fn feed_edge(engine: Engine, to: AttachedEdge, link: Arc<dyn EdgeLink>) {
    let plan = || {
        let state = engine.state();
        let edge = state.edges.get(to.linked.edge)?;
        (edge.status.link == to.linked.link).then(|| plan::edge_plan(&state, to.linked.edge))
    };
    follow(engine.position(), plan, |plan| link.apply(plan)).await;
}

/// Applies a plan and the next one once it is another, not before the pause after a look at
/// one is over; ends when there is none any more.
async fn follow(
    mut position: watch::Receiver<u64>,
    plan: impl Fn() -> Option<EdgePlan>,
    apply: impl Fn(EdgePlan),
) {
    let mut sent: Option<EdgePlan> = None;
    loop {
        position.mark_unchanged();
        let Some(plan) = plan() else { return };
        let pause = plan.pause();
        if sent.as_ref().is_none_or(|sent| !sent.asks_the_same(&plan)) {
            apply(plan.clone());
            sent = Some(plan);
        }
        tokio::time::sleep(pause).await;
        if position.changed().await.is_err() {
            return;
        }
    }
}

/// Whether two plans ask the same of a node.
fn asks_the_same(one: &NodePlan, other: &NodePlan) -> bool {
    one.instances == other.instances
        && one.stopping == other.stopping
        && one.volumes == other.volumes
        && one.removing == other.removing
        && one.snapshots == other.snapshots
        && one.removing_snapshots == other.removing_snapshots
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use helix_model::plan::TunnelPlan;
    use helix_model::tunnel::Exposure;
    use helix_model::{Name, Timestamp};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// A plan with so many tunnels.
    fn plan(tunnels: u64) -> EdgePlan {
        let tunnel = |number: u64| TunnelPlan {
            id: Id::new(Timestamp(1), number.into()),
            name: format!("tunnel-{number}").parse::<Name>().unwrap(),
            exposure: Exposure::Http { host: format!("{number}.example") },
            generation: 0,
            certificate: None,
        };
        EdgePlan { tunnels: (1..=tunnels).map(tunnel).collect(), ..EdgePlan::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_alone_goes_at_once_and_many_within_the_pause_as_one() {
        const FEW: u64 = 1_000;
        let pause = plan(FEW).pause();
        let (changes, position) = watch::channel(FEW);
        let count = position.clone();
        let applied = RefCell::new(Vec::new());
        let apply =
            |plan: EdgePlan| applied.borrow_mut().push((plan.tunnels.len(), Instant::now()));
        let following = follow(position, || Some(plan(*count.borrow())), apply);
        let changing = async {
            sleep(pause).await;
            let alone = Instant::now();
            changes.send_replace(FEW + 1);
            tokio::task::yield_now().await;
            for more in 2..10 {
                sleep(pause / 20).await;
                changes.send_replace(FEW + more);
            }
            sleep(2 * pause).await;
            alone
        };
        let alone = tokio::select! {
            () = following => unreachable!("there is a plan always"),
            alone = changing => alone,
        };
        let applied = applied.into_inner();
        let counts: Vec<_> = applied.iter().map(|(count, _)| *count as u64).collect();
        assert_eq!(counts, [FEW, FEW + 1, FEW + 9]);
        assert_eq!(applied[1].1, alone);
        // The clock has whole milliseconds, and a timer is never early.
        let late = applied[2].1 - (alone + plan(FEW + 1).pause());
        assert!(late <= Duration::from_millis(1), "{late:?}");
    }

    #[tokio::test]
    async fn it_ends_with_the_edge_or_its_link() {
        let (_changes, position) = watch::channel(0);
        follow(position, || None, |_| unreachable!("there is no plan")).await;
    }
}
