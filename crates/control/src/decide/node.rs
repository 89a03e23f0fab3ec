//! Deciding on nodes: who they are and whether they report.

use helix_model::{AnyId, Code, Event, Problem, node};

use super::Draft;

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
            let subnet = u16::try_from(draft.state.nodes.len() + 1).map_err(|_| {
                Problem::new(Code::PreconditionFailed, "the address block has no subnet left")
            })?;
            let id = draft.fresh_id();
            let name = command.name.clone();
            draft.emit(Event::NodeEnrolled(node::Enrolled { id, name, subnet }));
            id
        }
    };
    let link = draft.state.nodes.get(id).map_or(0, |node| node.status.link) + 1;
    let (facts, replica) = (Some(command.facts.clone()), command.replica.clone());
    let status = node::Status { connected: true, link, replica, facts };
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
