//! Logins as `docker login` keeps them: a `config.json` with users and passwords in
//! it, or with the names of programs that have them. Start at [`DockerConfig::load`].
//!
//! A helper is a program somebody put on this machine for the purpose; it is asked
//! with a time limit, and of what it says no more than a login is read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::auth::Auth;

/// A file with a hundred logins has some 20 KiB.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// A token of a cloud has some kilobytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Helpers ask clouds for tokens, which takes a second or two.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);

/// What Docker calls its own registry.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Why a login cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// The file is not there or not readable.
    #[error("cannot read the logins in {path}")]
    Read {
        /// Which file.
        path: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// It is not what `docker login` writes.
    #[error("the file of logins is not a Docker config at line {line}, column {column}")]
    Garbled {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// It is larger than any such file.
    #[error("the file of logins is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// A login in it has no user and password.
    #[error("the login for {0} is not a user and a password")]
    Login(String),
    /// A program that has logins did not give one.
    #[error("the helper `docker-credential-{helper}` gives no login for {host}: {reason}")]
    Helper {
        /// Which.
        helper: String,
        /// For which registry.
        host: String,
        /// Why not.
        reason: String,
    },
}

/// A `config.json`.
#[derive(Clone, Default, Deserialize)]
pub struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
}

/// Says how many there are and nothing of them.
impl std::fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DockerConfig({} logins, {} helpers)", self.auths.len(), self.helpers.len())
    }
}

impl DockerConfig {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, DockerConfigError> {
        let read = |source| DockerConfigError::Read { path: path.display().to_string(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > FILE_BYTES_MAX {
            return Err(DockerConfigError::TooLarge);
        }
        Self::parse(&std::fs::read(path).map_err(read)?)
    }

    /// Reads what is in such a file. What is wrong with it is told by place alone.
    pub fn parse(bytes: &[u8]) -> Result<Self, DockerConfigError> {
        serde_json::from_slice(bytes).map_err(|error| DockerConfigError::Garbled {
            line: error.line(),
            column: error.column(),
        })
    }

    /// The login for a registry; `None` when there is none.
    pub async fn login(&self, host: &str) -> Result<Option<Auth>, DockerConfigError> {
        if let Some(helper) = self.helpers.get(host) {
            return ask(helper, host).await;
        }
        match (self.kept(host)?, &self.store) {
            (None, Some(helper)) => ask(helper, host).await,
            (kept, _) => Ok(kept),
        }
    }

    /// The login that is in the file itself.
    pub fn kept(&self, host: &str) -> Result<Option<Auth>, DockerConfigError> {
        let known = keys(host).into_iter().find_map(|key| self.auths.get(&key));
        let login = known.map_or(Ok(None), Entry::login);
        login.map_err(|()| DockerConfigError::Login(host.to_owned()))
    }
}

impl Entry {
    fn login(&self) -> Result<Option<Auth>, ()> {
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Auth::Basic { user: user.clone(), password: password.clone() }));
        }
        let Some(auth) = self.auth.as_deref().filter(|auth| !auth.is_empty()) else {
            return Ok(None);
        };
        let engine = base64::engine::general_purpose::STANDARD;
        let text = engine.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        // Some versions end the password with a NUL.
        let text = text.ok_or(())?;
        let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or(())?;
        Ok(Some(Auth::Basic { user: user.to_owned(), password: password.to_owned() }))
    }
}

/// The names a registry may have in the file.
fn keys(host: &str) -> Vec<String> {
    let mut keys = vec![host.to_owned(), format!("https://{host}"), format!("https://{host}/v2/")];
    if host == DOCKER_HUB {
        keys.extend([DOCKER_HUB_KEY.to_owned(), "index.docker.io".to_owned()]);
    }
    keys
}

async fn ask(helper: &str, host: &str) -> Result<Option<Auth>, DockerConfigError> {
    let failed = |reason: String| DockerConfigError::Helper {
        helper: helper.chars().take(64).collect(),
        host: host.to_owned(),
        reason,
    };
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(usual) {
        return Err(failed("that is not the name of a program".to_owned()));
    }
    let asked = tokio::time::timeout(HELPER_TIMEOUT, converse(helper, host));
    let answer = match asked.await {
        Ok(answer) => answer.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed("it does not answer".to_owned())),
    };
    let Some(answer) = answer else { return Ok(None) };
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Login {
        username: String,
        secret: String,
    }
    let login: Login = serde_json::from_slice(&answer)
        .map_err(|_| failed("its answer is not understood".to_owned()))?;
    if login.username == "<token>" {
        return Err(failed("it has an identity token and no password".to_owned()));
    }
    Ok(Some(Auth::Basic { user: login.username, password: login.secret }))
}

/// What the helper says; `None` when it has no login.
async fn converse(helper: &str, host: &str) -> std::io::Result<Option<Vec<u8>>> {
    let mut child = tokio::process::Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let key = if host == DOCKER_HUB { DOCKER_HUB_KEY } else { host };
    if let Some(mut input) = child.stdin.take() {
        input.write_all(key.as_bytes()).await?;
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    }
    // To have nothing is an error of the protocol's, told on the same stream.
    Ok(child.wait().await?.success().then_some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Option<Auth> {
        Some(Auth::Basic { user: user.to_owned(), password: password.to_owned() })
    }

    #[tokio::test]
    async fn logins_are_found_under_every_name_docker_has_for_them() {
        let text = br#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"YW5uOnM6Y3JldA=="},
            "registry.internal:5000":{"username":"bob","password":"pw"},
            "https://ghcr.io":{"auth":"YW5uOnB3AAA="},
            "empty.example":{}, "bad.example":{"auth":"!"}
        },"HttpHeaders":{"x":"y"}}"#;
        let config = DockerConfig::parse(text).unwrap();
        assert_eq!(config.login("docker.io").await.unwrap(), basic("ann", "s:cret"));
        assert_eq!(config.login("registry.internal:5000").await.unwrap(), basic("bob", "pw"));
        assert_eq!(config.login("ghcr.io").await.unwrap(), basic("ann", "pw"));
        assert_eq!(config.login("empty.example").await.unwrap(), None);
        assert_eq!(config.login("other.example").await.unwrap(), None);
        assert!(config.login("bad.example").await.is_err());
        let error = DockerConfig::parse(b"{\"auths\":hunter2}").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_or_has_no_proper_name_is_told() {
        for helper in ["no-such-helper-anywhere", "../../bin/sh", ""] {
            let text = format!(r#"{{"credsStore":"{helper}"}}"#);
            let config = DockerConfig::parse(text.as_bytes()).unwrap();
            assert!(config.login("ghcr.io").await.is_err(), "{helper}");
        }
    }
}
