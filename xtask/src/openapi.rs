//! `cargo xtask openapi`: writes the API's description to `docs/openapi.json`, and
//! the schema of state files to `docs/state-file.schema.json`.
//!
//! Each is made from the code it describes; the test that compares the two also
//! writes, when told to.

use anyhow::Result;

use crate::{process, workspace};

/// Writes the documents.
///
/// # Errors
/// When the server does not build or a route is not described.
pub fn run() -> Result<()> {
    let mut command = workspace::cargo();
    command
        .args(["test", "--workspace", "--lib", "that_is_kept_is_this_one"])
        .env("HELIX_WRITE_OPENAPI", "1")
        .current_dir(workspace::root());
    process::run(&mut command)
}
