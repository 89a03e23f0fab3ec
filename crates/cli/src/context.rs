//! The saved context: which platform, and which org, project and env in it.
//!
//! `helix up` writes it, every other command reads it, so that one's own machine
//! needs no login step. It holds a token and is readable by its owner only.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use helix_model::{Code, Name, Problem};
use serde::{Deserialize, Serialize};

use crate::io::Environment;

/// What is remembered between commands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The API's base URL.
    pub url: String,
    /// Sent to this URL only.
    pub token: Option<String>,
    pub org: Option<Name>,
    pub project: Option<Name>,
    pub env: Option<Name>,
    /// Where the platform at `url` keeps its data, when it is on this machine.
    pub data_dir: Option<PathBuf>,
    /// Tokens of `helix auth login`, by the API's base URL, each sent to its URL
    /// only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logins: BTreeMap<String, String>,
}

impl Context {
    /// A context for an API that nothing is known of yet.
    pub(crate) fn of(url: &str) -> Context {
        Context {
            url: url.trim_end_matches('/').to_owned(),
            token: None,
            org: None,
            project: None,
            env: None,
            data_dir: None,
            logins: BTreeMap::new(),
        }
    }

    /// The token for an API: who logged in there, else the platform's own.
    pub(crate) fn token_for(&self, url: &str) -> Option<String> {
        let url = url.trim_end_matches('/');
        let own = (self.url.trim_end_matches('/') == url).then(|| self.token.clone()).flatten();
        self.logins.get(url).cloned().or(own)
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Where the context is: `$XDG_CONFIG_HOME/helix/context.json`, else below
/// `~/.config`. `None` when there is no home either.
pub fn path(environment: &Environment) -> Option<PathBuf> {
    Some(base(environment, "XDG_CONFIG_HOME", ".config")?.join("helix/context.json"))
}

/// Where images built from folders are kept between deploys.
pub(crate) fn cache(environment: &Environment) -> Option<PathBuf> {
    Some(base(environment, "XDG_CACHE_HOME", ".cache")?.join("helix/images"))
}

/// Where what builds said is kept.
pub(crate) fn builds(environment: &Environment) -> Option<PathBuf> {
    Some(base(environment, "XDG_STATE_HOME", ".local/state")?.join("helix/builds"))
}

/// Where a platform started here keeps its data unless told otherwise.
pub(crate) fn data(environment: &Environment) -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/helix"));
    }
    Some(base(environment, "XDG_DATA_HOME", ".local/share")?.join("helix"))
}

fn base(environment: &Environment, variable: &str, below_home: &str) -> Option<PathBuf> {
    // The XDG rules: a path that is not absolute is to be ignored.
    let chosen = environment.get(variable).map(PathBuf::from);
    chosen
        .filter(|path| path.is_absolute())
        .or_else(|| Some(Path::new(environment.get("HOME")?).join(below_home)))
}

/// The saved context; `None` when nothing was saved.
pub fn load(environment: &Environment) -> Result<Option<Context>, Problem> {
    let Some(path) = path(environment) else {
        return Ok(None);
    };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&path, "read", &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| unusable(&path, "understand", &error))
}

/// Saves the context, replacing the one before in one step.
pub fn save(environment: &Environment, context: &Context) -> Result<PathBuf, Problem> {
    let path = path(environment).ok_or_else(|| {
        Problem::new(Code::InvalidArgument, "there is no place to save the context in")
            .hint("set HOME or XDG_CONFIG_HOME")
    })?;
    write(&path, context).map_err(|error| unusable(&path, "write", &error))?;
    Ok(path)
}

fn write(path: &Path, context: &Context) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = folder.join(format!(".context.{}", std::process::id()));
    let _ = std::fs::remove_file(&unfinished);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&serde_json::to_vec_pretty(context)?)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}

fn unusable(path: &Path, action: &str, error: &dyn std::fmt::Display) -> Problem {
    let detail = format!("cannot {action} the saved context {}: {error}", path.display());
    Problem::new(Code::InvalidArgument, detail).hint("delete the file; `helix up` writes a new one")
}
