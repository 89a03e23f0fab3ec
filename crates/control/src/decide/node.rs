//! Deciding on nodes: who they are and whether they report.

use helix_model::{AnyId, Code, Event, Problem, node};

use super::Draft;

/// A node connects: it is enrolled the first time and its facts are kept.
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
    let status = node::Status { connected: true, facts: Some(command.facts.clone()) };
    if draft.state.nodes.get(id).is_some_and(|node| node.status != status) {
        draft.emit(Event::NodeStatusChanged(node::StatusChanged { id, status }));
    }
    Ok(Some(id.any()))
}

/// A node's link is gone.
pub(super) fn disconnect(draft: &mut Draft<'_, '_>, command: &node::Disconnect) -> Option<AnyId> {
    let known = draft.state.nodes.get(command.node)?;
    if known.status.connected {
        let status = node::Status { connected: false, facts: known.status.facts.clone() };
        let id = command.node;
        draft.emit(Event::NodeStatusChanged(node::StatusChanged { id, status }));
    }
    Some(command.node.any())
}
