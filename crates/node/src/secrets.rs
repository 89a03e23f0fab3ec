//! The secrets of instances: fetched over the link when one starts, kept in this
//! machine's memory for as long as it is here.
//!
//! Start from [`Secrets::file`]. Kept, because a crashed program must be startable
//! with no server in reach; in memory, because they must not be on a disk. After a
//! reboot they are gone and instances wait until they can be fetched again. What
//! is in them is not known here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use helix_model::bundle::{Pin, VersionId};
use helix_model::link::PullLogin;
use helix_model::{Id, Instance, Reason};
use helix_runtime::{SECRETS_FILE, keep_secrets, memory_dir_of};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::lifecycle::Refusal;
use crate::machine::chain;

/// How long to wait for a link before it is told: a server that restarts is back
/// within seconds, and whoever waits here is served at once.
const SOURCE_WAIT: Duration = Duration::from_secs(5);

/// How long a server may take to answer.
const FETCH_WAIT: Duration = Duration::from_secs(10);

/// Where values come from: the server this node is linked to. It gives out what
/// belongs to instances of this node, and nothing else.
pub trait SecretSource: Send + Sync + 'static {
    /// The file of an instance. The error is for people.
    fn fetch(
        &self,
        instance: Id<Instance>,
        version: VersionId,
    ) -> BoxFuture<'static, Result<Zeroizing<Vec<u8>>, String>>;

    /// The login with which to pull the image of an instance; `None` as nobody.
    fn pull_login(
        &self,
        instance: Id<Instance>,
    ) -> BoxFuture<'static, Result<Option<PullLogin>, String>>;
}

/// The present source, while there is a link.
pub(crate) type Source = Option<Arc<dyn SecretSource>>;

/// The secrets that are on this machine.
pub(crate) struct Secrets {
    source: watch::Sender<Source>,
    /// Of this agent alone; `None` where the machine has no memory to keep them in.
    dir: Option<PathBuf>,
}

impl Secrets {
    /// Those of the agent whose files are in `data_dir`.
    pub(crate) fn of(data_dir: &Path) -> Secrets {
        let dir = memory_dir_of("secrets", data_dir);
        Secrets { source: watch::Sender::new(None), dir }
    }

    /// Has values fetched from there, or, without a link, from nowhere.
    pub(crate) fn come_from(&self, source: Source) {
        self.source.send_replace(source);
    }

    /// The file with an instance's secrets, fetched unless it is here.
    pub(crate) async fn file(&self, instance: Id<Instance>, pin: Pin) -> Result<PathBuf, Refusal> {
        let Some(dir) = &self.dir else {
            return Err(Refusal {
                reason: Reason::SecretsInjectionFailed,
                message: "this machine has no tmpfs at /run or /dev/shm to keep secrets in"
                    .to_owned(),
                retryable: true,
            });
        };
        let path = dir.join(instance.to_string()).join(pin.id.to_string()).join(SECRETS_FILE);
        if path.is_file() {
            return Ok(path);
        }
        let missing =
            |message| Refusal { reason: Reason::SecretsMissing, message, retryable: true };
        let contents = self.fetch(instance, pin.id).await.map_err(missing)?;
        keep_secrets(&path, &contents).map_err(|error| Refusal {
            reason: Reason::SecretsInjectionFailed,
            message: format!("cannot keep secrets at {}: {error}", path.display()),
            retryable: true,
        })?;
        Ok(path)
    }

    /// The login for an instance's image, asked for each time it is pulled and kept
    /// nowhere. Without an answer it is pulled as nobody, which is enough for most.
    pub(crate) async fn pull_login(
        &self,
        instance: Id<Instance>,
    ) -> Result<Option<PullLogin>, String> {
        let source = self.linked().await.ok_or("no server is in reach to ask for a login")?;
        match tokio::time::timeout(FETCH_WAIT, source.pull_login(instance)).await {
            Ok(answer) => answer,
            Err(_) => Err("the server does not answer when asked for a login".to_owned()),
        }
    }

    /// The present source, or the one that comes within moments.
    async fn linked(&self) -> Source {
        let mut source = self.source.subscribe();
        let linked = tokio::time::timeout(SOURCE_WAIT, source.wait_for(Option::is_some)).await;
        linked.ok().and_then(Result::ok).and_then(|source| source.clone())
    }

    async fn fetch(
        &self,
        instance: Id<Instance>,
        version: VersionId,
    ) -> Result<Zeroizing<Vec<u8>>, String> {
        let source = self.linked().await;
        let source = source.ok_or("its secrets are not here, and no server is in reach")?;
        match tokio::time::timeout(FETCH_WAIT, source.fetch(instance, version)).await {
            Ok(answer) => answer.map_err(|why| format!("its secrets cannot be fetched: {why}")),
            Err(_) => Err("its secrets cannot be fetched: the server does not answer".to_owned()),
        }
    }

    /// Removes what is kept for an instance that is gone.
    pub(crate) fn forget(&self, instance: Id<Instance>) {
        if let Some(dir) = &self.dir {
            remove(&dir.join(instance.to_string()));
            // Refused while others are in it.
            let _ = std::fs::remove_dir(dir);
        }
    }

    /// Removes what is kept for any other than these.
    pub(crate) fn keep_only(&self, is_here: impl Fn(Id<Instance>) -> bool) {
        let entries = self.dir.as_ref().and_then(|dir| std::fs::read_dir(dir).ok());
        for entry in entries.into_iter().flatten().flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !id.is_some_and(&is_here) {
                remove(&entry.path());
            }
        }
    }
}

fn remove(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = chain(&error), "secrets stay behind");
        }
        _ => {}
    }
}
