//! Bench: starting one instance, and twenty at once, image present.

use std::path::Path;

use anyhow::Result;

use super::measure::Samples;
use super::report::{Bound, Report, Row, Target};
use super::subject::{self, Subject};
use crate::output::say;

/// Enough for a p99 that is not simply the slowest.
const ONE_TIMES: usize = 100;

const MANY: usize = 20;
const MANY_TIMES: usize = 10;

/// Measures every subject, one after the other.
///
/// # Errors
/// When a subject fails.
pub fn run(binary: &Path) -> Result<Report> {
    let mut rows = Vec::new();
    let mut remarks = Vec::new();
    for prepare in subject::ALL {
        let mut subject = prepare(binary)?;
        say(&format!("measuring {}", subject.name()));
        rows.push(measure(subject.as_mut())?);
        remarks.extend(subject.remark()?);
    }
    Ok(Report {
        name: "start",
        title: "Starting instances",
        method: format!(
            "From the command to its return, when the instance's process runs: one instance, \
             {ONE_TIMES} times, and {MANY} at the same time, {MANY_TIMES} times. The image, one \
             static busybox, is present. runc sets up no network and keeps no supervisor. helix: \
             from the API request to the event that the instance has answered its health check at \
             its own address, two durable log entries included."
        ),
        columns: vec!["one, p50 ms", "one, p99 ms", "20 at once, p50 ms"],
        targets: targets(&rows),
        rows,
        remarks,
    })
}

/// Holds for the order of [`subject::ALL`].
fn targets(rows: &[Row]) -> Vec<Target> {
    let [runc, _, docker, helix] = rows else {
        return Vec::new();
    };
    vec![
        Target {
            figure: "one instance, with address and health check, as a multiple of `runc run`",
            measured: helix.values[0] / runc.values[0],
            bound: Bound::AtMost(1.5),
        },
        Target {
            figure: "20 at once, as a share of `docker run` with an address",
            measured: helix.values[2] / docker.values[2],
            bound: Bound::AtMost(0.25),
        },
    ]
}

fn measure(subject: &mut dyn Subject) -> Result<Row> {
    // Once unmeasured: the first start reads everything from the disk.
    subject.start(1)?;
    subject.clear()?;
    let mut subject = subject;
    let one = Samples::take(ONE_TIMES, &mut subject, |it| it.start(1), |it| it.clear())?;
    let many = Samples::take(MANY_TIMES, &mut subject, |it| it.start(MANY), |it| it.clear())?;
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
    Ok(Row {
        subject: subject.name(),
        values: vec![ms(one.percentile(50)), ms(one.percentile(99)), ms(many.percentile(50))],
    })
}
