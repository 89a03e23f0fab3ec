//! The config document of an image: how to run it and what its layers unpack to.
//!
//! Field names are Docker's, from the OCI image spec's `config.md`. Go programs
//! write absent lists as `null`, so `null` reads as empty everywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// How an image wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `8080/tcp` and the like, as written.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value` pairs.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Further arguments, or the whole command without an entrypoint.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Where the command starts; empty means `/`.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free text.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks the program to stop; empty means `SIGTERM`.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

impl ImageConfig {
    /// The command line: entrypoint, then cmd.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }

    /// Exposed TCP ports as numbers, lowest first; ranges and UDP left out.
    pub fn tcp_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .exposed_ports
            .iter()
            .filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// The whole config document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDocument {
    /// Processor, in Go's names.
    #[serde(default)]
    pub architecture: String,
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// How to run it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub config: ImageConfig,
    /// What the layers unpack to.
    pub rootfs: LayerDigests,
}

/// Digests of the layers' uncompressed archives, base first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDigests {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One per layer of the manifest, in the same order.
    #[serde(deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<Digest>,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_keys<S: Serializer>(keys: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Nothing {}
    serializer.collect_map(keys.iter().map(|key| (key, Nothing {})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let text = r#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z",
            "config":{"User":"","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Env":["A=b"],"Cmd":["x"],
            "Entrypoint":null,"Labels":null,"Volumes":null,"OnBuild":null,"WorkingDir":"/w"},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let document: ConfigDocument = serde_json::from_str(text).unwrap();
        assert_eq!(document.config.tcp_ports(), [80]);
        assert_eq!(document.config.argv(), ["x"]);
        assert_eq!(document.config.working_dir, "/w");
        assert!(document.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn a_config_without_settings_is_empty() {
        let text = r#"{"config":null,"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let document: ConfigDocument = serde_json::from_str(text).unwrap();
        assert_eq!(document.config, ImageConfig::default());
    }
}
