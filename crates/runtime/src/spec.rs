//! What one instance should be: the file the caller writes beside an instance
//! and the shim reads. Start at [`InstanceSpec`].
//!
//! Plain data. It must not know how isolation is achieved, nor where the values
//! came from (manifest, image config, scheduler).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Reason};

/// Version of the `spec.json` format this crate writes and reads.
pub const SPEC_VERSION: u32 = 1;

/// Processes and threads an instance may have when its spec names no number:
/// enough for thread-heavy servers, far below what exhausts a kernel's pids.
pub(crate) const DEFAULT_PIDS: u64 = 4096;

/// How strongly an instance is kept apart from its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Namespaces, own root, dropped capabilities, seccomp and cgroup limits,
    /// set up by root.
    Container,
    /// The same inside a user namespace of the calling plain user. Limits only
    /// where the user has a delegated cgroup.
    ContainerRootless,
    /// A child process with no isolation at all, for kernels that allow nothing
    /// else. Runs static executables only.
    Process,
}

impl Isolation {
    /// The name used in specs, APIs and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::ContainerRootless => "container-rootless",
            Self::Process => "process",
        }
    }
}

/// Everything a shim needs to run one instance once. Unknown fields are ignored,
/// so an older shim can run what a newer agent wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Format version, see [`SPEC_VERSION`].
    pub version: u32,
    /// Id of the instance. Also names its cgroup, so it must be unique on the
    /// machine and match `[A-Za-z0-9_-]{1,64}`.
    pub instance_id: String,
    /// Id of this boot of the instance, echoed in its status.
    pub boot_id: String,
    /// Host name inside the instance.
    pub hostname: String,
    /// Isolation level to use.
    pub isolation: Isolation,
    /// Flattened root filesystem of the image. Never written to; many instances
    /// may share it.
    pub rootfs: PathBuf,
    /// Command and arguments. Must not be empty: the caller merges the image's
    /// entrypoint and command.
    pub argv: Vec<String>,
    /// Complete environment of the workload. `PATH` and `HOME` get defaults.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Absolute working directory; empty means `/`.
    #[serde(default)]
    pub workdir: String,
    /// User as image configs write it: empty, `1000`, `1000:1000`, `www-data`.
    #[serde(default)]
    pub user: String,
    /// Resource limits.
    #[serde(default)]
    pub resources: Resources,
    /// Directories of the host that appear inside.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Network of the instance.
    pub network: NetworkSpec,
    /// File in this machine's memory with the secrets of the instance: copied to
    /// [`crate::SECRETS_PATH`] for its user alone, or named by
    /// [`crate::SECRETS_VARIABLE`] where it has no root of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PathBuf>,
    /// How much log to keep.
    #[serde(default)]
    pub logs: LogLimits,
    /// What runs before the workload in the same place, one after another. Needs a root
    /// of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<PrestartSpec>,
    /// Milliseconds between the stop signal and KILL when nobody says otherwise.
    #[serde(default = "default_stop_grace_ms")]
    pub stop_grace_ms: u64,
    /// Number of the signal that asks the workload to end, as the image has it: TERM
    /// makes nginx drop its connections and PostgreSQL wait for its clients.
    #[serde(default = "default_stop_signal")]
    pub stop_signal: i32,
}

/// TERM.
pub(crate) const fn default_stop_signal() -> i32 {
    15
}

fn default_stop_grace_ms() -> u64 {
    10_000
}

impl InstanceSpec {
    /// File name of the spec inside an instance directory.
    pub const FILE: &str = "spec.json";

    /// Reads and checks the spec in `dir`.
    pub fn load(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(Self::FILE);
        let bytes = std::fs::read(&path)
            .map_err(|error| Failure::io(Reason::SpecInvalid, "read", &path, &error))?;
        let spec: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Reason::SpecInvalid, format!("parse {}: {error}", path.display()))
        })?;
        spec.check()?;
        Ok(spec)
    }

    /// Refuses what no driver could run.
    pub fn check(&self) -> Result<(), Failure> {
        let invalid = |detail: String| Err(Failure::new(Reason::SpecInvalid, detail));
        let id_ok = (1..=64).contains(&self.instance_id.len())
            && self.instance_id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !id_ok {
            return invalid(format!(
                "instance id {:?} is not [A-Za-z0-9_-]{{1,64}}",
                self.instance_id
            ));
        }
        if self.argv.first().is_none_or(String::is_empty) {
            return invalid("argv is empty: the image names no entrypoint or command".into());
        }
        if !self.workdir.is_empty() && !self.workdir.starts_with('/') {
            return invalid(format!("workdir {:?} is not absolute", self.workdir));
        }
        let strings = self.argv.iter().chain(self.env.keys()).chain(self.env.values());
        if strings.chain([&self.workdir, &self.hostname]).any(|s| s.contains('\0')) {
            return invalid("argv, env, workdir and hostname must not contain NUL".into());
        }
        if self.prestart.iter().any(|it| it.argv.first().is_none_or(String::is_empty)) {
            return invalid("a prestart command is empty".into());
        }
        let mut words = self.prestart.iter().flat_map(|it| &it.argv);
        if words.any(|word| word.contains('\0')) {
            return invalid("prestart commands must not contain NUL".into());
        }
        if self.mounts.iter().any(|mount| !mount.is_inside()) {
            return invalid("a mount has no absolute path without `..` and NUL".into());
        }
        if self.env.keys().any(|key| key.is_empty() || key.contains('=')) {
            return invalid("an environment name is empty or contains '='".into());
        }
        Ok(())
    }

    /// The working directory, `/` when none was given.
    #[must_use]
    pub fn workdir_or_root(&self) -> &str {
        if self.workdir.is_empty() { "/" } else { &self.workdir }
    }
}

