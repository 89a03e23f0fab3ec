//! What is told, in Prometheus's text format (version 0.0.4).
//!
//! Labels are what a plan says: the endpoint, its env and app. Nothing that a client
//! sends becomes one, so that none can make up series.

use std::fmt::Write;

use helix_model::plan::Label;
use helix_model::traffic::DURATION_BOUNDS_US;

use crate::meter::{CODES, Called, Meter, Metered, Reading, Why};
use crate::shared::Shared;

/// The endpoint of what has no series of its own.
const OTHER: &str = "other";

/// All of it.
pub(super) fn of(shared: &Shared) -> String {
    let mut text = String::new();
    whole_edge(&mut text, shared);
    let all = series(shared);
    for family in FAMILIES {
        head(&mut text, family.name, family.kind, family.help);
        for one in &all {
            (family.lines)(&mut text, family.name, one);
        }
    }
    text
}

/// What is told of one endpoint, or of all that have no series of their own.
struct Series {
    labels: String,
    protocol: Option<&'static str>,
    backends: usize,
    reading: Reading,
}

fn series(shared: &Shared) -> Vec<Series> {
    let table = shared.table.load();
    let mut others = shared.others.read();
    let mut has_others = others != Reading::default();
    let mut all = Vec::new();
    let mut backends = 0;
    for service in table.services() {
        let (meter, reading) = (service.meter(), service.meter().read());
        if meter.is_listed {
            let protocol = Some(meter.of.protocol);
            let backends = service.backends();
            all.push(Series { labels: labels(meter), protocol, backends, reading });
        } else {
            has_others = true;
            backends += service.backends();
            others.add(&reading);
        }
    }
    if has_others {
        let labels =
            format!("endpoint=\"{OTHER}\",endpoint_id=\"\",env=\"\",app=\"\",protocol=\"{OTHER}\"");
        all.push(Series { labels, protocol: None, backends, reading: others });
    }
    all
}

/// Names and ids need no escapes.
fn labels(meter: &Meter) -> String {
    let Metered { id, protocol, called } = &meter.of;
    match called {
        Called::Endpoint(Label { app, env, endpoint }) => format!(
            "endpoint=\"{endpoint}\",endpoint_id=\"{id}\",env=\"{env}\",app=\"{app}\",protocol=\"{protocol}\""
        ),
        Called::Tunnel(name) => {
            format!(
                "endpoint=\"{name}\",endpoint_id=\"{id}\",env=\"\",app=\"\",protocol=\"{protocol}\""
            )
        }
        Called::Nothing => {
            format!("endpoint=\"\",endpoint_id=\"{id}\",env=\"\",app=\"\",protocol=\"{protocol}\"")
        }
    }
}

/// One metric of every endpoint.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    lines: fn(&mut String, &str, &Series),
}

const FAMILIES: &[Family] = &[
    Family {
        name: "helix_edge_requests_total",
        kind: "counter",
        help: "HTTP requests that have ended, by the first digit of their status; aborted by a client that did not wait for an answer.",
        lines: |text, name, one| {
            if one.protocol.is_none_or(|protocol| protocol == "http") {
                for (code, count) in CODES.iter().zip(one.reading.codes) {
                    line(text, name, &format!("{},code=\"{code}\"", one.labels), count);
                }
            }
        },
    },
    Family {
        name: "helix_edge_begun_total",
        kind: "counter",
        help: "Requests of http, connections of tcp and tls, sessions of udp that have begun.",
        lines: |text, name, one| line(text, name, &one.labels, one.reading.traffic.begun),
    },
    Family {
        name: "helix_edge_open",
        kind: "gauge",
        help: "Requests, connections and sessions under way.",
        lines: |text, name, one| line(text, name, &one.labels, one.reading.traffic.open),
    },
    Family {
        name: "helix_edge_refused_total",
        kind: "counter",
        help: "What the edge did not let through, by the reason it gives.",
        lines: |text, name, one| {
            for (why, count) in Why::ALL.iter().zip(one.reading.refused) {
                let labels = format!("{},reason=\"{}\"", one.labels, why.word());
                line(text, name, &labels, count);
            }
        },
    },
    Family {
        name: "helix_edge_broken_off_total",
        kind: "counter",
        help: "Answers that a backend did not finish, and connections that ended with a reset.",
        lines: |text, name, one| line(text, name, &one.labels, one.reading.broken_off),
    },
    Family {
        name: "helix_edge_duration_seconds",
        kind: "histogram",
        help: "From a request to the end of its answer, from the beginning of a connection or session to its end.",
        lines: histogram,
    },
    Family {
        name: "helix_edge_received_bytes_total",
        kind: "counter",
        help: "Bytes from clients: of http those of bodies.",
        lines: |text, name, one| line(text, name, &one.labels, one.reading.traffic.received_bytes),
    },
    Family {
        name: "helix_edge_sent_bytes_total",
        kind: "counter",
        help: "Bytes to clients: of http those of bodies.",
        lines: |text, name, one| line(text, name, &one.labels, one.reading.traffic.sent_bytes),
    },
    Family {
        name: "helix_edge_backends",
        kind: "gauge",
        help: "Ready instances that new work may go to.",
        lines: |text, name, one| line(text, name, &one.labels, one.backends),
    },
];

