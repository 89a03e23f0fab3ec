//! Bench: what running instances costs besides the instances.

use anyhow::Result;

use super::processes::Memory;
use super::report::{Report, Row};
use super::subject::{self, Subject};
use crate::output::say;

const INSTANCES: usize = 20;

/// Measures every subject that keeps processes of its own.
///
/// # Errors
/// When a subject fails.
pub fn run() -> Result<Report> {
    let mut rows = Vec::new();
    for prepare in subject::ALL {
        let mut subject = prepare()?;
        // Nothing to compare with: it leaves no process behind.
        if subject.overhead()?.is_empty() {
            continue;
        }
        say(&format!("measuring {}", subject.name()));
        rows.push(measure(subject.as_mut())?);
    }
    Ok(Report {
        name: "memory",
        title: "Memory besides the instances",
        method: format!(
            "Summed over every process of the subject from `/proc/PID/smaps_rollup`, processes \
             inside instances left out: with no instance, and with {INSTANCES} that sleep. RSS \
             counts a shared page in every process that maps it, PSS only once."
        ),
        columns: vec![
            "idle RSS MiB",
            "idle PSS MiB",
            "20 instances RSS MiB",
            "20 instances PSS MiB",
        ],
        rows,
    })
}

fn measure(subject: &mut dyn Subject) -> Result<Row> {
    let idle = Memory::of(&subject.overhead()?);
    subject.start(INSTANCES)?;
    let busy = Memory::of(&subject.overhead()?);
    subject.clear()?;
    let values = [idle.rss_kib, idle.pss_kib, busy.rss_kib, busy.pss_kib];
    Ok(Row {
        subject: subject.name(),
        values: values.iter().map(|kib| *kib as f64 / 1024.0).collect(),
    })
}
