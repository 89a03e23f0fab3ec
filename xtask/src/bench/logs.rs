//! Bench: a program that writes lines as fast as they are taken from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::docker::{Docker, Network};
use super::platform::Platform;
use super::report::{Bound, Report, Row, Target};
use super::rootfs;
use crate::output::say;

/// How often the program writes its file of lines.
const TIMES: usize = 10;

/// What it writes in all.
const LINES: usize = rootfs::LINES * TIMES;

/// Turns; the median counts.
const TURNS: usize = 3;

/// Writes everything, then does something else.
fn command(then: &str) -> Vec<String> {
    let files = " /lines".repeat(TIMES);
    let script = format!("/bin/busybox cat{files}; {then}");
    ["/bin/busybox", "sh", "-c", &script].map(str::to_owned).to_vec()
}

/// Measures both.
///
/// # Errors
/// When one does not run the program, or has lost a line.
pub fn run(binary: &Path) -> Result<Report> {
    let rows = vec![docker()?, helix(binary)?];
    let rate = rows[1].values[0];
    Ok(Report {
        name: "logs",
        title: "Taking what a program writes",
        method: format!(
            "One instance writes {LINES} lines of {} bytes to standard output, {TURNS} times; the \
             median. From the order to start it until the last line was taken: docker until the \
             container has ended, helix until the instance has begun to serve, which its program \
             does after the last line. What each has kept of the lines is then counted, and not \
             one may be missing: docker keeps all in its default `json-file`, helix the latest in \
             segments that count what was before them.",
            rootfs::LINE_BYTES
        ),
        columns: vec!["MB/s", "lines/s"],
        targets: vec![
            Target { figure: "MB/s on two cores", measured: rate, bound: Bound::AtLeast(100.0) },
            Target {
                figure: "as a multiple of docker's",
                measured: rate / rows[0].values[0],
                bound: Bound::AtLeast(1.0),
            },
        ],
        rows,
        remarks: Vec::new(),
    })
}

fn values(mut took: Vec<Duration>) -> Vec<f64> {
    took.sort_unstable();
    let seconds = took.get(took.len() / 2).copied().unwrap_or_default().as_secs_f64();
    let bytes = (LINES * rootfs::LINE_BYTES) as f64;
    vec![bytes / 1e6 / seconds, LINES as f64 / seconds]
}

fn docker() -> Result<Row> {
    let docker = Docker::prepare(Network::None)?;
    let root = tempfile::tempdir().context("make a directory")?;
    rootfs::write_with_lines(root.path())?;
    docker.import_root("lines", &command("true"), root.path())?;
    let mut took = Vec::new();
    for turn in 0..TURNS {
        say(&format!("docker, turn {}", turn + 1));
        let name = format!("lines-{turn}");
        let begun = Instant::now();
        docker.run("lines", &name)?;
        docker.wait(&name)?;
        took.push(begun.elapsed());
        let kept = fs::read(docker.log_path(&name)?).context("read docker's log")?;
        let lines = kept.iter().filter(|byte| **byte == b'\n').count();
        ensure!(lines == LINES, "docker kept {lines} of {LINES} lines");
        docker.remove(&[name])?;
    }
    Ok(Row { subject: format!("docker {} run, json-file", docker.version()), values: values(took) })
}

fn helix(binary: &Path) -> Result<Row> {
    let platform = Platform::start(binary)?;
    let root = tempfile::tempdir().context("make a directory")?;
    rootfs::write_with_lines(root.path())?;
    let serve = format!("exec /bin/busybox httpd -f -p {} -h /www", rootfs::HTTP_PORT);
    let image = platform.push_root(root.path(), command(&serve))?;
    let mut took = Vec::new();
    for turn in 0..TURNS {
        say(&format!("helix, turn {}", turn + 1));
        let begun = Instant::now();
        let receipt = platform.deploy(&image)?;
        platform.wait_until_settled(&receipt)?;
        took.push(begun.elapsed());
        platform.wait_for_count(1)?;
        let counted = counted(&platform.data_dir().join("node"))?;
        ensure!(counted == LINES, "helix counted {counted} of {LINES} lines");
    }
    Ok(Row { subject: "helix".to_owned(), values: values(took) })
}

/// How many lines the one instance has written, by the head of its last segment
/// and the lines after it (`crates/runtime/src/logs`). What could not be written
/// is not in that number.
fn counted(data_dir: &Path) -> Result<usize> {
    let segment = newest_segment(&data_dir.join("instances")).context("find the log")?;
    let text = fs::read_to_string(segment).context("read the log")?;
    let mut count = 0;
    for record in text.lines() {
        match record.split('\t').collect::<Vec<_>>()[..] {
            [_, _, "n", before] => count = before.parse().context("read a segment's head")?,
            [_, _, "d", _] => {}
            _ => count += 1,
        }
    }
    Ok(count)
}

fn newest_segment(instances: &Path) -> Option<PathBuf> {
    let logs = fs::read_dir(instances).ok()?.flatten().map(|entry| entry.path().join("log"));
    let segments = logs.filter_map(|log| fs::read_dir(log).ok()).flatten().flatten();
    let is_plain = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let plain = segments.map(|entry| entry.path()).filter(is_plain);
    plain.max_by_key(|path| fs::metadata(path).and_then(|file| file.modified()).ok())
}
