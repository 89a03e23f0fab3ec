//! One resource in full: desired, current, conditions, and how they differ.

use helix_model::Timestamp;
use helix_model::view::ResourceView;
use serde_json::Value;

use crate::duration::age;
use crate::output::{Emphasis, Style, Table, pairs, plain};

/// Everything known of a resource.
pub(crate) fn resource(view: &ResourceView, now: Timestamp, style: &Style) -> String {
    let mut text = format!("{} {}\n", view.kind, style.bold(&view.path));
    let moment = |at: Timestamp| format!("{at} ({} ago)", age(at, now));
    let rows = [
        ("id", view.id.to_string()),
        ("version", view.version.to_string()),
        ("created", moment(view.created_at)),
        ("updated", moment(view.updated_at)),
    ];
    text.push_str(&pairs(&rows, 2, style));
    if let Some(difference) = &view.difference {
        let label = style.yellow("not as desired:");
        text.push_str(&format!("\n{label} {}\n", plain(difference)));
    }
    text.push_str(&format!("\n{}\n", style.bold("conditions")));
    let mut table = Table::new(["  TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"]);
    for condition in &view.conditions {
        let kind = super::word(&condition.kind);
        let good = condition.status == (kind == "Ready");
        let emphasis = if good { Emphasis::Normal } else { Emphasis::Notable };
        let status = if condition.status { "yes" } else { "no" };
        table.row(
            emphasis,
            [
                format!("  {kind}"),
                status.to_owned(),
                condition.reason.clone(),
                age(condition.since, now),
                condition.message.clone(),
            ],
        );
    }
    text.push_str(&table.render(style));
    for (title, value) in [("desired", &view.desired), ("current", &view.current)] {
        let tree = tree(value, 1);
        if !tree.is_empty() {
            text.push_str(&format!("\n{}\n{tree}", style.bold(title)));
        }
    }
    text
}

/// A value as indented `name: value` lines. What is null or empty is left out.
fn tree(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let mut text = String::new();
    let mut member = |name: &str, value: &Value| {
        let below = match value {
            Value::Null => return,
            Value::Object(_) => tree(value, depth + 1),
            Value::Array(items) => return array(&mut text, name, items, depth),
            Value::String(value) => {
                return text.push_str(&format!("{indent}{name}: {}\n", plain(value)));
            }
            other => return text.push_str(&format!("{indent}{name}: {other}\n")),
        };
        if !below.is_empty() {
            text.push_str(&format!("{indent}{name}:\n{below}"));
        }
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| member(name, value)),
        Value::Null => {}
        other => member("value", other),
    }
    text
}

fn array(text: &mut String, name: &str, items: &[Value], depth: usize) {
    let indent = "  ".repeat(depth);
    if items.is_empty() {
        return;
    }
    if items.iter().any(Value::is_object) {
        for (number, item) in items.iter().enumerate() {
            text.push_str(&format!("{indent}{name}[{number}]:\n{}", tree(item, depth + 1)));
        }
        return;
    }
    let joined: Vec<String> =
        items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), plain)).collect();
    text.push_str(&format!("{indent}{name}: {}\n", joined.join(", ")));
}
