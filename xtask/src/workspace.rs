//! What this package knows about the workspace it serves: where it is, what
//! `cargo metadata` says is in it, and how to build the binary users get.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// The part of `cargo metadata --no-deps` that the chores read.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// The packages of the workspace, none from outside.
    pub packages: Vec<Package>,
    /// Where cargo puts what it builds.
    pub target_directory: PathBuf,
}

/// One package of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

/// A dependency as the package's manifest declares it.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
}

/// A library, binary or test of a package.
#[derive(Debug, Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
}

/// The workspace's root directory.
pub fn root() -> PathBuf {
    // This package sits directly below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Asks cargo about the workspace at `root`.
///
/// # Errors
/// When cargo fails, or answers in a form this does not know.
pub fn metadata(root: &Path) -> Result<Metadata> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let json = process::capture(cargo().args(arguments).current_dir(root))?;
    serde_json::from_str(&json).context("read the answer of `cargo metadata`")
}

/// The cargo that runs this chore.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo sets these for the process it runs; handed on, they would tell the
    // next cargo that it is somebody else's, and it would build things anew.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(variable);
        }
    }
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// The commit that is checked out, in short, with a mark when files differ from
/// it.
///
/// # Errors
/// When git cannot tell.
pub fn commit() -> Result<String> {
    let arguments = ["describe", "--always", "--dirty", "--exclude", "*"];
    process::capture(Command::new("git").args(arguments).current_dir(root()))
}

/// Where the chores keep downloads and unpacked packages between runs.
///
/// # Errors
/// When cargo cannot say where its target directory is.
pub fn cache_dir() -> Result<PathBuf> {
    Ok(metadata(&root())?.target_directory.join("xtask"))
}

/// Has a cargo build `helix` with the profile of packages and returns the binary's path.
///
/// # Errors
/// When the build fails or produces no executable.
pub fn build_dist_binary(cargo: &mut Command) -> Result<PathBuf> {
    let arguments = ["--profile", "dist", "--package", "helix", "--bin", "helix", "--locked"];
    build(cargo, &arguments)?.pop().context("cargo built no `helix`")
}

/// Has a cargo build something and returns the paths of its programs, in no order.
///
/// # Errors
/// When the build fails.
pub fn build(cargo: &mut Command, arguments: &[&str]) -> Result<Vec<PathBuf>> {
    cargo
        .arg("build")
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stderr(std::process::Stdio::inherit())
        .current_dir(root());
    let messages = process::capture(cargo)?;
    Ok(messages.lines().filter_map(executable).collect())
}

fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}
