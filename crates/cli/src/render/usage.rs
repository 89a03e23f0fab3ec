//! Usage: per env in the units of bills, or interval by interval.

use helix_model::Timestamp;
use helix_model::api::{UsageIntervals, UsageReport, Used};

use crate::output::{Emphasis, Style, Table};

/// What each env used, and all of them together.
pub(crate) fn report(report: &UsageReport, style: &Style) -> String {
    let mut table = Table::new(["ENV", "INSTANCE SECONDS", "MEMORY GIB SECONDS", ""]);
    for env in &report.items {
        let [seconds, memory] = amounts(&env.used);
        let (emphasis, note) = match env.destroyed {
            true => (Emphasis::Faint, "destroyed"),
            false => (Emphasis::Normal, ""),
        };
        table.row(emphasis, [env.path.clone(), seconds, memory, note.to_owned()]);
    }
    let [seconds, memory] = amounts(&report.total);
    table.row(Emphasis::Normal, ["total".to_owned(), seconds, memory, String::new()]);
    let envs = format!("{}{}", span(report.since, report.until, style), table.render(style));
    format!("{envs}{}{}", volumes(report, style), ipv4(report, style))
}

fn volumes(report: &UsageReport, style: &Style) -> String {
    if report.volumes.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["VOLUME", "GIB HOURS", ""]);
    for volume in &report.volumes {
        let (emphasis, note) = match volume.destroyed {
            true => (Emphasis::Faint, "destroyed"),
            false => (Emphasis::Normal, ""),
        };
        let hours = format!("{:.1}", volume.volume_gib_hours);
        table.row(emphasis, [volume.path.clone(), hours, note.to_owned()]);
    }
    format!("\n{}", table.render(style))
}

fn ipv4(report: &UsageReport, style: &Style) -> String {
    if report.ipv4.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["ENV", "IPV4 HOURS", ""]);
    for env in &report.ipv4 {
        let (emphasis, note) = match env.destroyed {
            true => (Emphasis::Faint, "destroyed"),
            false => (Emphasis::Normal, ""),
        };
        table.row(emphasis, [env.path.clone(), format!("{:.1}", env.ipv4_hours), note.to_owned()]);
    }
    format!("\n{}", table.render(style))
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
