//! Quotas: what is used, what is allowed, and how near the two are.

use helix_model::api::QuotaReport;
use helix_model::quota::{Line, Source, WARNING_PERCENT};

use crate::output::{Emphasis, Style, Table};

/// An org's quotas, or the installation's limits.
pub(crate) fn quotas(report: &QuotaReport, style: &Style) -> String {
    let Some(org) = &report.org else {
        let mut table = Table::new(["DIMENSION", "LIMIT", "SET BY", "COUNTS"]);
        for line in &report.items {
            let limit = line.dimension.format(line.limit);
            let cells = [line.dimension.to_string(), limit, set_by(line), line.meaning.clone()];
            table.row(Emphasis::Normal, cells);
        }
        return table.render(style);
    };
    let mut table = Table::new(["DIMENSION", "USED", "LIMIT", "SHARE", "NOW", "SET BY", "COUNTS"]);
    for line in &report.items {
        let shown = |value: Option<u64>| {
            value.map_or_else(|| "-".to_owned(), |value| line.dimension.format(value))
        };
        table.row(
            emphasis(line),
            [
                line.dimension.to_string(),
                shown(line.used),
                shown(Some(line.limit)),
                line.percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent}%")),
                shown(line.present),
                set_by(line),
                line.meaning.clone(),
            ],
        );
    }
    format!("org {}\n\n{}", style.bold(&org.path), table.render(style))
}

fn emphasis(line: &Line) -> Emphasis {
    match line.percent {
        Some(100..) => Emphasis::Bad,
        Some(percent) if percent >= WARNING_PERCENT => Emphasis::Notable,
        _ => Emphasis::Normal,
    }
}

fn set_by(line: &Line) -> String {
    match line.source {
        Source::BuiltIn => "helix",
        Source::Installation => "installation",
        Source::Org => "org",
    }
    .to_owned()
}
