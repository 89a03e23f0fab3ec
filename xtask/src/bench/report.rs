//! A bench's result as a table, and its section of `docs/benchmarks.md`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// A finished bench.
pub struct Report {
    /// As typed after `cargo xtask bench`; also names the section.
    pub name: &'static str,
    pub title: &'static str,
    /// What was done, and what is and is not counted.
    pub method: String,
    /// Heads of the value columns, with their units.
    pub columns: Vec<&'static str>,
    /// The first row that has a value is what the others are compared with.
    pub rows: Vec<Row>,
    /// What a subject knows besides, a paragraph each.
    pub remarks: Vec<String>,
    /// What was to be reached.
    pub targets: Vec<Target>,
}

/// A figure and the bound it must keep.
pub struct Target {
    pub figure: &'static str,
    pub measured: f64,
    pub bound: Bound,
}

/// Which side of a limit is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn words(self) -> String {
        match self {
            Bound::AtMost(limit) => format!("at most {limit:.2}"),
            Bound::AtLeast(limit) => format!("at least {limit:.2}"),
        }
    }
}

impl Target {
    /// Whether it was reached.
    pub fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(limit) => self.measured <= limit,
            Bound::AtLeast(limit) => self.measured >= limit,
        }
    }
}

/// One subject's figures, in the order of the columns; not a number where it has none.
pub struct Row {
    pub subject: String,
    pub values: Vec<f64>,
}

impl Report {
    /// The section as Markdown: the command, when and where, method, the table,
    /// each value followed by its ratio to the first row, and the targets.
    /// `load_before` is the machine's load average when the bench began, `origin`
    /// what was measured, as the end of "helix is".
    ///
    /// # Errors
    /// When the machine cannot be described.
    pub fn to_markdown(&self, load_before: f64, origin: &str) -> Result<String> {
        let (machine, method) = (machine(load_before, origin)?, &self.method);
        let mut text = format!("## {}\n\n    cargo xtask bench {}\n\n", self.title, self.name);
        text.push_str(&format!("{machine}\n\n{method}\n\n"));
        text.push_str(&self.table());
        text.push_str(&self.verdicts());
        for remark in &self.remarks {
            text.push_str(&format!("\n{remark}\n"));
        }
        Ok(text)
    }

    fn verdicts(&self) -> String {
        let mut text = String::from("\n| what must hold | measured | bound | |\n|---|--:|--:|---|");
        for target in &self.targets {
            let verdict = if target.is_met() { "met" } else { "**missed**" };
            text.push_str(&format!(
                "\n| {} | {:.2} | {} | {verdict} |",
                target.figure,
                target.measured,
                target.bound.words()
            ));
        }
        text.push('\n');
        text
    }

    fn table(&self) -> String {
        let mut text = String::from("| subject |");
        for column in &self.columns {
            text.push_str(&format!(" {column} | ratio |"));
        }
        text.push_str("\n|---|");
        text.push_str(&"--:|--:|".repeat(self.columns.len()));
        for row in &self.rows {
            text.push_str(&format!("\n| {} |", row.subject));
            for (index, value) in row.values.iter().enumerate() {
                if value.is_nan() {
                    text.push_str(" – | – |");
                    continue;
                }
                let mut column = self.rows.iter().filter_map(|row| row.values.get(index));
                let base = column.find(|value| !value.is_nan());
                let ratio = base.map_or(1.0, |base| value / base);
                text.push_str(&format!(" {value:.1} | {ratio:.2}× |"));
            }
        }
        text.push('\n');
        text
    }
}

/// The one-minute load average.
///
/// # Errors
/// When it cannot be read.
pub fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().context("understand /proc/loadavg")
}

fn machine(load_before: f64, origin: &str) -> Result<String> {
    let date = process::capture(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let kernel = process::capture(Command::new("uname").arg("-sr"))?;
    let cores = std::thread::available_parallelism().context("count the cores")?;
    let meminfo = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let memory_kib: f64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let memory_gib = memory_kib / 1024.0 / 1024.0;
    let load_after = load()?;
    Ok(format!(
        "Measured {date}: {cores} cores, {memory_gib:.0} GiB, {kernel}; load average \
         {load_before:.1} before, {load_after:.1} after, the bench's own work included. helix is \
         {origin}."
    ))
}

/// Puts a section into a document between its markers, in place of an older
/// one or else at the end.
///
/// # Errors
/// When the document cannot be read or written, or has only one marker.
pub fn replace_section(path: &Path, name: &str, section: &str) -> Result<()> {
    let document = fs::read_to_string(path).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
    let replaced = with_section(&document, name, section)
        .with_context(|| format!("update {}", path.display()))?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    fs::write(path, replaced).with_context(|| format!("write {}", path.display()))
}

fn with_section(document: &str, name: &str, section: &str) -> Result<String> {
    let begin = format!("<!-- bench:{name} -->");
    let end = format!("<!-- /bench:{name} -->");
    let block = format!("{begin}\n{}\n{end}", section.trim_end());
    match (document.find(&begin), document.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            let (before, after) = (&document[..from], &document[to + end.len()..]);
            Ok(format!("{before}{block}{after}"))
        }
        (None, None) => Ok(format!("{}\n\n{block}\n", document.trim_end())),
        _ => bail!("the markers of section {name} do not pair"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_appended_then_replaced_in_place() {
        let once = with_section("# B\n", "start", "one\n").unwrap();
        let both = with_section(&once, "memory", "two\n").unwrap();
        let again = with_section(&both, "start", "three\n").unwrap();
        let expected = "# B\n\n<!-- bench:start -->\nthree\n<!-- /bench:start -->\n\n\
                        <!-- bench:memory -->\ntwo\n<!-- /bench:memory -->\n";
        assert_eq!(again, expected);
    }

    #[test]
    fn a_lone_marker_is_an_error() {
        assert!(with_section("<!-- bench:start -->\n", "start", "x").is_err());
    }

    #[test]
    fn a_target_bounds_its_figure_from_one_side() {
        let target = |measured, bound| Target { figure: "x", measured, bound };
        assert!(target(1.5, Bound::AtMost(1.5)).is_met());
        assert!(!target(1.51, Bound::AtMost(1.5)).is_met());
        assert!(target(3.0, Bound::AtLeast(3.0)).is_met());
        assert!(!target(2.99, Bound::AtLeast(3.0)).is_met());
    }

    #[test]
    fn every_row_is_compared_with_the_first_that_has_the_figure() {
        let row = |subject: &str, values: [f64; 2]| Row {
            subject: subject.to_owned(),
            values: values.to_vec(),
        };
        let report = Report {
            name: "start",
            title: "Start",
            method: String::new(),
            columns: vec!["p50 ms", "p99 ms"],
            rows: vec![row("a", [10.0, f64::NAN]), row("b", [25.0, 30.0])],
            remarks: Vec::new(),
            targets: Vec::new(),
        };
        let expected = "| a | 10.0 | 1.00× | – | – |\n| b | 25.0 | 2.50× | 30.0 | 1.00× |\n";
        assert!(report.table().ends_with(expected), "{}", report.table());
    }
}
