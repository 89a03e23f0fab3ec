//! What goes through endpoints.

use helix_model::api::{EndpointTraffic, TrafficLine};

use crate::output::{Emphasis, Style, Table};

/// Lines around the table's own: its titles, and what was left out.
const AROUND: usize = 3;

/// A row for each endpoint, in at most so many lines.
pub(crate) fn table(line: &TrafficLine, style: &Style, lines_max: usize) -> String {
    let at = style.dim(&format!("{}, {} edge(s)", line.ts, line.edges));
    if line.items.is_empty() {
        return format!("{at}\nno endpoints\n");
    }
    let titles =
        ["ENDPOINT", "PROTOCOL", "PER SECOND", "ERRORS", "P50", "P99", "IN/S", "OUT/S", "OPEN"];
    let mut table = Table::new(titles);
    let shown = line.items.len().min(lines_max.saturating_sub(AROUND).max(1));
    for item in &line.items[..shown] {
        let emphasis = if is_quiet(item) { Emphasis::Faint } else { Emphasis::Normal };
        table.row(
            emphasis,
            [
                item.path.clone(),
                item.protocol.clone(),
                rate(item.per_second),
                rate(item.errors_per_second),
                duration(item.p50_ms),
                duration(item.p99_ms),
                bytes(item.received_bytes_per_second),
                bytes(item.sent_bytes_per_second),
                item.open.to_string(),
            ],
        );
    }
    let omitted = line.omitted + line.items.len() - shown;
    let rest = match omitted {
        0 => String::new(),
        count => style.dim(&format!("and {count} more\n")),
    };
    format!("{at}\n{}{rest}", table.render(style))
}

fn is_quiet(item: &EndpointTraffic) -> bool {
    item.per_second + item.received_bytes_per_second + item.sent_bytes_per_second == 0.0
        && item.open == 0
}

fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        rate if rate < 100.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn duration(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1}ms"),
        Some(ms) if ms < 1_000.0 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.1}s", ms / 1_000.0),
    }
}

fn bytes(per_second: f64) -> String {
    let (mut size, mut units) = (per_second, ["B", "KiB", "MiB", "GiB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if size < 1_024.0 {
            break;
        }
        (size, unit) = (size / 1_024.0, larger);
    }
    if size < 10.0 && unit != "B" {
        return format!("{size:.1}{unit}");
    }
    format!("{size:.0}{unit}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use helix_model::{Endpoint, Id, Timestamp};

    use super::*;

    fn item(path: &str, scale: f64) -> EndpointTraffic {
        EndpointTraffic {
            endpoint: Id::<Endpoint>::new(Timestamp(1), 1).any(),
            path: path.to_owned(),
            protocol: "http".to_owned(),
            open: 3,
            per_second: 1.25 * scale,
            errors_per_second: 0.0,
            received_bytes_per_second: 100.0 * scale,
            sent_bytes_per_second: 5_000.0 * scale,
            p50_ms: Some(0.72 * scale),
            p99_ms: Some(18.4 * scale),
        }
    }

    #[test]
    fn a_table_fits_and_says_what_is_left_out() {
        let items = vec![item("a/b/c@d/http", 1.0), item("a/b/c@d/tcp-80", 900.0)];
        let ts = Timestamp(1_700_000_000_000);
        let kind = "traffic".to_owned();
        let line = TrafficLine { kind, ts, interval_ms: 1_000, edges: 1, items, omitted: 2 };
        let whole = table(&line, &Style::PLAIN, usize::MAX);
        expect![[r#"
            2023-11-14T22:13:20.000Z, 1 edge(s)
            ENDPOINT        PROTOCOL  PER SECOND  ERRORS  P50    P99    IN/S   OUT/S   OPEN
            a/b/c@d/http    http      1.2         0       0.7ms  18ms   100B   4.9KiB  3
            a/b/c@d/tcp-80  http      1125        0       648ms  16.6s  88KiB  4.3MiB  3
            and 2 more
        "#]]
        .assert_eq(&whole);
        let short = table(&line, &Style::PLAIN, 4);
        assert!(short.lines().count() == 4 && short.ends_with("and 3 more\n"), "{short}");
    }
}
