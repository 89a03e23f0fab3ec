//! The bodies of the HTTP API, shared by server and client.
//!
//! Every field is a contract. Streams are NDJSON; each line has a `type` and a
//! `ts`.

pub mod access;
mod certificates;
mod domains;
mod endpoints;
mod registries;
mod secrets;
mod tenancy;
mod traffic;
mod tunnels;
mod volumes;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::node::Availability;
use crate::receipt::Affected;
use crate::view::{ResourceView, Shown};
use crate::{Actor, Id, Instance, Name, Timestamp};

pub use certificates::{AuthorityReport, CertificateRequest};
pub use domains::DomainRequest;
pub use endpoints::ExposeRequest;
pub use registries::{PolicyReport, RegistryLogin, RegistryReport, RegistryRequest};
pub use secrets::{
    SecretText, SecretsReport, SecretsRequest, SecretsRollbackRequest, SecretsStepRequest,
    SecretsVersion,
};
pub use tenancy::{
    CreateRequest, DestroyQuery, EnvUsage, Ipv4Usage, QuotaReport, QuotaRequest, UsageInterval,
    UsageIntervals, UsageReport, Used, VolumeUsage,
};
pub use traffic::{EdgeTraffic, EndpointTraffic, TrafficCounters, TrafficLine};
pub use tunnels::{
    CANDIDATES_MAX, Candidate, ChangeTunnel, CreateTunnel, DisableTunnel, RefreshTunnel,
    ReserveTunnel, TunnelGrant,
};
pub use volumes::{BackupsRequest, ResizeRequest, SnapshotRequest, VolumeRequest};

/// The repository host that stands for the platform's own registry. Images that
/// were built from a folder live there; nodes and clients know which address it
/// has today, so releases need not.
pub const OWN_REGISTRY: &str = "helix.internal";

/// The header every response carries: the log position it reflects.
pub const POSITION_HEADER: &str = "helix-position";

/// The header of a request that wants to read at least this log position.
pub const WAIT_POSITION_HEADER: &str = "helix-wait-position";

/// `POST /v1/deploys`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    pub org: Name,
    pub project: Name,
    pub app: Name,
    pub env: Name,
    /// The manifest as TOML; defaults (one `web` process) when absent.
    #[serde(default)]
    pub manifest: Option<String>,
    /// With no manifest: the port the app listens on.
    #[serde(default)]
    pub port: Option<u16>,
    /// An image reference; the manifest's `image.ref` when absent.
    #[serde(default)]
    pub image: Option<String>,
    /// Where the image came from, for people.
    #[serde(default)]
    pub source: Option<String>,
    /// Refuse unless the env is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/releases`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    pub org: Name,
    pub project: Name,
    pub app: Name,
    /// The env it is for, if it is for one: what is set of that is part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Name>,
    /// The manifest as TOML; defaults (one `web` process) when absent.
    #[serde(default)]
    pub manifest: Option<String>,
    /// With no manifest: the port the app listens on.
    #[serde(default)]
    pub port: Option<u16>,
    /// An image reference; the manifest's `image.ref` when absent.
    #[serde(default)]
    pub image: Option<String>,
    /// Where the image came from, for people.
    #[serde(default)]
    pub source: Option<String>,
}

/// `POST /v1/promotions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// The app that both are of.
    pub app: String,
    /// The env; made when there is none of this name.
    pub env: Name,
    pub release: String,
    /// Refuse unless the env is still this version; 0: unless there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/rollbacks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    pub env: String,
    /// A release; the last one that served before the current one when absent.
    #[serde(default)]
    pub to: Option<String>,
    /// Refuse unless the env is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/envs/{env}/scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    pub processes: BTreeMap<Name, u32>,
    /// Refuse unless the env is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/envs/{env}/ipv4`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ipv4Request {
    /// Whether the env is to have an IPv4 address of its own.
    pub enabled: bool,
    /// Refuse unless the env is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/envs/{env}/config`: what is to be different from the manifest. What is absent
/// stays as it is; null takes back what was set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigRequest {
    /// Variables of every process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<Name, ProcessConfigRequest>,
    /// Make the release and do not deploy it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plan: bool,
    /// Refuse unless the env is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// The same for one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessConfigRequest {
    /// They win over those of every process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Option<String>>,
    /// As in the manifest: `512Mi` or `1Gi`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory: Option<Option<String>>,
    /// As in the manifest: 1 is the weight of one core.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub cpu: Option<Option<f64>>,
}

/// Tells null from what is absent.
fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// `POST /v1/nodes/{node}/availability`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AvailabilityRequest {
    pub availability: Availability,
    /// Refuse unless the node is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page {
    pub items: Vec<ResourceView>,
    /// Pass as `cursor` for the next page; `None` on the last.
    pub next_cursor: Option<String>,
    /// The log position the page reflects.
    pub position: u64,
}

/// A [`Page`] as the server writes it, straight from a state.
#[derive(Clone, Serialize)]
pub struct WrittenPage<'s> {
    pub items: Vec<Shown<'s>>,
    pub next_cursor: Option<String>,
    pub position: u64,
}

