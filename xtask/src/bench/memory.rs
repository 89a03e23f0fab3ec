//! Bench: what running instances costs besides the instances.

use std::path::Path;

use anyhow::Result;

use super::report::{Bound, Report, Row, Target};
use super::subject::{self, Subject};
use crate::output::say;
use crate::processes::Memory;

const INSTANCES: usize = 20;

/// Measures every subject that keeps processes of its own.
///
/// # Errors
/// When a subject fails.
pub fn run(binary: &Path) -> Result<Report> {
    let mut rows = Vec::new();
    let mut remarks = Vec::new();
    for prepare in subject::ALL {
        let mut subject = prepare(binary)?;
        // Nothing to compare with: it leaves no process behind.
        if subject.overhead()?.is_empty() {
            continue;
        }
        say(&format!("measuring {}", subject.name()));
        rows.push(measure(subject.as_mut(), &mut remarks)?);
    }
    Ok(Report {
        name: "memory",
        title: "Memory besides the instances",
        method: format!(
            "Summed over every process of the subject from `/proc/PID/smaps_rollup`, processes \
             inside instances left out: with no instance, and with {INSTANCES} that wait. RSS \
             counts a shared page in every process that maps it, PSS only once."
        ),
        columns: vec![
            "idle RSS MiB",
            "idle PSS MiB",
            "20 instances RSS MiB",
            "20 instances PSS MiB",
        ],
        targets: targets(&rows),
        rows,
        remarks,
    })
}

/// Holds for the order of [`subject::ALL`] without what leaves no process.
fn targets(rows: &[Row]) -> Vec<Target> {
    let [_, docker, helix] = rows else {
        return Vec::new();
    };
    vec![
        Target {
            figure: "the whole of `helix up`, idle, RSS in MiB",
            measured: helix.values[0],
            bound: Bound::AtMost(64.0),
        },
        Target {
            figure: "with 20 instances, RSS as a share of docker's",
            measured: helix.values[2] / docker.values[2],
            bound: Bound::AtMost(1.0 / 3.0),
        },
    ]
}

fn measure(subject: &mut dyn Subject, remarks: &mut Vec<String>) -> Result<Row> {
    let idle = Memory::of(&subject.overhead()?);
    subject.start(INSTANCES)?;
    let busy = Memory::of(&subject.overhead()?);
    remarks.extend(subject.remark()?);
    subject.clear()?;
    let values = [idle.rss_kib, idle.pss_kib, busy.rss_kib, busy.pss_kib];
    Ok(Row {
        subject: subject.name(),
        values: values.iter().map(|kib| *kib as f64 / 1024.0).collect(),
    })
}
