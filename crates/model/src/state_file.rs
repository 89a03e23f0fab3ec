//! The state file: an installation as a person writes it down, in JSON.
//!
//! Start from [`StateFile::parse`]. It says what should be there, by name, and not
//! how it came to be: history is what an export carries. What is asked for is
//! decided like anything else (`control::state_file`); here is only the form. Its
//! JSON Schema is in `docs/state-file.schema.json`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::manifest::{self, Manifest};
use crate::quota::Dimension;
use crate::release::Image;
use crate::{Name, Problem, Role};

/// The only value of `schema_version` so far.
pub const SCHEMA_VERSION: &str = "v1";

/// Longest file: it is read into memory whole, and what it may lead to has its
/// own limit where it is appended. The parser stops at 128 levels of nesting.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The whole document.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    /// `v1`.
    #[serde(deserialize_with = "known_version")]
    pub schema_version: String,
    /// Limits of every org that has none of its own; sizes in bytes, CPUs in
    /// thousandths.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u64>)]
    pub quotas: BTreeMap<Dimension, u64>,
    #[serde(default)]
    pub users: Vec<User>,
    pub orgs: Vec<Org>,
}

/// A user without a password: `helix users setup NAME` gives a code to choose one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StateUser)]
pub struct User {
    pub name: Name,
    /// May run the installation.
    #[serde(default)]
    pub operator: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StateOrg)]
pub struct Org {
    pub name: Name,
    /// Limits of this org; sizes in bytes, CPUs in thousandths.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u64>)]
    pub quotas: BTreeMap<Dimension, u64>,
    #[serde(default)]
    pub members: Vec<Member>,
    /// Domains that are this org's, on the word of whoever wrote this.
    #[serde(default)]
    pub domains: Vec<String>,
    /// An org has a project `default` whether it is named here or not.
    #[serde(default)]
    pub projects: Vec<Project>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StateMember)]
pub struct Member {
    /// One of `users`.
    pub user: Name,
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StateProject)]
pub struct Project {
    pub name: Name,
    #[serde(default)]
    pub apps: Vec<App>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StateApp)]
pub struct App {
    pub name: Name,
    #[serde(default)]
    pub envs: Vec<Env>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StateEnv)]
pub struct Env {
    pub name: Name,
    /// What it runs; nothing when absent.
    #[serde(default)]
    pub release: Option<Release>,
    /// Instances per process, instead of what the manifest says.
    #[serde(default)]
    pub scale: BTreeMap<Name, u32>,
}

/// An image and how it is run, with its endpoints.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StateRelease)]
pub struct Release {
    /// `host/repository@sha256:…`, with a tag before the `@` if it should be shown.
    #[serde(deserialize_with = "pinned")]
    #[schema(value_type = String, pattern = "^[^@]+/[^@]+@sha256:[0-9a-f]{64}$")]
    pub image: Image,
    /// The text of a `helix.toml`; endpoints are part of it.
    #[serde(deserialize_with = "manifest")]
    #[schema(value_type = String)]
    pub manifest: Manifest,
    /// Where it came from, for people.
    #[serde(default)]
    pub source: Option<String>,
}

/// Where in the document something is wrong, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct StateFileError {
    /// Such as `orgs[0].projects[1].apps[0].name`; `.` is the document.
    pub path: String,
    pub message: String,
}

impl StateFileError {
    /// What stands in the way at a place of the document.
    pub fn at(path: impl Into<String>, message: impl fmt::Display) -> StateFileError {
        StateFileError { path: path.into(), message: message.to_string() }
    }

    /// The same for a refusal: its detail and whatever it says of single fields.
    pub fn refused(path: impl Into<String>, problem: &Problem) -> StateFileError {
        let fields = problem.details.iter().map(|it| format!("; {}: {}", it.field, it.message));
        StateFileError::at(path, format!("{}{}", problem.detail, fields.collect::<String>()))
    }
}

impl StateFile {
    /// Reads a document.
    ///
    /// # Errors
    /// Names the first place that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<StateFile, StateFileError> {
        if bytes.len() > FILE_BYTES_MAX {
            let message = format!("{} bytes are more than {FILE_BYTES_MAX}", bytes.len());
            return Err(StateFileError::at(".", message));
        }
        let mut text = serde_json::Deserializer::from_slice(bytes);
        let read = serde_path_to_error::deserialize(&mut text)
            .map_err(|error| StateFileError::at(error.path().to_string(), error.inner()))?;
        text.end().map_err(|error| StateFileError::at(".", error))?;
        Ok(read)
    }
}

fn known_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let version = String::deserialize(deserializer)?;
    if version == SCHEMA_VERSION {
        return Ok(version);
    }
    let shown: String = version.chars().take(32).collect();
    Err(de::Error::custom(format!("`{shown}` is not known, only `{SCHEMA_VERSION}`")))
}

fn manifest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Manifest, D::Error> {
    let text = String::deserialize(deserializer)?;
    manifest::parse(&text).map_err(|error| {
        let details = Problem::from(error).details.into_iter().map(|it| it.message);
        de::Error::custom(details.collect::<Vec<_>>().join("; "))
    })
}

