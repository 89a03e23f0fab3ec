//! Receipts, made from what a command changed.

use std::collections::BTreeSet;

use helix_model::receipt::Affected;
use helix_model::{AnyId, Command, Event, Kind, Receipt, State, Timestamp, reference, view};
use serde_json::Value;

use super::Origin;

/// The receipt of a decided command, as of the state after it.
pub(super) fn receipt(
    command: &Command,
    events: &[Event],
    subject: Option<AnyId>,
    state: &State,
    origin: &Origin,
    at: Timestamp,
) -> Receipt {
    let affected = |id: AnyId| Affected { kind: id.kind(), id, path: reference::path(state, id) };
    let mut seen = BTreeSet::new();
    let touched = events
        .iter()
        .filter_map(Event::subject)
        .filter(|it| seen.insert(it.id))
        .map(|it| Affected { kind: it.id.kind(), id: it.id, path: it.path(state) });
    let viewed = subject.and_then(|id| view::view(state, id));
    let (desired, current) =
        viewed.map_or((Value::Null, Value::Null), |view| (view.desired, view.current));
    Receipt {
        // The position of a change that changed nothing is another's.
        id: match events {
            [] => format!("rcpt_{}_unchanged", state.position),
            _ => format!("rcpt_{}", state.position),
        },
        operation: command.operation().to_owned(),
        position: state.position,
        at,
        actor: origin.actor.clone(),
        request_id: origin.request_id.clone(),
        subject: subject.map(affected),
        affected: touched.collect(),
        desired,
        current,
        next: subject.map(|id| next(state, id)).unwrap_or_default(),
    }
}

/// Commands that make sense after a change of this resource.
fn next(state: &State, id: AnyId) -> Vec<String> {
    let path = reference::path(state, id);
    match id.kind() {
        Kind::Deploy => vec![
            format!("helix wait deploy/{path}"),
            format!("helix describe deploy/{path}"),
            "helix rollback".to_owned(),
        ],
        Kind::Env => vec![format!("helix wait env/{path}"), "helix status".to_owned()],
        kind => vec![format!("helix describe {kind}/{path}")],
    }
}
