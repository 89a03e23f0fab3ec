//! The programs of the system that make, check and mount file systems: started with
//! an argument vector, never through a shell, and told to speak English.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use helix_model::Reason;

use super::VolumeFailure;
use super::place::Place;

/// Of what a program says when it fails, this much is passed on.
const SAID_CHARS_MAX: usize = 400;

/// Where they are when the agent was started without a `PATH` to them.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program came to.
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) said: String,
}

/// Runs a program to its end. It holds the lock of the place it works on as its
/// standard input: should the agent be killed meanwhile, the next one waits for it.
pub(super) fn run<S: AsRef<OsStr>>(
    place: &Place,
    program: &str,
    arguments: &[S],
    reason: Reason,
) -> Result<Outcome, VolumeFailure> {
    let failed =
        |error: &std::io::Error| VolumeFailure::new(reason, format!("start {program}: {error}"));
    let output = command(program)
        .args(arguments)
        .stdin(place.lock().map_err(|error| failed(&error))?)
        .output()
        .map_err(|error| failed(&error))?;
    let said = brief(&[output.stderr, output.stdout].concat());
    Ok(Outcome { code: output.status.code(), said })
}

/// Runs a program that must succeed.
pub(super) fn must<S: AsRef<OsStr>>(
    place: &Place,
    program: &str,
    arguments: &[S],
    reason: Reason,
) -> Result<(), VolumeFailure> {
    let outcome = run(place, program, arguments, reason)?;
    if outcome.code == Some(0) {
        return Ok(());
    }
    Err(VolumeFailure::new(reason, format!("{program} failed: {}", outcome.said)))
}

/// What a program prints that only reads, or does what may be done at any time.
pub(super) fn answer(
    program: &str,
    arguments: &[&str],
    reason: Reason,
) -> Result<String, VolumeFailure> {
    let mut command = command(program);
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| VolumeFailure::new(reason, format!("start {program}: {error}")))?;
    if !output.status.success() {
        let message = format!("{program} failed: {}", brief(&output.stderr));
        return Err(VolumeFailure::new(reason, message));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("PATH", SYSTEM_PATH);
    command
}

fn brief(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").chars().take(SAID_CHARS_MAX).collect()
}

/// Whether a program is installed.
pub(super) fn is_there(program: &str) -> bool {
    SYSTEM_PATH.split(':').any(|folder| Path::new(folder).join(program).is_file())
}
