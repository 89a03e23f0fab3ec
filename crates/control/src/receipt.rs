//! Receipts, made from what a command changed.

use std::collections::BTreeSet;

use helix_model::node::Availability;
use helix_model::receipt::Affected;
use helix_model::{AnyId, Command, Event, Kind, Receipt, State, Timestamp, reference, view};
use serde_json::Value;

use crate::round::Origin;

/// The receipt of a decided command, as of the state after it.
pub(crate) fn receipt(
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
    let sides = subject.and_then(|id| view::sides(state, id));
    let (desired, current) = sides.unwrap_or((Value::Null, Value::Null));
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
        warnings: Vec::new(),
        next: subject.map(|id| next(command, state, id)).unwrap_or_default(),
    }
}

/// Commands that make sense after a change of this resource.
fn next(command: &Command, state: &State, id: AnyId) -> Vec<String> {
    let path = reference::path(state, id);
    match command {
        Command::CreateOrg(_) => {
            return vec![
                format!("helix deploy --org {path} --env production"),
                format!("helix quotas --org {path}"),
            ];
        }
        Command::CreateProject(_) | Command::CreateApp(_) | Command::CreateEnv(_) => {
            return vec![format!("helix deploy {}", flags(state, id))];
        }
        Command::Destroy(it) => {
            let kind = it.target.kind();
            return vec![
                format!("helix wait {kind}/{path} --for gone"),
                format!("helix describe {kind}/{path}"),
            ];
        }
        Command::SetNodeAvailability(it) if it.availability == Availability::Draining => {
            return vec![
                format!("helix wait node/{path} --for reconciling=false"),
                format!("helix nodes uncordon {path}"),
            ];
        }
        Command::SetQuota(_) => return vec![format!("helix quotas --org {path}")],
        _ => {}
    }
    match id.kind() {
        Kind::Deploy => vec![
            format!("helix wait deploy/{path}"),
            format!("helix describe deploy/{path}"),
            "helix rollback".to_owned(),
        ],
        Kind::Domain
            if id
                .typed()
                .and_then(|id| state.domains.get(id))
                .is_some_and(|it| it.status.proof.is_none()) =>
        {
            vec![format!("helix domains verify {path}"), format!("helix wait domain/{path}")]
        }
        Kind::Bundle => vec!["helix secrets status".to_owned(), "helix secrets list".to_owned()],
        Kind::Env => vec![format!("helix wait env/{path}"), "helix status".to_owned()],
        kind => vec![format!("helix describe {kind}/{path}")],
    }
}

/// The flags that name a resource and what it is in.
fn flags(state: &State, id: AnyId) -> String {
    let mut words = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next {
        let Some((name, parent)) = view::name_and_parent(state, id) else { break };
        words.push(format!("--{} {name}", id.kind()));
        next = parent;
    }
    if id.kind() != Kind::Env {
        words.insert(0, "--env production".to_owned());
    }
    words.reverse();
    words.join(" ")
}
