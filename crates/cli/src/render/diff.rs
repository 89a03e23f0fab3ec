//! What differs, field by field, as a person reads it.

use helix_model::diff::Difference;
use serde_json::Value;

use crate::output::{Style, plain};

/// What is set of an env and not in its helix.toml.
pub(crate) fn apart(differences: &[Difference], style: &Style) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let head = "set of this env, which wins over helix.toml (`helix env`, `helix resize`)";
    format!("\n{}\n\n{}", style.dim(head), lines(differences, style))
}

/// What a deploy from a folder would change.
pub(crate) fn changes(
    target: &str,
    from: Option<String>,
    differences: &[Difference],
    style: &Style,
) -> String {
    let Some(from) = from else {
        let head = format!("{target} runs nothing yet; all of this is new\n\n");
        return head + &lines(differences, style);
    };
    if differences.is_empty() {
        return format!("{target} is as here, apart from the files (it runs {from})\n");
    }
    format!("{target} runs {from}; a deploy from here changes\n\n{}", lines(differences, style))
}

/// In what two releases differ.
pub(crate) fn between(from: &str, to: &str, differences: &[Difference], style: &Style) -> String {
    match differences {
        [] => format!("{from} and {to} are the same image and manifest\n"),
        differences => format!("from {from} to {to}\n\n{}", lines(differences, style)),
    }
}

/// A plan: what changes, what becomes of the instances, and how to go on.
pub(crate) fn planned(
    plan: &str,
    differences: &[Difference],
    effects: &[String],
    style: &Style,
) -> String {
    let changes = match differences {
        [] => "  nothing but a new release of the same\n".to_owned(),
        differences => lines(differences, style),
    };
    let effects: String = effects.iter().map(|it| format!("  {}\n", plain(it))).collect();
    let next = super::next(&[format!("helix apply {plan}")], style);
    format!(
        "{}\n\n{changes}\n{}\n\n{effects}\nplan {}\n{next}",
        style.dim("what changes"),
        style.dim("what happens"),
        style.bold(plan),
    )
}

/// A line each.
pub(crate) fn lines(differences: &[Difference], style: &Style) -> String {
    let width = differences.iter().map(|it| it.field.chars().count()).max().unwrap_or(0);
    let line = |it: &Difference| {
        let field = format!("{:width$}", plain(&it.field));
        let told = match (&it.before, &it.after) {
            (Some(before), Some(after)) => format!("~ {field}  {} → {}", text(before), text(after)),
            (None, Some(after)) => style.green(&format!("+ {field}  {}", text(after))),
            (Some(before), None) => style.red(&format!("- {field}  {}", text(before))),
            (None, None) => field,
        };
        format!("  {told}\n")
    };
    differences.iter().map(line).collect()
}

fn text(value: &Value) -> String {
    match value {
        // As many digits of an image's digest as tell it from another.
        Value::String(text) => match text.split_once("@sha256:") {
            Some((image, digest)) => plain(&format!("{image}@{digest:.12}")),
            None => plain(text),
        },
        other => plain(&other.to_string()),
    }
}
