//! `cargo xtask test`: everything a change must pass, in the order that fails
//! soonest, with a summary at the end.
//!
//! All cargo steps select the whole workspace and narrow by target, never by
//! package: another selection would mean other dependency features, and
//! everything would be compiled twice.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::output::{result, say};
use crate::{packages, process, python, workspace};

/// The package whose integration tests drive the built binary.
const END_TO_END_PACKAGE: &str = "helix";

/// The one of them that holds the API against its description with a fuzzer, a
/// step of its own.
const CONFORMANCE_TEST: &str = "conformance";

/// Another: it boots a virtual machine.
const VM_TEST: &str = "vm";

/// And one more: it builds the images of `deploy/` and runs them by an engine of its own.
const IMAGES_TEST: &str = "images";

/// End-to-end tests run whole platforms; more at a time than this on two cores
/// makes their deadlines a matter of luck.
const END_TO_END_THREADS: usize = 2;

/// What to run of the suite.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Run only this step; may be given several times.
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Leave this step out; may be given several times.
    #[arg(long, value_name = "STEP")]
    skip: Vec<Step>,
}

/// One row of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// Install or unpack what the tests need.
    Packages,
    /// Formatting.
    Fmt,
    /// Lints, warnings denied.
    Clippy,
    /// The binary and every test.
    Build,
    /// Unit, property and tidy tests.
    Unit,
    /// Examples in the documentation comments.
    Doc,
    /// The built binary as a user would run it.
    EndToEnd,
    /// The API held against docs/openapi.json by a fuzzer.
    Conformance,
    /// The images of deploy/ in containers.
    Images,
    /// The built binary in a virtual machine with a kernel of its own.
    Vm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// Not run because the build failed.
    Skipped,
}

struct Row {
    step: Step,
    outcome: Outcome,
    took: Duration,
}

/// Runs the chosen steps; `Ok(false)` when any failed.
///
/// # Errors
/// When the options choose nothing.
pub fn run(options: &Options) -> Result<bool> {
    let steps: Vec<Step> =
        Step::value_variants().iter().copied().filter(|step| options.chooses(*step)).collect();
    if steps.is_empty() {
        bail!("`--only` and `--skip` leave no step to run");
    }
    let rows = run_steps(&steps, perform);
    for line in summary(&rows) {
        result(&line);
    }
    Ok(rows.iter().all(|row| row.outcome == Outcome::Passed))
}

impl Options {
    fn chooses(&self, step: Step) -> bool {
        (self.only.is_empty() || self.only.contains(&step)) && !self.skip.contains(&step)
    }
}

/// Goes on after a failure, so that one run tells all; but what was not built
/// cannot be tested.
fn run_steps(steps: &[Step], perform: impl Fn(Step) -> Result<()>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for &step in steps {
        let not_built =
            rows.iter().any(|row| row.step == Step::Build && row.outcome == Outcome::Failed);
        let started = Instant::now();
        let outcome = if not_built { Outcome::Skipped } else { attempt(step, &perform) };
        rows.push(Row { step, outcome, took: started.elapsed() });
    }
    rows
}

fn attempt(step: Step, perform: &impl Fn(Step) -> Result<()>) -> Outcome {
    say(&format!("\n==> {}", name(step)));
    match perform(step) {
        Ok(()) => Outcome::Passed,
        Err(error) => {
            say(&format!("{}: {error:#}", name(step)));
            Outcome::Failed
        }
    }
}

fn perform(step: Step) -> Result<()> {
    match step {
        Step::Packages => {
            packages::provide(packages::FOR_TESTS)?;
            python::provide()
        }
        Step::Fmt => cargo(&["fmt", "--all", "--check"], &[]),
        Step::Clippy => cargo(
            &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
            &[],
        ),
        Step::Build => cargo(&["test", "--workspace", "--locked", "--no-run"], &[]),
        Step::Unit => unit(),
        Step::Doc => cargo(&["test", "--workspace", "--locked", "--doc"], &[]),
        Step::EndToEnd => end_to_end(),
        Step::Conformance => alone(CONFORMANCE_TEST),
        Step::Images => {
            packages::provide(packages::FOR_IMAGES)?;
            alone(IMAGES_TEST)
        }
        Step::Vm => {
            packages::provide(packages::FOR_VM)?;
            alone(VM_TEST)
        }
    }
}

