//! The manifest, `helix.toml`: what an app is, in one strict file.
//!
//! [`parse`] is the one validator; the command line and the server both call
//! it, so their verdicts cannot differ. [`Manifest`] is what comes out:
//! defaults applied, env settings merged into each process, nothing left to
//! interpret. [`source`] holds the TOML dialect, [`check`] the rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Name;

mod check;
mod locate;
mod quantity;
mod source;

pub(crate) use check::process::{CPU_MAX, MEMORY_MIN_BYTES};
pub use check::{check_endpoint, is_variable_name, parse, parse_with_defaults};
pub use quantity::{format_bytes, parse_bytes};

/// A manifest longer than this is refused unread; real ones are a few KiB.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;

/// A validated manifest with every default in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `app.name`, when given: the app to deploy to unless told otherwise.
    pub name: Option<Name>,
    /// `image.ref`, when the app is deployed from an image.
    pub image: Option<String>,
    pub build: Build,
    pub processes: BTreeMap<Name, Process>,
    pub endpoints: Vec<Endpoint>,
    /// `[secrets]`. Left out where it says nothing, so that the hashes of older
    /// manifests stay what they are.
    #[serde(default, skip_serializing_if = "Secrets::is_default")]
    pub secrets: Secrets,
    /// `[network]`.
    #[serde(default, skip_serializing_if = "Network::is_default")]
    pub network: Network,
    /// `[deploy] release_command`: runs once before anything is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_command: Option<Box<ReleaseCommand>>,
    /// Volumes that are made for each env which is deployed to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<Name, Volume>,
}

/// `[secrets]`: what the app expects of its env.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Nothing is released to an env that has no secrets, unless somebody said
    /// that it needs none.
    pub required: bool,
}

impl Secrets {
    fn is_default(&self) -> bool {
        *self == Secrets::default()
    }
}

/// `[network]`: what instances may reach besides the world outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Instances of one env reach each other on their machine.
    pub intra_env: bool,
}

impl Network {
    fn is_default(&self) -> bool {
        *self == Network::default()
    }
}

/// The process that stands for the release command where instances have one. Only a
/// manifest without a release command can have a process of this name.
pub const RELEASE_PROCESS: &str = "release";

/// `[deploy]`: a command of the new release that a deploy depends on, such as the
/// migration of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseCommand {
    /// How it runs: as the process it was taken from, without ports, volumes and health
    /// check, and once.
    pub process: Process,
    /// How long it may run.
    pub timeout_seconds: u64,
}

/// `[[volumes]]`: a volume of each env, made with its first deploy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub size_bytes: u64,
}

/// `[[processes.NAME.mounts]]`: a volume inside the instance of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// One of `[[volumes]]`, or a volume of the org.
    pub volume: Name,
    /// Absolute, without a slash at the end.
    pub path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// `[build]`: how a folder becomes an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Which pack; detected from the folder when absent.
    pub pack: Option<Pack>,
    /// `static`: the folder to serve, relative to the manifest.
    pub root: Option<String>,
    /// `binary`: the executable, relative to the manifest.
    pub binary: Option<String>,
    /// `dockerfile`: the file, relative to the manifest.
    pub dockerfile: Option<String>,
}

/// A way to turn a folder into an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pack {
    /// Files, served by the file server `helix` carries.
    Static,
    /// One static executable.
    Binary,
    /// A `Dockerfile`, built by docker, buildah or podman.
    Dockerfile,
}

/// `[processes.NAME]`: one kind of instance of the app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Replaces the image's entrypoint and command.
    pub command: Option<Vec<String>>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub vars: BTreeMap<String, String>,
    pub resources: Resources,
    pub scaling: Scaling,
    pub restart: Restart,
    pub ports: Vec<Port>,
    pub health: Option<Health>,
    /// How long the program may take to end after TERM, and open work to end
    /// before it, seconds.
    pub stop_grace_seconds: u64,
    /// With one, there is one instance at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What runs in each instance before the program, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Prestart>,
}

/// A command that must end with code 0 before a program is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prestart {
    pub command: Vec<String>,
    pub timeout_seconds: u64,
}

/// What one instance may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Hard limit, bytes.
    pub memory_bytes: u64,
    /// Share of processors, as a weight: 1.0 is one core's worth.
    pub cpu: f64,
    /// Scratch space, bytes.
    pub disk_bytes: u64,
}

/// How many instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    pub min: u32,
    pub max: u32,
}

/// What to do when the program ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    pub policy: RestartPolicy,
    /// Only with `on-failure`.
    pub max_retries: u32,
    /// The first pause; it doubles with each further crash.
    pub backoff_seconds: u64,
}

/// When to start an ended program again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// A port the program listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub name: Name,
    pub internal: u16,
    /// Left out where it is TCP, so that the hashes of older manifests stay what they
    /// are.
    #[serde(default, skip_serializing_if = "Transport::is_tcp")]
    pub transport: Transport,
}

/// What a port takes: connections or datagrams.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    #[default]
    Tcp,
    Udp,
}

impl Transport {
    /// Whether it is the usual one.
    pub fn is_tcp(&self) -> bool {
        *self == Transport::Tcp
    }
}

/// How to tell that an instance can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub check: Check,
    /// The name of the port to ask; a command needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Name>,
    pub interval_seconds: u64,
    pub timeout_seconds: u64,
    /// Failures do not count until this long after the start.
    pub grace_seconds: u64,
    /// Passes in a row to become ready.
    pub success_threshold: u32,
    /// Failures in a row to stop being ready.
    pub failure_threshold: u32,
}