/// One event, as a line of a stream or an item of a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventLine {
    /// The event's type, e.g. `deploy.finished`.
    #[serde(rename = "type")]
    pub kind: String,
    pub ts: Timestamp,
    pub position: u64,
    pub actor: Actor,
    pub request_id: String,
    pub subject: Option<Affected>,
    pub data: Value,
}

/// A line of any stream while nothing happens: it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StreamHeartbeat {
    /// Always `heartbeat`.
    #[serde(rename = "type")]
    pub kind: String,
    pub ts: Timestamp,
    /// Of events: everything up to here has been sent; resume after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

/// The last line of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StreamEnd {
    /// Always `end`.
    #[serde(rename = "type")]
    pub kind: String,
    pub ts: Timestamp,
    pub reason: EndReason,
    /// Of events: everything up to here has been sent; resume after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// That was all.
    Complete,
    /// The server stops; another, or the same again, goes on from here.
    ServerClosing,
    /// The log cannot be read right now; try again from here.
    Unavailable,
    /// The right to it has ended: the token was revoked or has expired, or may
    /// something else than when the stream began.
    AccessEnded,
}

/// One page of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventPage {
    pub items: Vec<EventLine>,
    /// Pass as `cursor` for the next page; `None` when there are no more yet.
    #[serde(default)]
    pub next_cursor: Option<String>,
    /// Pass as `after` to go on from here, also with what is still to come.
    pub next_after: u64,
    pub position: u64,
}

/// One line of a program's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// Always `log`.
    #[serde(rename = "type")]
    pub kind: String,
    pub ts: Timestamp,
    /// The instance's name and id.
    pub instance: String,
    pub instance_id: String,
    pub process: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    pub line: String,
    /// The line was longer than 16 KiB and was cut here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// So many lines before this one could not be kept, e.g. on a full disk.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `GET /v1/wait`: how it stands with what was waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaitResult {
    pub outcome: WaitOutcome,
    pub resource: ResourceView,
    pub position: u64,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitOutcome {
    /// It is ready, or finished well.
    Satisfied,
    /// It failed and will not become ready by waiting.
    Failed,
    /// The time is up; it may still happen.
    TimedOut,
}

/// `GET /v1/receipts/{id}`: what the log has of an accepted change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordedChange {
    /// The receipt's id.
    pub id: String,
    /// The position of the change's last event.
    pub position: u64,
    pub at: Timestamp,
    pub actor: Actor,
    pub request_id: String,
    /// Its events, in order.
    pub events: Vec<EventLine>,
}

/// How it stands with everything a change set off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Settled {
    pub outcome: WaitOutcome,
    /// What the change set off, as it is now. Empty when there is nothing to wait
    /// for beyond the change itself.
    pub resources: Vec<ResourceView>,
    pub position: u64,
}

/// `GET /v1/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Version {
    pub version: String,
    pub api: String,
}

/// What `exec` asks for, the first (text) message on its WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub command: Vec<String>,
    #[serde(default)]
    pub tty: bool,
    #[serde(default)]
    pub cols: u16,
    #[serde(default)]
    pub rows: u16,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Asks for a token that stands for one command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecTokenRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Of the terminal, in characters.
    #[serde(default)]
    pub cols: u16,
    #[serde(default)]
    pub rows: u16,
    /// Variables besides those of the instance.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long the command may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u64>,
    /// How long the token is good: 30 to 300 seconds, 60 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_seconds: Option<u64>,
}

/// A token that stands for one command. It is shown this once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExecToken {
    #[schema(value_type = String)]
    pub instance: Id<Instance>,
    pub token: String,
    /// The path and query of the WebSocket that runs the command.
    pub connect: String,
    pub expires_at: Timestamp,
}

/// First byte of each binary WebSocket message of `exec`; the rest is payload.
pub mod exec_frame {
    /// Client to program. Empty payload closes the program's standard input.
    pub const STDIN: u8 = 0x01;
    /// Program to client.
    pub const STDOUT: u8 = 0x02;
    /// Program to client.
    pub const STDERR: u8 = 0x03;
    /// JSON [`Control`](super::ExecControl), client to program.
    pub const CONTROL: u8 = 0x10;
    /// JSON [`End`](super::ExecEnd), the last message.
    pub const EXIT: u8 = 0x11;
}

/// What a client may tell a running `exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecControl {
    Resize { cols: u16, rows: u16 },
    Signal { name: String },
}

/// How an `exec` ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// The program's exit code, 128 + signal when killed; `None` when it never
    /// started.
    pub exit_code: Option<i32>,
    /// `exited`, `not_started`, `instance_gone`.
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

/// `GET /v1/replicas`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicaList {
    /// Empty where the server has its storage for itself.
    pub items: Vec<Replica>,
    pub position: u64,
}

/// One replica of the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replica {
    /// Where the others reach it.
    pub url: String,
    /// It is the one that reconciles.
    pub reconciles: bool,
    /// It gave this answer.
    pub answered: bool,
    /// The nodes linked to it.
    pub nodes: Vec<Name>,
}
