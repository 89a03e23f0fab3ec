//! `helix validate`: the verdict on a manifest, the same the server would give.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::package;
use crate::session::Session;
use crate::settings::MANIFEST_FILE;

/// Check a manifest without deploying
///
/// Prints what it means with every default in place (as JSON with --json).
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix validate\n  helix validate examples/hello\n  helix validate other.toml --json"
)]
pub(crate) struct ValidateArgs {
    /// Manifest, or the folder it is in
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

pub(crate) fn run(session: &mut Session<'_>, args: &ValidateArgs) -> Result<u8> {
    let given = session.settings.directory.join(&args.path);
    let path = if given.is_dir() { given.join(MANIFEST_FILE) } else { given };
    if !path.exists() {
        return Err(Failure::usage(
            format!("there is no manifest at {}", path.display()),
            "a folder without one is deployed with defaults; `helix deploy` works without it",
        ));
    }
    let manifest = package::read_manifest(&path)?.parsed;
    let document =
        json!({ "valid": true, "path": path, "manifest": manifest, "hash": manifest.hash() });
    session.ui.result(&document, |style| {
        let processes: Vec<&str> =
            manifest.processes.keys().map(helix_model::Name::as_str).collect();
        let (processes, endpoints) = (processes.join(", "), manifest.endpoints.len());
        let shown = path.display();
        format!("{} {shown} is valid: processes {processes}; {endpoints} endpoint(s)", style.tick())
    })?;
    Ok(0)
}
