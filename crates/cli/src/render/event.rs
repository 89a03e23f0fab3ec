//! Events: one line each, the particulars that matter at its end.

use helix_model::Actor;
use helix_model::api::EventLine;
use serde_json::Value;

use crate::output::{Style, plain};

/// Members of an event's data worth a place on its line, in this order.
const TOLD: [&str; 7] = ["phase", "outcome", "desired", "reason", "message", "processes", "limits"];

/// An event for a person.
pub(crate) fn event(event: &EventLine, style: &Style) -> String {
    let subject = event.subject.as_ref().map_or("", |subject| subject.path.as_str());
    let by = match &event.actor {
        Actor::Token(name) => format!("token {name}"),
        Actor::System(name) => name.clone(),
        Actor::Machine(name) => name.clone(),
        Actor::User(name) => format!("user {name}"),
    };
    let told: Vec<String> = TOLD
        .iter()
        .filter_map(|name| {
            let value = event.data.get(name)?;
            match value {
                Value::Null => None,
                Value::String(text) => Some(plain(text)),
                other => Some(super::receipt::summary(other)),
            }
        })
        .filter(|text| !text.is_empty())
        .collect();
    let line = format!(
        "{}  {}  {}  {subject}  {}",
        style.dim(&event.ts.to_string()),
        style.dim(&format!("{:>6}", event.position)),
        style.bold(&event.kind),
        told.join(", "),
    );
    format!("{}  {}", line.trim_end(), style.dim(&format!("by {by}")))
}
