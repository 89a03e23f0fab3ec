//! Bench: starting again with a long history.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::etcd::Etcd;
use super::measure::median;
use super::report::{Bound, Report, Row, Target};
use super::server::{Place, Server};
use crate::output::say;
use crate::workspace;

/// Events, and keys of etcd's.
const COUNT: usize = 1_000_000;

/// Starts of each kind; the median counts.
const STARTS: usize = 3;

/// Nothing takes this long.
const LIMIT: Duration = Duration::from_secs(120);

/// Measures both.
///
/// # Errors
/// When a log cannot be made or a server does not start.
pub fn run(binary: &Path) -> Result<Report> {
    let rows = vec![etcd()?, helix(binary)?];
    let ratio = |column: usize| rows[1].values[column] / rows[0].values[column];
    let target =
        |figure, column| Target { figure, measured: ratio(column), bound: Bound::AtMost(1.0) };
    let targets = vec![
        target("start without a snapshot, as a multiple of etcd's", 0),
        target("start with a snapshot, as a multiple of etcd's", 1),
    ];
    Ok(Report {
        name: "startup",
        title: "Starting with a million events",
        method: format!(
            "From starting the process, after `kill -9`, until it answers: `/v1/health` of `helix \
             server`, `/health` of etcd; the median of {STARTS}. The files are in the page cache. \
             helix: a log of {COUNT} events in SQLite, written through the real append: 1,000 \
             nodes, 2,000 envs and 100,000 instances are made, then health checks fail and pass. \
             Once it folds all of it, once it begins with the snapshot it wrote itself. etcd: \
             {COUNT} keys of 160 bytes; its snapshots are part of every start, so the two columns \
             are the same start. Memory is resident after the start."
        ),
        columns: vec!["without a snapshot, ms", "with one, ms", "memory MiB"],
        rows,
        remarks: Vec::new(),
        targets,
    })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn etcd() -> Result<Row> {
    let mut etcd = Etcd::start()?;
    say(&format!("filling {}", etcd.name()));
    etcd.fill(COUNT)?;
    let mut samples = Vec::new();
    for _ in 0..STARTS {
        samples.push(ms(etcd.start_again(LIMIT)?));
    }
    let start = median(samples);
    Ok(Row { subject: etcd.name(), values: vec![start, start, etcd.resident_mib()] })
}

fn helix(binary: &Path) -> Result<Row> {
    let directory = tempfile::tempdir().context("make a directory for helix")?;
    say("writing a log for helix");
    write_log(&directory)?;
    let place = Place { directory: directory.path().to_owned(), database_url: None };
    let mut without = Vec::new();
    // It begins to write a snapshot as soon as it has started, and is killed
    // before that is done; only the last one is let finish.
    for turn in 1..=STARTS {
        let mut server = Server::start(binary, &place, LIMIT)?;
        without.push(ms(server.ready_after));
        if turn == STARTS {
            server.wait_for_snapshot(LIMIT)?;
        }
    }
    let mut with = Vec::new();
    let mut memory_mib = 0.0;
    for _ in 0..STARTS {
        let server = Server::start(binary, &place, LIMIT)?;
        with.push(ms(server.ready_after));
        memory_mib = server.resident_mib();
    }
    let values = vec![median(without), median(with), memory_mib];
    Ok(Row { subject: "helix".to_owned(), values })
}

/// One program knows what happens in a cluster, the other how a log is written.
fn write_log(directory: &TempDir) -> Result<()> {
    let wanted = ["--release", "--workspace", "--bin", "helix-sim", "--example", "append"];
    let programs = workspace::build(&mut workspace::cargo(), &wanted)?;
    let program = |name: &str| {
        let found = programs.iter().find(|path| path.file_name().is_some_and(|it| it == name));
        found.with_context(|| format!("cargo built no `{name}`"))
    };
    let mut telling = Command::new(program("helix-sim")?);
    telling.args(["--bench-history", &COUNT.to_string()]);
    let mut telling = telling.stdout(Stdio::piped()).spawn().context("tell a history")?;
    let told = telling.stdout.take().context("tell a history")?;
    let mut appending = Command::new(program("append")?);
    let appended = appending.arg(directory.path().join("log")).stdin(told).status();
    // Ended by now, or about to for want of a reader.
    let told = telling.wait().context("tell a history")?;
    if !appended.context("append a history")?.success() || !told.success() {
        bail!("the log could not be written");
    }
    Ok(())
}
