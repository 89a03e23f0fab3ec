//! The TOML dialect as written, before any rule is applied.
//!
//! Unknown fields are refused by the parser itself, so a typo is an error and
//! never a silently ignored wish.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::AskedEndpoint;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub schema_version: Option<String>,
    #[serde(default)]
    pub app: App,
    #[serde(default)]
    pub image: Image,
    #[serde(default)]
    pub build: Build,
    #[serde(default)]
    pub env: Env,
    #[serde(default)]
    pub processes: BTreeMap<String, Process>,
    #[serde(default)]
    pub endpoints: Vec<AskedEndpoint>,
    #[serde(default)]
    pub volumes: Vec<Volume>,
    #[serde(default)]
    pub secrets: Secrets,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub deploy: Deploy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    pub release_command: Option<Vec<String>>,
    pub release_process: Option<String>,
    pub release_timeout_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {
    #[serde(default)]
    pub required: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    #[serde(default)]
    pub intra_env: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    pub name: Option<String>,
    pub description: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    pub pull_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    pub pack: Option<String>,
    pub root: Option<String>,
    pub binary: Option<String>,
    pub dockerfile: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Env {
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub command: Option<Vec<String>>,
    pub prestart: Option<Vec<String>>,
    pub prestart_timeout_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Process {
    pub command: Option<Vec<String>>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub scaling: Scaling,
    #[serde(default)]
    pub restart: Restart,
    #[serde(default)]
    pub ports: Vec<Port>,
    pub health: Option<Health>,
    pub stop_grace_seconds: Option<u64>,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    pub prestart: Option<Vec<String>>,
    pub prestart_timeout_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resources {
    pub memory: Option<String>,
    pub cpu: Option<f64>,
    pub disk: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scaling {
    pub min: Option<u32>,
    pub max: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restart {
    pub policy: Option<String>,
    pub max_retries: Option<u32>,
    pub backoff_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub name: Option<String>,
    pub internal: u16,
    pub protocol: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub port: Option<String>,
    pub path: Option<String>,
    pub command: Option<Vec<String>>,
    pub interval_seconds: Option<u64>,
    pub timeout_seconds: Option<u64>,
    pub grace_seconds: Option<u64>,
    pub success_threshold: Option<u32>,
    pub failure_threshold: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Volume {
    pub name: String,
    pub size: Option<String>,
    pub filesystem: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mount {
    pub volume: String,
    pub path: String,
    #[serde(default)]
    pub read_only: bool,
}