/// What is asked, of a port or inside the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Check {
    /// It accepts a connection.
    Tcp,
    /// It answers GET with a status from 200 to 399.
    Http { path: String },
    /// It does not refuse an empty datagram.
    Udp,
    /// A command inside the instance ends with code 0.
    Exec { command: Vec<String> },
}

/// `[[endpoints]]`: what makes a port reachable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub name: Name,
    pub process: Name,
    /// The name of the port.
    pub port: Name,
    pub exposure: Exposure,
    /// On the env's IPv4 address, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv4: bool,
    /// What happens to what comes in.
    #[serde(flatten)]
    pub handling: Handling,
}

/// An endpoint as somebody asks for it: in `[[endpoints]]` or with `helix endpoints
/// expose`. What is absent has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskedEndpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The process it leads to: `web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The name of its port: the first that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// `http`, `tcp`, `tls` or `udp`: `tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// `off` or `v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_expects_proxy_protocol: Option<bool>,
    /// `round_robin` or `least_connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// How many may begin in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<u32>,
    /// With `http`: the largest body of a request, such as `10Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body: Option<String>,
    /// With `http`: the largest head of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_header_bytes: Option<u32>,
    /// With `http`, what the program speaks: `http1` or `h2c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_protocol: Option<String>,
    /// With a port of its own: on the env's IPv4 address, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<bool>,
}

/// What an endpoint does with what comes in. Left out where it is as usual, so that the
/// hashes of older manifests stay what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    /// What tells the program whose a connection is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    #[serde(default, skip_serializing_if = "Balance::is_usual")]
    pub balance: Balance,
    /// Connections at a time at each edge: with `http` requests, with `udp` sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// How many of these may begin in a second at each edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<u32>,
    /// The largest body of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u64>,
    /// The largest head of one: its first line and its headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_header_bytes: Option<u32>,
    #[serde(default, skip_serializing_if = "BackendProtocol::is_usual")]
    pub backend_protocol: BackendProtocol,
}

/// What a program behind an `http` endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, known beforehand (RFC 9113 §3.3), as gRPC is served.
    H2c,
}

impl BackendProtocol {
    fn is_usual(&self) -> bool {
        *self == BackendProtocol::Http1
    }
}

/// Which instance gets what comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest open at this edge.
    LeastConnections,
}

impl Balance {
    fn is_usual(&self) -> bool {
        *self == Balance::RoundRobin
    }
}

/// A header before what a client sends, which says where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// The binary one, version 2 of HAProxy's `proxy-protocol.txt`.
    V2,
}

/// How an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum Exposure {
    /// By host name on the shared HTTP listener; a default is derived from the
    /// names of app and env when absent.
    Http { host: Option<String> },
    /// By port on the env's own address.
    Tcp { listen_port: u16 },
    /// By the host name that a TLS client sends, on a port of the env's own address or,
    /// without one, on the shared HTTPS listener. It is passed on untouched.
    Tls {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listen_port: Option<u16>,
    },
    /// Datagrams to a port of the env's own address.
    Udp { listen_port: u16 },
}

impl Exposure {
    /// What a port it leads to must take.
    pub fn transport(&self) -> Transport {
        match self {
            Exposure::Udp { .. } => Transport::Udp,
            Exposure::Http { .. } | Exposure::Tcp { .. } | Exposure::Tls { .. } => Transport::Tcp,
        }
    }

    /// The port it has to itself, or with other names.
    pub fn listen_port(&self) -> Option<u16> {
        match self {
            Exposure::Http { .. } => None,
            Exposure::Tls { listen_port, .. } => *listen_port,
            Exposure::Tcp { listen_port } | Exposure::Udp { listen_port } => Some(*listen_port),
        }
    }

    /// What an endpoint is called that has no name of its own.
    fn usual_name(&self) -> String {
        match self {
            Exposure::Http { .. } => "http".to_owned(),
            Exposure::Tcp { listen_port } => format!("tcp-{listen_port}"),
            Exposure::Tls { listen_port: None, .. } => "tls".to_owned(),
            Exposure::Tls { listen_port: Some(port), .. } => format!("tls-{port}"),
            Exposure::Udp { listen_port } => format!("udp-{listen_port}"),
        }
    }

    /// Whether no two endpoints of an env can be reached like this and like that.
    fn collides(&self, other: &Exposure) -> bool {
        use Exposure::{Http, Tcp, Tls};
        match (self, other) {
            (Http { host: None }, Http { host: None }) => false,
            (Tls { host, listen_port: None }, Http { host: Some(it) })
            | (Http { host: Some(it) }, Tls { host, listen_port: None }) => host == it,
            (Tls { listen_port: Some(port), .. }, Tcp { listen_port })
            | (Tcp { listen_port }, Tls { listen_port: Some(port), .. }) => port == listen_port,
            (one, other) => one == other,
        }
    }
}

/// One thing wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaw {
    /// The field, dotted, e.g. `processes.web.ports[0].internal`.
    pub field: String,
    pub message: String,
    /// 1-based; where in the file the field (or its nearest parent) is.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
}

/// Everything wrong with a manifest; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the manifest has {} problem(s), first: line {}: {}", .flaws.len(), .flaws[0].line, .flaws[0].message)]
pub struct ManifestError {
    pub flaws: Vec<Flaw>,
}

impl Manifest {
    /// What an instance of this name runs: a process, or the release command.
    pub fn process(&self, name: &Name) -> Option<&Process> {
        match &self.release_command {
            Some(command) if name.as_str() == RELEASE_PROCESS => Some(&command.process),
            _ => self.processes.get(name),
        }
    }

    /// Lower-case hex sha256 of the canonical JSON form.
    pub fn hash(&self) -> String {
        use sha2::{Digest, Sha256};
        // Serialising plain data with string keys has no way to fail; an empty
        // document would only make two manifests look alike.
        let canonical = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&canonical).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
