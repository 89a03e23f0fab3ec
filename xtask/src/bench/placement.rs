//! Bench: placing instances in a cluster that exists in the state only.

use anyhow::{Context, Result};

use super::report::{Bound, Report, Row, Target};
use crate::{process, workspace};

/// The package whose program has this bench.
const PACKAGE: &str = "helix-sim";

/// How many nodes, one process each.
const SIZES: [&str; 2] = ["1000", "10000"];

/// Runs it, optimised, and reads its figures.
///
/// # Errors
/// When it cannot be built, or not every instance was placed.
pub fn run() -> Result<Report> {
    let root = workspace::root();
    let mut build = workspace::cargo();
    process::run(build.args(["build", "--release", "--package", PACKAGE]).current_dir(&root))?;
    let rows = SIZES.iter().map(|nodes| row(&measure(nodes)?)).collect::<Result<Vec<_>>>()?;
    let largest = rows.last().context("read the figures")?.values.clone();
    let figure = |index: usize| largest.get(index).copied().context("read the figures");
    let target = |figure, measured, bound| Target { figure, measured, bound };
    let targets = vec![
        target("placements/s, 10,000 nodes", figure(0)?, Bound::AtLeast(50_000.0)),
        target("look after one change, p99 µs, 10,000 nodes", figure(3)?, Bound::AtMost(10_000.0)),
    ];
    Ok(Report {
        name: "placement",
        title: "Placing instances",
        method: METHOD.to_owned(),
        columns: vec![
            "placements/s",
            "placements/s, encoded",
            "look p50 µs",
            "look p99 µs",
            "MiB per 10,000 instances",
        ],
        rows,
        remarks: vec![PUBLISHED.to_owned()],
        targets,
    })
}

const METHOD: &str = "The real core without its shell: 2,000 envs of 50 instances each are asked \
    for, then the reconcilers' proposals are carried out until all 100,000 are placed. A placement \
    is all of it: noticing that an instance is missing, choosing the node, deciding, folding the \
    event into the state; `encoded` adds the receipt and the event as the log takes them. No disk \
    is written and no node answers. All of it is one thread's work and times are its CPU time, so \
    that others on the machine do not count. A look is what the reconciler does after one change: one \
    instance of the 100,000, all running, changes its phase. Memory is what the process grew by \
    while placing.";

const PUBLISHED: &str = "Published, not measured here: Nomad about 1,500 placements/s \
    (HashiCorp's two-million-container challenge, 2020, on real machines over a network). That \
    figure includes what this one leaves out, so it is an orientation and not a ratio.";

fn measure(nodes: &str) -> Result<String> {
    let mut bench = workspace::cargo();
    bench.args(["run", "--quiet", "--release", "--package", PACKAGE, "--"]);
    process::capture(bench.args(["--bench-placement", nodes]).current_dir(workspace::root()))
}

fn row(line: &str) -> Result<Row> {
    let (nodes, figures) = line.split_once(' ').context("read the figures")?;
    let values = figures.split(' ').map(str::parse).collect::<Result<_, _>>();
    let values = values.with_context(|| format!("understand `{line}`"))?;
    Ok(Row { subject: format!("{nodes} nodes"), values })
}
