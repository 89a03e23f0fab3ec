//! The one file that speaks to `helix-runtime`: what this machine can do, and
//! starting, finding, watching and clearing single instances.
//!
//! It turns the runtime's words into the model's. It must not know plans.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use helix_model::Reason;
use helix_model::instance::Exit;
use helix_model::node::Facts;
use helix_runtime::{
    Failure, InstanceSpec, Isolation, Level, Reason as RuntimeReason, Shim, StartError, Status,
};

use tokio::time::Instant;

use crate::error::NodeError;
use crate::facts;
use crate::lifecycle::{End, StartFailure};

/// How long a shim may take from being started to its first word: it writes its
/// status before anything slow.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// How often to look for that word.
const SETTLE_INTERVAL: Duration = Duration::from_millis(5);

/// This machine as the agent uses it.
#[derive(Debug)]
pub(crate) struct Machine {
    helix_exe: PathBuf,
    level: Level,
    /// The stronger ones, which do not work here; empty when a person chose.
    stronger: Vec<Level>,
}

impl Machine {
    /// Tries out what isolation works here and settles for the level forced,
    /// else the strongest.
    pub(crate) async fn detect(
        helix_exe: &Path,
        forced: Option<Isolation>,
    ) -> Result<Machine, NodeError> {
        let found = helix_runtime::probe(helix_exe)
            .await
            .map_err(NodeError::files("probe isolation with", helix_exe))?;
        let level = match forced {
            Some(isolation) => found.levels.iter().find(|level| level.isolation == isolation),
            None => found.best(),
        };
        let refused = |reason: &str| NodeError::Isolation {
            level: forced.map_or("any", Isolation::as_str),
            reason: reason.to_owned(),
        };
        match level {
            Some(level) if level.available => Ok(Machine {
                helix_exe: helix_exe.to_owned(),
                level: level.clone(),
                stronger: match forced {
                    Some(_) => Vec::new(),
                    None => stronger(&found.levels, level),
                },
            }),
            Some(level) => Err(refused(&level.reason)),
            None => Err(refused("nothing works")),
        }
    }

    pub(crate) fn isolation(&self) -> Isolation {
        self.level.isolation
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cpus: facts::cpus(),
            memory_bytes: facts::memory_bytes(),
            isolation: self.level.isolation.as_str().to_owned(),
            isolation_reason: self.reason(),
            isolation_advice: self.advice(),
            volumes: None,
        }
    }

    /// What the level gives, and why it is no stronger one.
    fn reason(&self) -> String {
        let above = self.stronger.iter();
        let above = above.map(|level| {
            format!("; {} is not possible: {}", level.isolation.as_str(), level.reason)
        });
        format!("{}{}", self.level.reason, above.collect::<String>())
    }

    fn advice(&self) -> Option<String> {
        let levels = self.stronger.iter().chain([&self.level]);
        let advice: Vec<_> = levels.filter_map(|level| level.advice.as_deref()).collect();
        (!advice.is_empty()).then(|| advice.join("; "))
    }

    /// Starts an instance in its directory, once whatever an earlier boot left
    /// there is removed.
    pub(crate) async fn start(
        &self,
        dir: &Path,
        spec: &InstanceSpec,
    ) -> Result<Shim, StartFailure> {
        let of_machine = |message| StartFailure::of_machine(Reason::WorkloadStartFailed, message);
        clear(dir)
            .await
            .map_err(|error| of_machine(format!("cannot remove the last run: {error}")))?;
        Shim::spawn(&self.helix_exe, dir, spec).await.map_err(|error| match error {
            StartError::Failed(failure) => StartFailure {
                reason: reason_of(&failure),
                of_machine: is_of_machine(failure.reason),
                message: failure.detail,
            },
            StartError::Io { .. } => of_machine(chain(&error)),
        })
    }
}

/// The levels above the chosen one, none of which works here.
fn stronger(levels: &[Level], chosen: &Level) -> Vec<Level> {
    let above = levels.iter().take_while(|level| level.isolation != chosen.isolation);
    above.cloned().collect()
}

