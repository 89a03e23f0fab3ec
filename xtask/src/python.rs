//! Programs from PyPI that the tests use, in a virtual environment of their own
//! below `target/xtask`.
//!
//! `xtask/python-requirements.txt` names them and everything they need, each by
//! version. The environment's directory is named after that file's content, so
//! another list makes another environment; a mark is written once it is whole.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::output::say;
use crate::{packages, process, workspace};

const REQUIREMENTS: &str = include_str!("../python-requirements.txt");

/// Written last.
const MARK: &str = "complete";

/// Enough of the digest to tell lists apart.
const DIGEST_DIGITS: usize = 12;

/// Installs what is not there yet.
///
/// # Errors
/// When there is no Python, or PyPI cannot be reached.
pub fn provide() -> Result<()> {
    let directory = directory()?;
    if directory.join(MARK).exists() {
        return Ok(());
    }
    provide_venv()?;
    say(&format!("installing xtask/python-requirements.txt into {}", directory.display()));
    // `--clear`, because an interrupted attempt may have left half of it.
    process::output(python().args(["-m", "venv", "--clear"]).arg(&directory))?;
    let requirements = directory.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).context("write the list of requirements")?;
    let mut pip = Command::new(directory.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
    process::output(pip.arg(&requirements))?;
    fs::write(directory.join(MARK), []).context("mark the environment as complete")
}

/// Where its programs are.
///
/// # Errors
/// When cargo cannot say where its target directory is.
pub fn programs() -> Result<PathBuf> {
    Ok(directory()?.join("bin"))
}

fn directory() -> Result<PathBuf> {
    let digest = Sha256::digest(REQUIREMENTS);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(workspace::cache_dir()?.join(format!("python-{}", &digits[..DIGEST_DIGITS])))
}

/// Debian's Python comes without what makes environments.
fn provide_venv() -> Result<()> {
    let probe: [&OsStr; 2] = ["-c".as_ref(), "import ensurepip, venv".as_ref()];
    if process::output(python().args(probe)).is_ok() {
        return Ok(());
    }
    packages::refresh_index()?;
    packages::install(&["python3-venv"]).context("by hand: apt-get install python3-venv")
}

fn python() -> Command {
    Command::new("python3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned() {
        let lines = REQUIREMENTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            assert!(line.split_once("==").is_some(), "`{line}` names no version");
        }
    }
}
