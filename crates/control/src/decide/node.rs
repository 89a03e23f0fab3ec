//! Deciding on nodes: who they are and whether they report.

use helix_model::destroy::{Finished, Of};
use helix_model::{AnyId, Code, Event, Id, Kind, Node, Problem, instance, node};

use super::{Draft, snapshot};

/// A node connects: it is enrolled the first time, its facts are kept, and its
/// link gets the next number.
pub(super) fn connect(
    draft: &mut Draft<'_, '_>,
    command: &node::Connect,
) -> Result<Option<AnyId>, Problem> {
    let known = draft.state.nodes.named(None, &command.name).map(|node| node.id);
    let id = match known {
        Some(id) => id,
        None => {
            let subnet = u16::try_from(draft.state.nodes_enrolled + 1).map_err(|_| {
                Problem::new(Code::PreconditionFailed, "the address block has no subnet left")
            })?;
            let id = draft.fresh_id();
            let name = command.name.clone();
            draft.emit(Event::NodeEnrolled(node::Enrolled { id, name, subnet }));
            id
        }
    };
    let known = draft.state.nodes.get(id).map(|node| node.status.clone()).unwrap_or_default();
    let (facts, replica) = (Some(command.facts.clone()), command.replica.clone());
    // The disk as it was: to be full is not over because the link was.
    let (link, disk) = (known.link + 1, known.disk);
    let status = node::Status { connected: true, link, replica, facts, disk };
    draft.emit(Event::NodeStatusChanged(node::StatusChanged { id, status }));
    Ok(Some(id.any()))
}

/// A node's link is gone. News of an older one comes late: the node is linked
/// elsewhere already.
pub(super) fn disconnect(draft: &mut Draft<'_, '_>, command: &node::Disconnect) -> Option<AnyId> {
    let known = draft.state.nodes.get(command.node)?;
    if known.status.connected && known.status.link == command.link {
        let status = node::Status { connected: false, replica: None, ..known.status.clone() };
        let id = command.node;
        draft.emit(Event::NodeStatusChanged(node::StatusChanged { id, status }));
    }
    Some(command.node.any())
}

/// Notes how a node's disk is, when it is news.
pub(super) fn observe(draft: &mut Draft<'_, '_>, command: &node::Observe) -> Option<AnyId> {
    let known = draft.state.nodes.get(command.node)?;
    let disk = Some(command.disk.clone());
    if known.status.connected && known.status.link == command.link && known.status.disk != disk {
        let (id, status) = (command.node, node::Status { disk, ..known.status.clone() });
        draft.emit(Event::NodeStatusChanged(node::StatusChanged { id, status }));
    }
    Some(command.node.any())
}

/// A node is to be used for less, or for more again.
pub(super) fn set_availability(
    draft: &mut Draft<'_, '_>,
    command: &node::SetAvailability,
) -> Result<Option<AnyId>, Problem> {
    let node::SetAvailability { node: id, availability } = *command;
    let Some(node) = draft.state.nodes.get(id) else {
        return Err(Problem::not_found(Kind::Node, &id.to_string()));
    };
    if node.spec.availability != availability {
        let changed = node::AvailabilityChanged { id, availability };
        draft.emit(Event::NodeAvailabilityChanged(changed));
    }
    Ok(Some(id.any()))
}

/// A machine never comes back. What ran there is forgotten, so that it can begin
/// elsewhere; should the machine come back all the same, it is another node, and
/// stops what it still runs because its plan does not know of it.
pub(super) fn destroy(draft: &mut Draft<'_, '_>, id: Id<Node>) -> Result<Option<AnyId>, Problem> {
    let Some(node) = draft.state.nodes.get(id) else {
        return Err(Problem::not_found(Kind::Node, &id.to_string()));
    };
    if node.status.connected {
        let detail = format!("node `{}` is connected", node.name);
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint("stop `helix node` there first; only a node that does not answer can go"));
    }
    let load = draft.state.index.load(id);
    let carried: Vec<instance::Of> = load
        .iter()
        .flat_map(|load| load.instances.keys())
        .filter_map(|instance| draft.state.instances.get(*instance))
        .map(instance::Of::new)
        .collect();
    let of = Of::new(&draft.state, id.any());
    for of in carried {
        draft.emit(Event::InstanceRemoved(instance::Removed { of }));
    }
    snapshot::give_up(draft, id);
    if let Some(of) = of {
        draft.emit(Event::NodeDestroyed(Finished { of }));
    }
    Ok(None)
}
