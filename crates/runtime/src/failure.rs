//! Why an instance or an exec did not start: one reason code for machines, one
//! detail for people, one hint. It must not know HTTP status or exit codes.

use std::fmt::Display;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Stable reason codes of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The spec is missing, unreadable or contradicts itself.
    SpecInvalid,
    /// The root filesystem could not be assembled.
    RootfsBuildFailed,
    /// Addresses, links, routes or forwarded ports could not be set up.
    NetworkSetupFailed,
    /// The cgroup could not be used although the start depends on it.
    CgroupSetupFailed,
    /// The kernel refused the isolation level asked for.
    IsolationUnavailable,
    /// The secrets could not be put where the workload reads them.
    SecretsInjectionFailed,
    /// The command could not be executed.
    WorkloadStartFailed,
    /// A command that runs before the workload did not end well.
    PrestartFailed,
    /// The image needs its own root to run, which process isolation lacks.
    ImageNeedsNamespaces,
    /// A volume could not be made part of the instance.
    VolumeAttachFailed,
    /// The instance is not running.
    NotRunning,
    /// The shim disappeared without reporting an exit.
    ShimLost,
}

impl Reason {
    /// The code as it appears in status, events and API answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpecInvalid => "spec_invalid",
            Self::RootfsBuildFailed => "rootfs_build_failed",
            Self::NetworkSetupFailed => "network_setup_failed",
            Self::CgroupSetupFailed => "cgroup_setup_failed",
            Self::IsolationUnavailable => "isolation_unavailable",
            Self::SecretsInjectionFailed => "secrets_injection_failed",
            Self::WorkloadStartFailed => "workload_start_failed",
            Self::PrestartFailed => "prestart_failed",
            Self::ImageNeedsNamespaces => "image_needs_namespaces",
            Self::VolumeAttachFailed => "volume_attach_failed",
            Self::NotRunning => "not_running",
            Self::ShimLost => "shim_lost",
        }
    }

    /// One thing to try, where one is known.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::IsolationUnavailable => {
                Some("`helix doctor` shows which isolation levels work here")
            }
            Self::ImageNeedsNamespaces => Some(
                "run as root or enable user namespaces; process isolation runs static executables only",
            ),
            _ => None,
        }
    }
}

/// A start that did not happen. Crosses process boundaries as JSON, therefore
/// it carries text instead of a source error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{}: {detail}", reason.as_str())]
pub struct Failure {
    /// Machine-readable code.
    pub reason: Reason,
    /// What was attempted on what, and what went wrong.
    pub detail: String,
}

impl Failure {
    /// A failure with its detail already worded.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// A failed operation on a path: `verb path: error`.
    pub(crate) fn io(reason: Reason, verb: &str, path: &Path, error: &dyn Display) -> Self {
        Self::new(reason, format!("{verb} {}: {error}", path.display()))
    }

    /// A failed operation without a path, for use in `map_err`.
    pub(crate) fn because<E: Display>(
        reason: Reason,
        attempt: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::new(reason, format!("{attempt}: {error}"))
    }

    /// A library error with its whole chain of causes, which would be lost when
    /// the error is turned into text.
    pub(crate) fn chain(
        reason: Reason,
        attempt: &str,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let mut detail = format!("{attempt}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !detail.contains(&text) {
                detail.push_str(": ");
                detail.push_str(&text);
            }
            source = cause.source();
        }
        Self::new(reason, detail)
    }
}
