//! What one instance is: the file a shim rewrites at each transition and the
//! agent reads, also after both were restarted. Start at [`Status`].
//!
//! It must not know how the values are measured.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::failure::Failure;
use crate::sys;

/// Where an instance is in its life. Only forward: starting → running → exited,
/// or starting → failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The shim is setting the instance up.
    Starting,
    /// The workload has been executed.
    Running,
    /// The workload ended; see [`Status::exit`].
    Exited,
    /// The workload never ran, or its shim was lost; see [`Status::failure`].
    Failed,
}

impl State {
    /// Whether the instance is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Exited | Self::Failed)
    }
}

/// How a workload ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, or 128 + signal when a signal ended it.
    pub code: i32,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed something in the instance for lack of memory and the
    /// workload did not end well.
    pub oom_killed: bool,
    /// Highest memory use in bytes, where a cgroup counted it.
    pub memory_peak_bytes: Option<u64>,
    /// The memory limit in force, for the message beside `oom_killed`.
    pub memory_limit_bytes: Option<u64>,
}

/// Whether the resource limits asked for are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// All limits asked for are enforced by the kernel.
    pub limits_enforced: bool,
    /// Why not, or which of them not.
    pub reason: Option<String>,
}

/// A process named so that a reused pid is not mistaken for it, nor one that has the
/// same pid and start after the machine was restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Pid in the machine's pid namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat` field 22).
    pub start_ticks: u64,
    /// Which run of the machine it is of: the first half of the kernel's `boot_id`. 0 is
    /// what a status of before knows.
    #[serde(default)]
    pub boot: u64,
}

impl ProcessRef {
    /// Names a running process; `None` when there is none with that pid.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let boot = sys::boot();
        sys::process_start_ticks(pid).map(|start_ticks| Self { pid, start_ticks, boot })
    }

    /// A process whose start cannot be told; it counts as none.
    pub(crate) fn unknown(pid: i32) -> Self {
        Self { pid, start_ticks: 0, boot: sys::boot() }
    }

    /// Whether the machine has been running ever since.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.boot == 0 || self.boot == sys::boot()
    }

    /// Whether that very process still runs. A zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let is_it = |now: Self| now.start_ticks == self.start_ticks;
        self.is_of_this_boot() && Self::of(self.pid).is_some_and(is_it)
    }
}

/// Snapshot of one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Instance this is about.
    pub instance_id: String,
    /// Boot this is about.
    pub boot_id: String,
    /// Where it is in its life.
    pub state: State,
    /// First process of the workload.
    pub workload: Option<ProcessRef>,
    /// The shim that owns it.
    pub shim: ProcessRef,
    /// Unix milliseconds when the workload was executed.
    pub started_at_ms: Option<u64>,
    /// Unix milliseconds when it ended or failed.
    pub finished_at_ms: Option<u64>,
    /// Milliseconds from the shim's first instruction to the running workload.
    pub start_took_ms: Option<u64>,
    /// What is to run before the workload has not ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preparing: bool,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Why it never ran; with an exit, what ran before it did not end well.
    pub failure: Option<Failure>,
    /// Whether its limits are in force.
    pub limits: Limits,
    /// Its cgroup, where it has one.
    pub cgroup: Option<Cgroup>,
    /// Things its owner should know, e.g. a weaker filesystem than asked for.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Status {
    /// File name of the status inside an instance directory.
    pub const FILE: &str = "status.json";

    /// Reads the last status written in `dir`; `None` when there is none yet.
    pub fn load(dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(dir.join(Self::FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the status in `dir` so that no reader ever sees half of one.
    /// Not synced to disk: after a power cut no process it names exists.
    pub fn store(&self, dir: &Path) -> io::Result<()> {
        let next = dir.join("status.json.next");
        std::fs::write(&next, serde_json::to_vec(self)?)?;
        std::fs::rename(next, dir.join(Self::FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_before_the_machine_was_restarted_is_not_taken_for_what_runs() {
        let me = ProcessRef::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive() && me.boot != 0);
        assert!(!ProcessRef { boot: me.boot ^ 1, ..me }.is_alive());
        let older: ProcessRef = serde_json::from_value(
            serde_json::json!({ "pid": me.pid, "start_ticks": me.start_ticks }),
        )
        .unwrap();
        assert!(older.is_alive(), "a status of before does not say");
        assert!(!ProcessRef { start_ticks: me.start_ticks + 1, ..me }.is_alive());
    }
}
