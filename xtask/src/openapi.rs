//! `cargo xtask openapi`: writes the API's description to `docs/openapi.json`.
//!
//! The description is made by the server from its own table of routes; the test
//! that compares the two also writes, when told to.

use anyhow::Result;

use crate::{process, workspace};

/// Writes the document.
///
/// # Errors
/// When the server does not build or a route is not described.
pub fn run() -> Result<()> {
    let mut command = workspace::cargo();
    command
        .args(["test", "--package", "helix-server", "--lib", "http::openapi"])
        .env("HELIX_WRITE_OPENAPI", "1")
        .current_dir(workspace::root());
    process::run(&mut command)
}