/// Finds the running instance of a directory. One that lives but does not
/// answer counts as none: the next start clears it away.
pub(crate) async fn adopt(dir: &Path) -> Option<Shim> {
    let deadline = Instant::now() + SETTLE_MAX;
    while is_unsettled(dir) && Instant::now() < deadline {
        tokio::time::sleep(SETTLE_INTERVAL).await;
    }
    Shim::adopt(dir).await.unwrap_or_else(|error| {
        tracing::warn!(dir = %dir.display(), error = chain(&error), "cannot adopt an instance");
        None
    })
}

/// Whether the last start has left no word yet. If the agent that began it was
/// killed that very moment, its shim may still be about to come up.
fn is_unsettled(dir: &Path) -> bool {
    let Ok(spec) = InstanceSpec::load(dir) else {
        return false;
    };
    let status = Status::load(dir).ok().flatten();
    status.is_none_or(|status| status.boot_id != spec.boot_id)
}

/// Waits until what runs before the program has ended, well or not.
pub(crate) async fn prepared(shim: &Shim) {
    let Ok(mut changes) = shim.watch().await else { return };
    while let Some(status) = changes.recv().await {
        if !status.preparing || status.state.is_final() {
            return;
        }
    }
}

/// Waits for the instance's end.
pub(crate) async fn ended(shim: &Shim) -> End {
    let mut changes = match shim.watch().await {
        Ok(changes) => changes,
        Err(error) => {
            tracing::warn!(dir = %shim.dir().display(), error = chain(&error), "lost an instance");
            return End::default();
        }
    };
    let mut last = None;
    while let Some(status) = changes.recv().await {
        last = Some(status);
    }
    last.filter(|status| status.state.is_final()).map(end_of).unwrap_or_default()
}

/// Ends by force what runs in the directory and removes what it left on the
/// machine. Logs stay.
pub(crate) async fn clear(dir: &Path) -> std::io::Result<()> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || helix_runtime::cleanup(&dir))
        .await
        .map_err(std::io::Error::other)?
}

/// An error and everything that led to it, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn end_of(status: Status) -> End {
    let Some(exit) = status.exit else {
        return End::default();
    };
    let memory_limit_bytes = exit.memory_limit_bytes;
    let is_prestart = |failure: &Failure| failure.reason == RuntimeReason::PrestartFailed;
    let prestart = status.failure.filter(is_prestart).map(|failure| failure.detail);
    let exit = Exit {
        code: exit.signal.is_none().then_some(exit.code),
        signal: exit.signal,
        oom_killed: exit.oom_killed,
    };
    End { exit: Some(exit), memory_limit_bytes, prestart }
}

/// Whether what is wrong is on this machine: the same program may well start on
/// another, or here in a while.
fn is_of_machine(reason: RuntimeReason) -> bool {
    match reason {
        RuntimeReason::RootfsBuildFailed
        | RuntimeReason::NetworkSetupFailed
        | RuntimeReason::CgroupSetupFailed
        | RuntimeReason::SecretsInjectionFailed
        | RuntimeReason::VolumeAttachFailed
        | RuntimeReason::NotRunning
        | RuntimeReason::ShimLost => true,
        RuntimeReason::SpecInvalid
        | RuntimeReason::WorkloadStartFailed
        | RuntimeReason::PrestartFailed
        | RuntimeReason::IsolationUnavailable
        | RuntimeReason::ImageNeedsNamespaces => false,
    }
}

fn reason_of(failure: &Failure) -> Reason {
    match failure.reason {
        RuntimeReason::RootfsBuildFailed => Reason::RootfsBuildFailed,
        RuntimeReason::NetworkSetupFailed => Reason::NetworkSetupFailed,
        RuntimeReason::SecretsInjectionFailed => Reason::SecretsInjectionFailed,
        RuntimeReason::VolumeAttachFailed => Reason::VolumeAttachFailed,
        RuntimeReason::IsolationUnavailable | RuntimeReason::ImageNeedsNamespaces => {
            Reason::IsolationUnavailable
        }
        RuntimeReason::PrestartFailed => Reason::PrestartFailed,
        RuntimeReason::SpecInvalid
        | RuntimeReason::CgroupSetupFailed
        | RuntimeReason::WorkloadStartFailed
        | RuntimeReason::NotRunning
        | RuntimeReason::ShimLost => Reason::WorkloadStartFailed,
    }
}
