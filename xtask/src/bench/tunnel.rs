//! Bench: tunnels to an origin behind an agent.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::bulk;
use super::http;
use super::measure::{Samples, median};
use super::platform::Platform;
use super::proxies::Server;
use super::report::{Bound, Report, Row, Target};
use super::tunnel_peers::{self, Tunnel};
use super::wrk;
use crate::output::say;

/// Seconds of each run, after one unmeasured of [`WARM_SECONDS`].
const SECONDS: u64 = 6;

const WARM_SECONDS: u64 = 1;

const CONNECTIONS: usize = 64;

/// Turns, all subjects in each; the median counts.
const TURNS: usize = 3;

/// Times a tunnel is made from nothing to its first answer.
const STARTS: usize = 5;

/// One that takes longer has failed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Measures all of them.
///
/// # Errors
/// When one does not start or does not answer.
pub fn run(binary: &Path) -> Result<Report> {
    let peers = tunnel_peers::provide()?;
    let server = Server::start(bulk::BODY_BYTES)?;
    let mut taken: Vec<(String, Vec<[f64; COLUMNS]>)> = Vec::new();
    for turn in 0..TURNS {
        for subject in 0..5 {
            let directory = tempfile::tempdir().context("make a directory")?;
            let tunnel = match subject {
                0 => Tunnel::rathole(&peers, directory.path(), server.port, false)?,
                1 => Tunnel::rathole(&peers, directory.path(), server.port, true)?,
                2 => Tunnel::bore(&peers, server.port)?,
                3 => Tunnel::helix(binary, server.port)?,
                _ => Tunnel::none(server.port),
            };
            say(&format!("measuring {}, turn {} of {TURNS}", tunnel.name, turn + 1));
            let figures = figures(&tunnel)?;
            match taken.get_mut(subject) {
                Some((_, turns)) => turns.push(figures),
                None => taken.push((tunnel.name.clone(), vec![figures])),
            }
        }
    }
    let reachable = reachable(binary, server.port)?;
    let rows: Vec<Row> = taken.into_iter().map(row).collect();
    Ok(report(rows, &reachable))
}

/// Puts a tunnel to all of it once, and ends it as one that may say what it did.
///
/// # Errors
/// When it does not start or does not answer.
pub fn work(binary: &Path) -> Result<()> {
    let server = Server::start(bulk::BODY_BYTES)?;
    let tunnel = Tunnel::helix(binary, server.port)?;
    figures(&tunnel)?;
    tunnel.end();
    Ok(())
}

const COLUMNS: usize = 4;

/// In the order of the columns.
fn figures(tunnel: &Tunnel) -> Result<[f64; COLUMNS]> {
    let kept = load(tunnel.port, "/", CONNECTIONS, false)?;
    let fresh = load(tunnel.port, "/", CONNECTIONS, true)?;
    Ok([
        kept.per_second,
        kept.p99_ms,
        fresh.per_second,
        bulk::gbit_per_second(tunnel.port, WARM_SECONDS, SECONDS)?,
    ])
}

fn load(port: u16, path: &str, connections: usize, fresh: bool) -> Result<wrk::Load> {
    let script = if fresh { "wrk.headers[\"Connection\"] = \"close\"\n" } else { "" };
    let url = format!("http://127.0.0.1:{port}{path}");
    wrk::run(&url, script, connections, WARM_SECONDS)?;
    wrk::run(&url, script, connections, SECONDS)
}

/// From the command to the first answer by the public name.
fn reachable(binary: &Path, origin: u16) -> Result<Samples> {
    let platform = Platform::start(binary)?;
    let mut took = Vec::new();
    for number in 0..STARTS {
        let (name, begun) = (format!("start-{number}"), Instant::now());
        let what = ["http", &origin.to_string(), "--name", &name];
        let (agent, _) = tunnel_peers::agent(&platform, binary, &what)?;
        let host = format!("{name}.localhost");
        http::wait_for_page(&platform.http_address(), &host, "xxx", ANSWERS_WITHIN)?;
        took.push(begun.elapsed());
        drop(agent);
    }
    Ok(Samples::of(took))
}

fn row((subject, turns): (String, Vec<[f64; COLUMNS]>)) -> Row {
    let column = |column: usize| median(turns.iter().map(|turn| turn[column]).collect());
    Row { subject, values: (0..COLUMNS).map(column).collect() }
}

fn report(rows: Vec<Row>, reachable: &Samples) -> Report {
    let targets = targets(&rows, reachable);
    Report {
        name: "tunnel",
        title: "Tunnels",
        method: format!(
            "Load generator (`wrk`, one thread), the tunnel's server and agent and the origin \
             (nginx) share the cores, all on loopback, through a public TCP port: {CONNECTIONS} \
             kept connections with a request at a time on each, {CONNECTIONS} with a new \
             connection for every request, and {} that fetch {} MiB again and again and throw it \
             away in the kernel (`MSG_TRUNC`). {SECONDS} s each after {WARM_SECONDS} s unmeasured, \
             {TURNS} turns, the median. helix is `helix up` and `helix tcp`; what goes between them is encrypted, as \
             with rathole's noise; the other two send it in the clear.",
            bulk::CONNECTIONS,
            bulk::BODY_BYTES >> 20
        ),
        columns: vec!["kept, req/s", "p99 ms", "new, conn/s", "bulk, Gbit/s"],
        rows,
        remarks: vec![format!(
            "From `helix http` to the first answer by its name: {:.2} s at the median of {STARTS}.",
            reachable.percentile(50).as_secs_f64()
        )],
        targets,
    }
}

/// Holds for the order in [`run`]: what is better of rathole and bore in the clear.
fn targets(rows: &[Row], reachable: &Samples) -> Vec<Target> {
    let [rathole, _, bore, helix, _] = rows else { return Vec::new() };
    let rate = |figure, column: usize| Target {
        figure,
        measured: helix.values[column] / rathole.values[column].max(bore.values[column]),
        bound: Bound::AtLeast(1.0),
    };
    vec![
        rate("kept, of the better peer's", 0),
        rate("new connections, of the better peer's", 2),
        rate("bulk, of the better peer's", 3),
        Target {
            figure: "seconds from the command to the first answer",
            measured: reachable.percentile(50).as_secs_f64(),
            bound: Bound::AtMost(1.0),
        },
    ]
}
