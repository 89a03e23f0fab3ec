//! Logins at other people's registries: those of orgs, sealed, and those that the
//! operator gives everybody. Start from [`Shared::login`].
//!
//! A record is bound to its org, its host and the name it has in the state, so that
//! it does not open as another's. How images are pulled is not known here.

use std::path::PathBuf;
use std::time::Duration;

use helix_image::Auth;
use helix_image::docker_config::DockerConfig;
use helix_image::pull::Transport;
use helix_model::audit::{Attempt, Decision};
use helix_model::bundle::VersionId;
use helix_model::link::PullLogin;
use helix_model::{Code, Id, Instance, Org, Problem, State, reference, registry};
use zeroize::Zeroizing;

use crate::attach::Attached;
use crate::engine::Engine;
use crate::secrets::Vault;
use crate::server::Shared;
use crate::{clock, entropy};

/// What the ids of the records begin with.
const RECORDS: &str = "registries/";

/// How often what became of logins is looked at. Whoever replaces or removes one
/// removes its record at once; this is for those who were killed at it, and for
/// orgs that went.
const TEND_EVERY: Duration = Duration::from_secs(60);

/// How this server reaches registries.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Whom it trusts, and whom it speaks to in the clear.
    pub transport: Transport,
    /// A Docker config whose logins every org may pull with.
    pub logins: Option<PathBuf>,
}

/// Seals a password under a fresh name.
pub(crate) async fn seal(
    vault: &Vault,
    org: Id<Org>,
    host: &str,
    login: &PullLogin,
) -> Result<registry::Login, Problem> {
    let record = VersionId::new(clock::now(), entropy::for_ids());
    let password = login.password.as_bytes();
    vault.put(&name(org, record), password, &bound_to(org, host, record)).await?;
    Ok(registry::Login { username: login.username.clone(), record })
}

/// Removes a password unless it is that of a login.
pub(crate) async fn remove_unused(vault: &Vault, state: &State, org: Id<Org>, record: VersionId) {
    if !is_in_use(state, org, record) {
        vault.remove(&name(org, record)).await;
    }
}

async fn open(
    vault: &Vault,
    org: Id<Org>,
    host: &str,
    login: &registry::Login,
) -> Result<PullLogin, Problem> {
    let opened = vault.get(&name(org, login.record), &bound_to(org, host, login.record)).await?;
    let password: Option<String> =
        opened.and_then(|bytes: Zeroizing<Vec<u8>>| String::from_utf8(bytes.to_vec()).ok());
    let password = password.ok_or_else(|| {
        Problem::new(Code::Unavailable, format!("the password for `{host}` is not kept any more"))
            .hint(format!("set it again: `helix registries add {host}`"))
    })?;
    Ok(PullLogin { username: login.username.clone(), password })
}

fn name(org: Id<Org>, record: VersionId) -> String {
    format!("{RECORDS}{org}/{record}")
}

fn bound_to(org: Id<Org>, host: &str, record: VersionId) -> Vec<u8> {
    format!("helix-registry-v1|org:{org}|host:{host}|record:{record}").into_bytes()
}

fn is_in_use(state: &State, org: Id<Org>, record: VersionId) -> bool {
    let org = state.orgs.get(org);
    org.is_some_and(|org| org.spec.registries.values().any(|login| login.record == record))
}

/// Removes passwords that no login leads to, for as long as it is not dropped.
pub(crate) async fn tend(engine: Engine, vault: std::sync::Arc<Vault>) {
    loop {
        let state = engine.state();
        let is_in_use = |org, record| is_in_use(&state, org, record);
        if let Err(error) = vault.sweep_of_orgs(RECORDS, &state, is_in_use).await {
            tracing::warn!(%error, "passwords that are not needed cannot be searched for");
        }
        drop(state);
        tokio::time::sleep(TEND_EVERY).await;
    }
}

impl Shared {
    /// With what an org introduces itself at a registry: its own login, else the
    /// operator's, else as nobody.
    pub(crate) async fn login(&self, org: Id<Org>, host: &str) -> Result<Auth, Problem> {
        let state = self.engine.state();
        let own = state.orgs.get(org).and_then(|org| org.spec.registries.get(host)).cloned();
        drop(state);
        if let Some(own) = own {
            let PullLogin { username, password } = open(&self.vault, org, host, &own).await?;
            return Ok(Auth::Basic { user: username, password });
        }
        let Some(path) = &self.registries.logins else { return Ok(Auth::Anonymous) };
        let unusable = |error: helix_image::docker_config::DockerConfigError| {
            tracing::warn!(%error, "the operator's logins at registries cannot be used");
            Problem::new(Code::Unavailable, format!("the login at `{host}` cannot be used"))
                .hint("the operator finds the cause in the server's output")
        };
        let config = DockerConfig::load(path).map_err(unusable)?;
        Ok(config.login(host).await.map_err(unusable)?.unwrap_or_default())
    }

    /// The login with which to pull the image of an instance, for the node it is on
    /// and nobody else. It is in the audit log, or it does not happen.
    pub(crate) async fn pull_login(
        &self,
        to: &Attached,
        id: Id<Instance>,
    ) -> Result<Option<PullLogin>, Problem> {
        let state = self.engine.state();
        let linked = state.nodes.get(to.node).is_some_and(|node| node.status.link == to.link);
        let instance = state.instances.get(id).filter(|it| linked && it.spec.node == to.node);
        let release = instance.and_then(|it| state.releases.get(it.spec.release));
        let target = reference::path(&state, id.any());
        let attempt = to.attempt("deliver_pull_login", instance.map(|it| it.spec.org), target);
        let (Some(instance), Some(release)) = (instance, release) else {
            let reason = "not_assigned".to_owned();
            self.audit.note(Attempt { decision: Decision::Deny, reason, ..attempt });
            let detail = format!("{id} is not on node `{}`", to.name);
            return Err(Problem::new(Code::NotFound, detail));
        };
        let org = instance.spec.org;
        let host = release.spec.image.repository.split('/').next().unwrap_or_default().to_owned();
        drop(state);
        match self.login(org, &host).await? {
            Auth::Basic { user, password } => {
                self.audit.record(Attempt { detail: host, ..attempt }).await?;
                Ok(Some(PullLogin { username: user, password }))
            }
            Auth::Anonymous | Auth::Bearer(_) => Ok(None),
        }
    }
}