/// A command that must end with code 0 before the workload is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrestartSpec {
    /// Command and arguments. Must not be empty.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout_ms: u64,
}

/// A directory of the host inside the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Absolute path inside; made when missing.
    pub target: String,
    /// Whether nothing can be written to it.
    #[serde(default)]
    pub read_only: bool,
}

impl Mount {
    fn is_inside(&self) -> bool {
        self.source.is_absolute()
            && self.target.len() > 1
            && self.target.starts_with('/')
            && !self.target.contains('\0')
            && self.target.split('/').all(|part| part != "..")
    }
}

/// Limits of one instance. `None` means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Hard memory limit in bytes; swap is included in it.
    pub memory_bytes: Option<u64>,
    /// CPU share relative to other instances, 1.0 being one CPU's worth.
    pub cpu: Option<f64>,
    /// Processes and threads, 4096 when absent.
    pub pids: Option<u64>,
    /// Writable disk in bytes. Carried for drivers with their own disk; the
    /// container and process drivers do not enforce it and say so.
    pub disk_bytes: Option<u64>,
}

/// How an instance is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NetworkSpec {
    /// Own network namespace joined to the host by a veth pair, routed, no
    /// bridge. Needs root.
    Veth(VethSpec),
    /// Own network namespace with a loopback device only; the shim forwards
    /// host loopback ports into it.
    Loopback {
        /// Ports forwarded from the host.
        #[serde(default)]
        forwards: Vec<Forward>,
    },
    /// The host's own network; the workload listens on `$PORT` on loopback.
    Host {},
}

/// A routed point-to-point link between host and instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VethSpec {
    /// Interface name on the host, at most 15 bytes, unique on the machine.
    pub host_ifname: String,
    /// Address of the instance, a /128. Its gateway is always `fe80::1`.
    pub ipv6: Ipv6Addr,
    /// Optional private IPv4 address, a /32.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// Host end for IPv4. May be the same on every link.
    #[serde(default = "default_gateway_ipv4")]
    pub gateway_ipv4: Ipv4Addr,
    /// MTU of both ends, 1280 to 65535.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Resolvers written to `/etc/resolv.conf`; none leaves the image's file.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// Whether the host passes on IPv4 packets that arrive by this link; they
    /// end at the host otherwise.
    #[serde(default)]
    pub forwarding: bool,
    /// Who else is within reach, by name: further lines of `/etc/hosts`. See
    /// [`crate::replace_peers`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
}

/// Another instance that this one may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub address: IpAddr,
    /// What it is called; host names.
    pub names: Vec<String>,
}

fn default_gateway_ipv4() -> Ipv4Addr {
    Ipv4Addr::new(169, 254, 1, 1)
}

fn default_mtu() -> u32 {
    1500
}

/// One host port that leads into a [`NetworkSpec::Loopback`] instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Address the shim binds on the host; loopback only by convention.
    pub host: SocketAddr,
    /// Port the workload listens on inside, tried on `127.0.0.1` then `::1`.
    pub instance_port: u16,
}

/// How much of an instance's output is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLimits {
    /// Size at which a segment is closed and the next one begun.
    pub segment_bytes: u64,
    /// Segments kept, the one being written included. At least two.
    pub segments: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, segments: 4 }
    }
}

/// A command to run inside a running instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    /// Command and arguments, must not be empty.
    pub argv: Vec<String>,
    /// Added to the instance's environment.
    pub env: BTreeMap<String, String>,
    /// Absolute directory; the instance's own when empty.
    pub workdir: String,
    /// User; the instance's own when empty.
    pub user: String,
    /// Whether to allocate a terminal. Output then arrives as stdout only.
    pub tty: bool,
    /// Initial terminal width in characters.
    pub cols: u16,
    /// Initial terminal height in characters.
    pub rows: u16,
}
