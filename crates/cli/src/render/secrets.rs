//! Secrets, as far as they may be seen: versions, keys and lengths.

use std::collections::BTreeMap;

use helix_model::api::SecretsReport;

use crate::output::{Emphasis, Style, Table, pairs, plain};

/// Which version is desired, which one instances have, what is staged.
pub(crate) fn status(report: &SecretsReport, style: &Style) -> String {
    let number = |number: Option<u64>| {
        number.map_or_else(|| "-".to_owned(), |number| format!("version {number}"))
    };
    let mut rows = vec![("desired", number(report.desired)), ("applied", number(report.applied))];
    if report.staged.is_some() {
        rows.push(("staged", number(report.staged)));
    }
    if report.confirmed_none {
        rows.push(("confirmed", "none are needed".to_owned()));
    }
    let mut text = format!("secrets of {}\n{}", style.bold(&report.env), pairs(&rows, 2, style));
    if let Some(difference) = &report.difference {
        text.push_str(&format!("\n{} {}\n", style.yellow("not as desired:"), plain(difference)));
    }
    if report.versions.is_empty() {
        return text;
    }
    let mut table = Table::new(["VERSION", "KEYS", "BYTES", "MADE", "IS"]);
    for version in &report.versions {
        let mark = |of: Option<u64>, word| (of == Some(version.number)).then_some(word);
        let marks = [
            mark(report.desired, "desired".to_owned()),
            mark(report.applied, "applied".to_owned()),
            mark(report.staged, "staged".to_owned()),
            version.restored_from.map(|from| format!("as {from}")),
        ];
        let marks: Vec<String> = marks.into_iter().flatten().collect();
        let emphasis = if marks.is_empty() { Emphasis::Faint } else { Emphasis::Normal };
        table.row(
            emphasis,
            [
                version.number.to_string(),
                version.keys.len().to_string(),
                version.bytes.to_string(),
                version.made_at.to_string(),
                marks.join(", "),
            ],
        );
    }
    format!("{text}\n{}", table.render(style))
}

/// Keys and how long their values are.
pub(crate) fn keys(keys: &BTreeMap<String, u64>, style: &Style) -> String {
    if keys.is_empty() {
        return "no secrets here yet".to_owned();
    }
    let mut table = Table::new(["KEY", "BYTES"]);
    for (key, bytes) in keys {
        table.row(Emphasis::Normal, [key.clone(), bytes.to_string()]);
    }
    table.render(style)
}