fn histogram(text: &mut String, name: &str, one: &Series) {
    let Series { labels, reading, .. } = one;
    let mut within = 0;
    let mut counts = reading.traffic.durations.iter();
    for (bound, count) in DURATION_BOUNDS_US.iter().zip(counts.by_ref()) {
        within += count;
        let labels = format!("{labels},le=\"{}\"", seconds(*bound));
        line(text, &format!("{name}_bucket"), &labels, within);
    }
    let all = within + counts.sum::<u64>();
    line(text, &format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), all);
    line(text, &format!("{name}_sum"), labels, seconds(reading.duration_us));
    line(text, &format!("{name}_count"), labels, all);
}

/// Microseconds as seconds, to the letter.
fn seconds(us: u64) -> String {
    let (whole, rest) = (us / 1_000_000, us % 1_000_000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:06}").trim_end_matches('0').to_owned()
}

/// What concerns no endpoint.
fn whole_edge(text: &mut String, shared: &Shared) {
    let stats = shared.counters.snapshot();
    let plain = |text: &mut String, name, kind, help, value: u64| {
        head(text, name, kind, help);
        line(text, name, "", value);
    };
    let name = "helix_edge_plan_version";
    plain(text, name, "gauge", "The version of the plan in force.", shared.table.load().version());
    let name = "helix_edge_unrouted_requests_total";
    plain(text, name, "counter", "HTTP requests for no endpoint.", stats.http_unrouted);
    let name = "helix_edge_retries_total";
    let help = "Times a backend failed a request that could be repeated.";
    plain(text, name, "counter", help, stats.http_retries);
    let name = "helix_edge_http_connections_open";
    plain(text, name, "gauge", "Connections of HTTP clients.", stats.http_connections_open);
    let name = "helix_edge_proxy_headers_refused_total";
    let help = "Connections of load balancers without a good header of the PROXY protocol.";
    plain(text, name, "counter", help, stats.proxy_refused);
    let name = "helix_edge_handshakes_total";
    head(text, name, "counter", "TLS handshakes of https, by what came of them.");
    line(text, name, "outcome=\"done\"", stats.tls_connections);
    line(text, name, "outcome=\"failed\"", stats.tls_refused);
    let name = "helix_edge_hellos_total";
    head(text, name, "counter", "What TLS clients began with.");
    for (outcome, count) in [
        ("ok", stats.hello_named),
        ("no_sni", stats.hello_unnamed),
        ("not_tls", stats.hello_not_tls),
        ("malformed", stats.hello_malformed),
        ("timeout", stats.hello_late),
    ] {
        line(text, name, &format!("outcome=\"{outcome}\""), count);
    }
    let name = "helix_edge_unknown_names_total";
    plain(text, name, "counter", "TLS connections for a name of no endpoint.", stats.hello_unknown);
    let name = "helix_edge_access_log_dropped_total";
    let dropped = shared.access_log.as_ref().map_or(0, |log| log.dropped());
    plain(text, name, "counter", "Lines of the access log that were lost.", dropped);
    let name = "helix_edge_datagrams_dropped_total";
    plain(text, name, "counter", "Datagrams that were not passed on.", stats.udp_dropped);
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_told_as_seconds() {
        let told = [0, 1, 1_000, 2_500_000, 60_000_000].map(seconds);
        assert_eq!(told, ["0", "0.000001", "0.001", "2.5", "60"]);
    }
}
