//! The programs of the system that make, check and mount file systems: started with
//! an argument vector, never through a shell, and told to speak English.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

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
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("PATH", SYSTEM_PATH)
        .stdin(place.lock().map_err(|error| failed(&error))?)
        .output()
        .map_err(|error| failed(&error))?;
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
    Ok(Outcome { code: output.status.code(), said: said.chars().take(SAID_CHARS_MAX).collect() })
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

/// Whether a program is installed.
pub(super) fn is_there(program: &str) -> bool {
    SYSTEM_PATH.split(':').any(|folder| Path::new(folder).join(program).is_file())
}
