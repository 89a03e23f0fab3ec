//! One instance of a workload on this machine: the shim process that owns it and
//! the isolation it runs under. Start at [`Shim::spawn`] from an agent, at
//! [`shim_main`] from the binary, at [`probe()`] to learn what the machine allows.
//!
//! An instance is a directory: the caller writes `spec.json` ([`InstanceSpec`]),
//! the shim writes `status.json` ([`Status`]), the log, and listens on
//! `shim.sock`. Both sides may be restarted without the other.
//!
//! It must not know plans, other instances, users of the platform, HTTP, or how
//! images are made. It depends on no other crate of the workspace.

mod cgroup;
mod cleanup;
mod client;
mod exec;
mod executor;
mod failure;
mod hosts;
pub mod logs;
mod netlink;
mod network;
mod oci;
mod prestart;
mod probe;
pub mod protocol;
mod rootfs;
mod seccomp;
mod secrets;
mod shim;
mod spec;
mod status;
mod sys;
mod user;
mod userns;
mod volumes;

pub use cgroup::{Cgroup, CgroupVersion};
pub use cleanup::cleanup;
pub use client::{Shim, ShimError, StartError};
pub use exec::{ExecEvent, ExecInput, ExecOutput, ExecSession};
pub use failure::{Failure, Reason};
pub use hosts::replace_peers;
pub use probe::{Capabilities, Level, probe};
pub use secrets::{
    SECRETS_FILE, SECRETS_PATH, SECRETS_VARIABLE, keep_secrets, memory_dir, memory_dir_of,
};
pub use shim::shim_main;
pub use spec::{
    ExecSpec, Forward, InstanceSpec, Isolation, LogLimits, Mount, NetworkSpec, Peer, PrestartSpec,
    Resources, SPEC_VERSION, VethSpec,
};
pub use status::{Exit, Limits, ProcessRef, State, Status};
