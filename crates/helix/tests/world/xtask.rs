//! What the project's own chores make for tests.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `cargo xtask` with these words; what it prints, and what it says meanwhile if that
/// is not shown already.
pub fn run(words: &[&str], stderr: Stdio) -> (String, String) {
    let output = command(words)
        .stderr(stderr)
        .output()
        .unwrap_or_else(|error| panic!("run cargo xtask {words:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "cargo xtask {words:?}: {said}");
    (String::from_utf8_lossy(&output.stdout).trim().to_owned(), said)
}

/// `cargo xtask` with these words, not yet started.
pub fn command(words: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        // They are about this test, and would tell cargo that xtask changed.
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
        .args(["run", "--quiet", "--package", "xtask", "--"])
        .args(words)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command
}