/// One integration test that says meanwhile how far it is.
fn alone(test: &str) -> Result<()> {
    let selection = ["--".to_owned(), "--nocapture".to_owned()];
    cargo(&["test", "--workspace", "--locked", "--test", test], &selection)
}

fn unit() -> Result<()> {
    let integration = integration_tests(|package, _| package != END_TO_END_PACKAGE)?;
    let arguments = ["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins"];
    cargo(&arguments, &integration)
}

fn end_to_end() -> Result<()> {
    let tests = integration_tests(|package, test| {
        package == END_TO_END_PACKAGE && ![CONFORMANCE_TEST, IMAGES_TEST, VM_TEST].contains(&test)
    })?;
    if tests.is_empty() {
        bail!("package {END_TO_END_PACKAGE} has no end-to-end test");
    }
    let mut selection = tests;
    selection.extend(["--".to_owned(), format!("--test-threads={END_TO_END_THREADS}")]);
    cargo(&["test", "--workspace", "--locked", "--no-fail-fast"], &selection)
}

/// `--test NAME` for every integration test that `wanted` accepts, by package and
/// name.
fn integration_tests(wanted: impl Fn(&str, &str) -> bool) -> Result<Vec<String>> {
    let metadata = workspace::metadata(&workspace::root())?;
    let names = metadata
        .packages
        .iter()
        .flat_map(|package| package.targets.iter().map(|target| (&package.name, target)))
        .filter(|(_, target)| target.kind.iter().any(|kind| kind == "test"))
        .filter(|(package, target)| wanted(package, &target.name))
        .map(|(_, target)| target.name.clone());
    Ok(names.flat_map(|name| ["--test".to_owned(), name]).collect())
}

fn cargo(arguments: &[&str], more: &[String]) -> Result<()> {
    let mut command: Command = workspace::cargo();
    command.args(arguments).args(more).current_dir(workspace::root());
    command.env("PATH", packages::search_path()?);
    let typed: Vec<&str> =
        arguments.iter().copied().chain(more.iter().map(String::as_str)).collect();
    say(&format!("    cargo {}", typed.join(" ")));
    process::run(&mut command)
}

fn name(step: Step) -> String {
    step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn summary(rows: &[Row]) -> Vec<String> {
    let mut lines = vec![String::new(), format!("{:<12} {:<8} {:>8}", "step", "result", "seconds")];
    for row in rows {
        let outcome = match row.outcome {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        let seconds = row.took.as_secs_f64();
        lines.push(format!("{:<12} {outcome:<8} {seconds:>8.1}", name(row.step)));
    }
    let total: f64 = rows.iter().map(|row| row.took.as_secs_f64()).sum();
    lines.push(format!("{:<12} {:<8} {total:>8.1}", "total", ""));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(steps: &[Step], fails: Step) -> Vec<Outcome> {
        let perform = |step| {
            if step == fails { bail!("as asked") } else { Ok(()) }
        };
        run_steps(steps, perform).iter().map(|row| row.outcome).collect()
    }

    #[test]
    fn a_failed_lint_does_not_hide_failed_tests() {
        let steps = [Step::Clippy, Step::Build, Step::Unit];
        let expected = [Outcome::Failed, Outcome::Passed, Outcome::Passed];
        assert_eq!(outcomes(&steps, Step::Clippy), expected);
    }

    #[test]
    fn nothing_is_tested_that_was_not_built() {
        let steps = [Step::Fmt, Step::Build, Step::Unit, Step::EndToEnd];
        let expected = [Outcome::Passed, Outcome::Failed, Outcome::Skipped, Outcome::Skipped];
        assert_eq!(outcomes(&steps, Step::Build), expected);
    }

    #[test]
    fn only_and_skip_choose_steps() {
        let options = Options { only: vec![Step::Unit, Step::Doc], skip: vec![Step::Doc] };
        assert!(options.chooses(Step::Unit));
        assert!(!options.chooses(Step::Doc));
        assert!(!options.chooses(Step::Fmt));
        assert!(Options::default().chooses(Step::EndToEnd));
    }

    #[test]
    fn the_tidy_test_is_part_of_the_unit_step() {
        let tests = integration_tests(|package, _| package != END_TO_END_PACKAGE).unwrap();
        assert!(tests.contains(&"tidy".to_owned()), "{tests:?}");
    }
}