fn pinned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Image, D::Error> {
    let text = String::deserialize(deserializer)?;
    image(&text).ok_or_else(|| {
        let shown: String = text.chars().take(128).collect();
        de::Error::custom(format!("`{shown}` is not HOST/REPOSITORY@sha256:DIGEST"))
    })
}

fn image(text: &str) -> Option<Image> {
    let (named, digest) = text.split_once('@')?;
    let hex = digest.strip_prefix("sha256:")?;
    if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    // A colon before the last slash is a port's.
    let (repository, tag) = match named.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_owned())),
        _ => (named, None),
    };
    let (host, path) = repository.split_once('/')?;
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic());
    let parts = [host, path].into_iter().chain(tag.as_deref());
    let is_named = parts.into_iter().all(is_plain);
    is_named.then(|| Image { repository: repository.to_owned(), tag, digest: digest.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};
    use utoipa::ToSchema;

    use super::*;

    fn refused(document: &Value) -> String {
        StateFile::parse(document.to_string().as_bytes()).unwrap_err().to_string()
    }

    fn with_env(env: Value) -> Value {
        let app = json!({ "name": "shop", "envs": [env] });
        let projects = json!([{ "name": "default" }, { "name": "web", "apps": [app] }]);
        json!({ "schema_version": "v1", "orgs": [{ "name": "acme", "projects": projects }] })
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let name = json!({ "schema_version": "v1", "orgs": [{ "name": "Acme Inc" }] });
        assert!(refused(&name).starts_with("orgs[0].name: `Acme Inc` is not a valid name"));
        let version = json!({ "schema_version": "v2", "orgs": [] });
        assert!(refused(&version).starts_with("schema_version: `v2` is not known, only `v1`"));
        let unknown = json!({ "schema_version": "v1", "orgs": [{ "name": "a", "tier": 1 }] });
        assert!(refused(&unknown).starts_with("orgs[0].tier: unknown field `tier`"));
        let role = json!([{ "name": "a", "members": [{ "user": "ann", "role": "king" }] }]);
        let role = json!({ "schema_version": "v1", "orgs": role });
        assert!(refused(&role).starts_with("orgs[0].members[0].role: "), "{}", refused(&role));
        let env = "orgs[0].projects[1].apps[0].envs[0]";
        let digest = "0".repeat(64);
        let image = format!("docker.io/library/nginx@sha256:{digest}");
        let manifest = "schema_version = \"v1\"\n[processes.web]\nports = 3\n";
        let wrong = json!({ "image": "nginx:1.27", "manifest": manifest });
        let wrong = refused(&with_env(json!({ "name": "production", "release": wrong })));
        assert!(wrong.starts_with(&format!("{env}.release.image: `nginx:1.27` is not")), "{wrong}");
        let wrong = json!({ "image": image, "manifest": manifest });
        let wrong = refused(&with_env(json!({ "name": "production", "release": wrong })));
        assert!(wrong.starts_with(&format!("{env}.release.manifest: ")), "{wrong}");
        assert!(wrong.contains("line 3"), "{wrong}");
    }

    #[test]
    fn it_has_an_end_and_a_bottom() {
        let long = vec![b' '; FILE_BYTES_MAX + 1];
        assert!(StateFile::parse(&long).unwrap_err().message.contains("more than"));
        let deep = "[".repeat(100_000);
        let deep = format!("{{\"schema_version\":\"v1\",\"orgs\":{deep}");
        assert!(StateFile::parse(deep.as_bytes()).is_err());
        let two = "{\"schema_version\":\"v1\",\"orgs\":[]} {}";
        assert!(StateFile::parse(two.as_bytes()).unwrap_err().message.contains("trailing"));
    }

    #[test]
    fn a_port_is_no_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = |text: &str| super::image(&format!("{text}@{digest}"));
        let local = image("localhost:5000/shop").unwrap();
        assert_eq!((local.repository.as_str(), local.tag), ("localhost:5000/shop", None));
        let tagged = image("localhost:5000/shop:v1").unwrap();
        assert_eq!(tagged.tag.as_deref(), Some("v1"));
        assert!(image("shop").is_none() && image("/shop").is_none() && image("a/b c").is_none());
    }

    /// `cargo xtask openapi` runs this to write the schema.
    #[test]
    fn the_schema_that_is_kept_is_this_one() {
        let mut parts =
            vec![("StateFile".to_owned(), <StateFile as utoipa::PartialSchema>::schema())];
        StateFile::schemas(&mut parts);
        let definitions: BTreeMap<_, _> = parts.into_iter().collect();
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "HelixStack state file",
            "$ref": "#/$defs/StateFile",
            "$defs": definitions,
        });
        let mut now = serde_json::to_string_pretty(&schema).unwrap();
        now = now.replace("#/components/schemas/", "#/$defs/") + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-file.schema.json");
        if std::env::var_os("HELIX_WRITE_OPENAPI").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == now,
            "docs/state-file.schema.json is out of date: run `cargo xtask openapi`"
        );
    }
}
