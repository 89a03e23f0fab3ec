//! Deciding on edges: who they are and whether they report.

use helix_model::destroy::{Finished, Of};
use helix_model::{AnyId, Code, Edge, Event, Id, Kind, Problem, edge};

use super::{Draft, address};

/// An edge connects: it is enrolled the first time, its facts are kept, and its link
/// gets the next number.
pub(super) fn connect(
    draft: &mut Draft<'_, '_>,
    command: &edge::Connect,
) -> Result<Option<AnyId>, Problem> {
    address::refuse_prefixes(&draft.state, &command.facts)?;
    let known = draft.state.edges.named(None, &command.name);
    let link = known.map_or(0, |edge| edge.status.link) + 1;
    let id = match known.map(|edge| edge.id) {
        Some(id) => id,
        None => {
            let id = draft.fresh_id();
            let name = command.name.clone();
            draft.emit(Event::EdgeEnrolled(edge::Enrolled { id, name }));
            id
        }
    };
    let (facts, replica) = (Some(command.facts.clone()), command.replica.clone());
    let status = edge::Status { connected: true, link, replica, facts };
    draft.emit(Event::EdgeStatusChanged(edge::StatusChanged { id, status }));
    Ok(Some(id.any()))
}

/// An edge's link is gone. News of an older one comes late: the edge is linked elsewhere
/// already.
pub(super) fn disconnect(draft: &mut Draft<'_, '_>, command: &edge::Disconnect) -> Option<AnyId> {
    let known = draft.state.edges.get(command.edge)?;
    if known.status.connected && known.status.link == command.link {
        let status = edge::Status { connected: false, replica: None, ..known.status.clone() };
        let id = command.edge;
        draft.emit(Event::EdgeStatusChanged(edge::StatusChanged { id, status }));
    }
    Some(command.edge.any())
}

/// A machine never comes back: nobody waits for it any more.
pub(super) fn destroy(draft: &mut Draft<'_, '_>, id: Id<Edge>) -> Result<Option<AnyId>, Problem> {
    let Some(edge) = draft.state.edges.get(id) else {
        return Err(Problem::not_found(Kind::Edge, &id.to_string()));
    };
    if edge.status.connected {
        let detail = format!("edge `{}` is connected", edge.name);
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint("stop `helix edge` there first; only an edge that does not answer can go"));
    }
    if let Some(of) = Of::new(&draft.state, id.any()) {
        draft.emit(Event::EdgeDestroyed(Finished { of }));
    }
    Ok(None)
}
