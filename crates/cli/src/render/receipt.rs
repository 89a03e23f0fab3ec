//! Receipts: proof that a change was accepted, in a few lines.

use helix_model::Receipt;
use serde_json::Value;

use crate::output::{Style, pairs};

/// A receipt for a person. It never says that the change has taken effect.
pub(crate) fn receipt(receipt: &Receipt, target: &str, style: &Style) -> String {
    let mut rows = vec![("target", target.to_owned())];
    if let Some(subject) = &receipt.subject {
        rows.push(("about", format!("{} {}", subject.kind, subject.path)));
    }
    let desired = summary(&receipt.desired);
    if !desired.is_empty() {
        rows.push(("desired", desired));
    }
    rows.push(("receipt", receipt.id.clone()));
    let head = format!("{} {}\n", style.green("accepted"), style.bold(&receipt.operation));
    format!("{head}{}{}", pairs(&rows, 2, style), super::next(&receipt.next, style))
}

/// The plain members of an object on one line. Nested ones are for `describe`,
/// except maps of plain values, such as counts per process.
pub(crate) fn summary(value: &Value) -> String {
    let Value::Object(members) = value else {
        return scalar(value).unwrap_or_default();
    };
    let plain = members.iter().filter_map(|(name, member)| {
        let text = match member {
            Value::Object(inner) if !inner.is_empty() => {
                let parts: Option<Vec<String>> = inner
                    .iter()
                    .map(|(name, value)| Some(format!("{name}={}", scalar(value)?)))
                    .collect();
                parts?.join(",")
            }
            other => scalar(other)?,
        };
        Some(format!("{name} {text}"))
    });
    plain.collect::<Vec<_>>().join(", ")
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(crate::output::plain(text)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
