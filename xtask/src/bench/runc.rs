//! Peer: the bare runtime. No image store, no network set up, no supervisor;
//! the floor for anything that uses namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::rootfs;
use super::subject::{Subject, at_once};
use crate::{packages, process};

/// Containers of one bundle, under a state directory of their own.
pub struct Runc {
    program: PathBuf,
    version: String,
    directory: TempDir,
    running: Vec<String>,
    started: usize,
}

impl Runc {
    /// Writes the bundle.
    ///
    /// # Errors
    /// When runc is not there or the bundle cannot be written.
    pub fn prepare() -> Result<Self> {
        let program = packages::find("runc")?.context("find runc")?;
        let directory = tempfile::tempdir().context("make a directory for runc")?;
        rootfs::write(&directory.path().join("bundle/rootfs"), "runc\n")?;
        let config = serde_json::to_vec(&config()).context("write the bundle's config")?;
        fs::write(directory.path().join("bundle/config.json"), config)
            .context("write the bundle's config")?;
        let said = process::capture(Command::new(&program).arg("--version"))?;
        let version = said.lines().next().unwrap_or_default();
        let version = version.trim_start_matches("runc version ").to_owned();
        Ok(Self { program, version, directory, running: Vec::new(), started: 0 })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.directory.path().join("state"));
        command
    }

    fn start_one(&self, name: &str) -> Result<()> {
        let mut command = self.command();
        command.args(["run", "--detach", "--bundle"]);
        command.arg(self.directory.path().join("bundle")).arg(name);
        // Not captured: the container inherits these and would hold a pipe open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        process::run(&mut command)
    }
}

impl Subject for Runc {
    fn name(&self) -> String {
        format!("runc {} run (no network)", self.version)
    }

    fn start(&mut self, count: usize) -> Result<()> {
        let names: Vec<String> =
            (self.started..self.started + count).map(|number| format!("bench-{number}")).collect();
        self.started += count;
        self.running.extend(names.clone());
        at_once(&names, |name| self.start_one(name))
    }

    fn clear(&mut self) -> Result<()> {
        for name in std::mem::take(&mut self.running) {
            process::output(self.command().args(["delete", "--force", &name]))?;
        }
        Ok(())
    }

    fn overhead(&self) -> Result<BTreeSet<u32>> {
        // `runc run --detach` leaves nobody behind: the container is init's.
        Ok(BTreeSet::new())
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        for name in std::mem::take(&mut self.running) {
            // Nothing better to do than try: one that never started has no state.
            let _ = process::output(self.command().args(["delete", "--force", &name]));
        }
    }
}

/// The namespaces, mounts and masks that container engines ask runc for; no
/// seccomp and no cgroup limits, which only makes it faster.
fn config() -> Value {
    let namespaces: Vec<Value> = ["pid", "ipc", "uts", "mount", "network", "cgroup"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/",
            "args": rootfs::IDLE_COMMAND,
            "env": ["PATH=/bin"],
            "user": { "uid": 0, "gid": 0 },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bench",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
