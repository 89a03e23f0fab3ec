//! Records that an authority looks for in DNS (RFC 8555 §8.4), made and removed by a
//! program of the operator's: each DNS has a way of its own to do it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// How long the program may take: some wait until all name servers have the record.
const HOOK_WAIT: Duration = Duration::from_secs(150);

/// Of what it says when it fails, what is passed on.
const SAID_CHARS_MAX: usize = 200;

/// Below which name of a domain the authority looks.
const LABEL: &str = "_acme-challenge";

/// Why the record is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("the DNS hook {path} cannot be started: {source}")]
    Start { path: PathBuf, source: std::io::Error },
    #[error("the DNS hook {path} takes too long")]
    Slow { path: PathBuf },
    #[error("the DNS hook {path} failed ({status}): {said}")]
    Failed { path: PathBuf, status: std::process::ExitStatus, said: String },
}

/// What the program is to do.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Make a record, beside others of the name, and return once it can be seen.
    Set,
    /// Remove it.
    Remove,
}

/// A TXT record.
pub(super) struct Record {
    name: String,
    value: String,
}

impl Record {
    /// What proves a domain.
    pub(super) fn of(domain: &str, value: String) -> Record {
        Record { name: format!("{LABEL}.{domain}"), value }
    }
}

/// Runs the program as `PROGRAM set|remove NAME VALUE`. It ends with this future.
pub(super) async fn run(path: &Path, act: Act, record: &Record) -> Result<(), HookError> {
    let act = match act {
        Act::Set => "set",
        Act::Remove => "remove",
    };
    let started = Command::new(path)
        .args([act, &record.name, &record.value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = started.map_err(|source| HookError::Start { path: path.to_owned(), source })?;
    let ended = timeout(HOOK_WAIT, child.wait_with_output()).await;
    let ended = ended.map_err(|_| HookError::Slow { path: path.to_owned() })?;
    let output = ended.map_err(|source| HookError::Start { path: path.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().chars().take(SAID_CHARS_MAX).collect();
    Err(HookError::Failed { path: path.to_owned(), status: output.status, said })
}
