//! Usage: per env in the units of bills, or interval by interval.

use helix_model::Timestamp;
use helix_model::api::{UsageIntervals, UsageReport, Used};

use crate::output::{Emphasis, Style, Table};

/// What each env used, and all of them together.
pub(crate) fn report(report: &UsageReport, style: &Style) -> String {
    let mut table = Table::new(["ENV", "INSTANCE SECONDS", "MEMORY GIB SECONDS", ""]);
    for env in &report.items {
        let [seconds, memory] = amounts(&env.used);
        let (emphasis, note) = standing(env.destroyed);
        table.row(emphasis, [env.path.clone(), seconds, memory, note.to_owned()]);
    }
    let [seconds, memory] = amounts(&report.total);
    table.row(Emphasis::Normal, ["total".to_owned(), seconds, memory, String::new()]);
    let envs = format!("{}{}", span(report.since, report.until, style), table.render(style));
    format!("{envs}{}{}", volumes(report, style), ipv4(report, style))
}

fn volumes(report: &UsageReport, style: &Style) -> String {
    let rows = report.volumes.iter().map(|it| (&it.path, it.volume_gib_hours, it.destroyed));
    hours(["VOLUME", "GIB HOURS", ""], rows, style)
}

fn ipv4(report: &UsageReport, style: &Style) -> String {
    let rows = report.ipv4.iter().map(|it| (&it.path, it.ipv4_hours, it.destroyed));
    hours(["ENV", "IPV4 HOURS", ""], rows, style)
}

/// What was set aside for so many hours, and is there or not; nothing for none.
fn hours<'r>(
    titles: [&'static str; 3],
    rows: impl Iterator<Item = (&'r String, f64, bool)>,
    style: &Style,
) -> String {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return String::new();
    }
    let mut table = Table::new(titles);
    for (path, hours, destroyed) in rows {
        let (emphasis, note) = standing(destroyed);
        table.row(emphasis, [path.clone(), format!("{hours:.1}"), note.to_owned()]);
    }
    format!("\n{}", table.render(style))
}

/// How a row stands out whose subject may be gone, and the word for it.
fn standing(destroyed: bool) -> (Emphasis, &'static str) {
    match destroyed {
        true => (Emphasis::Faint, "destroyed"),
        false => (Emphasis::Normal, ""),
    }
}

/// The intervals and their sum.
pub(crate) fn intervals(report: &UsageIntervals, style: &Style) -> String {
    let titles = [
        "INSTANCE",
        "FROM",
        "EVENT",
        "TO",
        "EVENT",
        "MEMORY",
        "INSTANCE SECONDS",
        "MEMORY GIB SECONDS",
    ];
    let mut table = Table::new(titles);
    for it in &report.items {
        let [seconds, memory] = amounts(&it.used);
        let to = it.to.map_or_else(|| "runs".to_owned(), |to| to.at.to_string());
        let ended = it.to.map_or_else(|| "-".to_owned(), |to| to.position.to_string());
        table.row(
            Emphasis::Normal,
            [
                it.path.clone(),
                it.from.at.to_string(),
                it.from.position.to_string(),
                to,
                ended,
                format!("{}Mi", it.memory_mib),
                seconds,
                memory,
            ],
        );
    }
    let [seconds, memory] = amounts(&report.total);
    let none = String::new;
    table.row(
        Emphasis::Normal,
        ["total".to_owned(), none(), none(), none(), none(), none(), seconds, memory],
    );
    format!("{}{}", span(report.since, report.until, style), table.render(style))
}

fn span(since: Timestamp, until: Timestamp, style: &Style) -> String {
    format!("{}\n\n", style.dim(&format!("from {since} to {until}")))
}

/// Milliseconds of a bill are noise; the JSON has them.
fn amounts(used: &Used) -> [String; 2] {
    [format!("{:.1}", used.instance_seconds), format!("{:.1}", used.memory_gib_seconds)]
}
