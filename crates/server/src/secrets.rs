//! The values of secrets, which are nowhere but in the sealed table: sealing a
//! version, opening it for a change or for the node that needs it, and removing
//! what no version leads to any more.
//!
//! Start from [`Vault`]. A record is bound to its org, env, version and to the hash
//! that the event of the version carries, so that it does not open as another's.
//! Who may ask is not known here.

use std::sync::Arc;
use std::time::Duration;

use helix_log::{Sealed, SealedError, SealedRows};
use helix_model::audit::{Attempt, Decision};
use helix_model::bundle::{self, Pin, VersionId};
use helix_model::secret_file::{self, Secrets};
use helix_model::token::Hash;
use helix_model::{Code, Env, Id, Instance, Org, Problem, State, reference};
use zeroize::Zeroizing;

use crate::attach::Attached;
use crate::engine::Engine;
use crate::server::Shared;
use crate::{clock, entropy};

/// What the ids of the records begin with.
const RECORDS: &str = "secrets/";

/// Records looked at at once; each is a file of up to 256 KiB.
const PAGE: u32 = 16;

/// A record is written before the version it is of. One that is this old and of no
/// version never became one: its server ended in between.
const ORPHAN_AFTER_MS: i64 = 60 * 60 * 1000;

/// How often what became of versions is looked at.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// Whose secrets these are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub org: Id<Org>,
    pub env: Id<Env>,
}

/// Values at rest.
pub(crate) struct Vault {
    sealed: Arc<Sealed>,
    rows: Arc<dyn SealedRows>,
}

impl Vault {
    pub(crate) fn new(sealed: Arc<Sealed>, rows: Arc<dyn SealedRows>) -> Vault {
        Vault { sealed, rows }
    }

    /// Seals values under a fresh id and tells what may be known of them.
    pub(crate) async fn seal(
        &self,
        place: Place,
        secrets: &Secrets,
    ) -> Result<bundle::Draft, Problem> {
        let file = secrets.canonical()?;
        let hash = Hash(self.hash("values", &[place.to_string().as_bytes(), &file]).await?);
        let id = VersionId::new(clock::now(), entropy::for_ids());
        let put = self.sealed.put(&record(place, id), &file, &bound_to(place, id, hash)).await;
        put.map_err(|error| unusable(&error))?;
        Ok(bundle::Draft { id, hash, keys: secrets.sizes(), bytes: file.len() as u64 })
    }

    /// The file of a version.
    pub(crate) async fn open(
        &self,
        place: Place,
        pin: &Pin,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let aad = bound_to(place, pin.id, pin.hash);
        let opened = self.sealed.get(&record(place, pin.id), &aad).await;
        let opened = opened.map_err(|error| unusable(&error))?;
        let plain = opened.ok_or_else(|| {
            let detail = format!("the values of version {} are not kept any more", pin.number);
            Problem::new(Code::Unavailable, detail)
                .hint("set all of them again: `helix secrets import --replace`")
        })?;
        Ok(Zeroizing::new(plain.expose().to_vec()))
    }

    /// The values of a version.
    pub(crate) async fn read(&self, place: Place, pin: &Pin) -> Result<Secrets, Problem> {
        let file = self.open(place, pin).await?;
        Ok(secret_file::parse(&file)?)
    }

    /// What tells a repeated request from another one under the same key. A plain
    /// hash would be kept with the receipt, for whoever reads it to try guesses on.
    pub(crate) async fn request_hash(&self, request: &[&[u8]]) -> Result<[u8; 32], Problem> {
        self.hash("request", request).await
    }

    async fn hash(&self, what: &str, parts: &[&[u8]]) -> Result<[u8; 32], Problem> {
        let hash = self.sealed.keyed_hash(&format!("helix/secrets/{what}/1"), parts).await;
        hash.map_err(|error| unusable(&error))
    }

    /// Removes the values of a version. One that stays for want of a database is
    /// found by [`tend`] at the next start.
    pub(crate) async fn forget(&self, place: Place, id: VersionId) {
        if let Err(error) = self.sealed.delete(&record(place, id)).await {
            tracing::warn!(%error, version = %id, "secrets that are not needed cannot be removed");
        }
    }

    /// Seals something small under a name, bound to what else is known of it.
    pub(crate) async fn put(&self, name: &str, bytes: &[u8], aad: &[u8]) -> Result<(), Problem> {
        self.sealed.put(name, bytes, aad).await.map_err(|error| unusable(&error))
    }

    /// Opens it again.
    pub(crate) async fn get(
        &self,
        name: &str,
        aad: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
        let opened = self.sealed.get(name, aad).await.map_err(|error| unusable(&error))?;
        Ok(opened.map(|plain| Zeroizing::new(plain.expose().to_vec())))
    }

    /// Removes it.
    pub(crate) async fn remove(&self, name: &str) {
        if let Err(error) = self.sealed.delete(name).await {
            tracing::warn!(%error, name, "a sealed record that is not needed cannot be removed");
        }
    }

    /// Names of records that begin with this, a page of them behind `after`.
    async fn names(&self, prefix: &str, after: &str) -> Result<Vec<String>, helix_log::LogError> {
        let page = self.rows.page(after, PAGE).await?;
        let names = page.into_iter().map(|row| row.key.id);
        Ok(names.take_while(|name| name.starts_with(prefix)).collect())
    }

    /// Removes records of orgs, `PREFIX/ORG/RECORD`, that are of no use: old enough to
    /// be no part of a change under way, or of an org that is gone.
    pub(crate) async fn sweep_of_orgs(
        &self,
        prefix: &str,
        state: &State,
        is_in_use: impl Fn(Id<Org>, VersionId) -> bool,
    ) -> Result<(), helix_log::LogError> {
        let mut after = prefix.to_owned();
        loop {
            let names = self.names(prefix, &after).await?;
            let Some(last) = names.last() else { return Ok(()) };
            after.clone_from(last);
            for name in &names {
                let parts = name.strip_prefix(prefix).and_then(|rest| rest.split_once('/'));
                let parsed = parts.and_then(|(org, record)| {
                    Some((org.parse::<Id<Org>>().ok()?, record.parse::<VersionId>().ok()?))
                });
                let Some((org, record)) = parsed else { continue };
                let is_old = clock::now().0 - record.made_at().0 > ORPHAN_AFTER_MS;
                if (is_old || state.orgs.get(org).is_none()) && !is_in_use(org, record) {
                    self.remove(name).await;
                }
            }
        }
    }

    /// Removes all values of an env that is gone.
    async fn clear(&self, env: Id<Env>) -> Result<(), helix_log::LogError> {
        let records = format!("{RECORDS}{env}/");
        loop {
            let page = self.rows.page(&records, PAGE).await?;
            let of_env = page.iter().filter(|row| row.key.id.starts_with(&records));
            let ids: Vec<_> = of_env.map(|row| &row.key.id).collect();
            if ids.is_empty() {
                return Ok(());
            }
            for id in ids {
                self.rows.delete(id).await?;
            }
        }
    }

    /// Removes what no version leads to.
    async fn sweep(&self, state: &State) -> Result<(), helix_log::LogError> {
        let mut after = RECORDS.to_owned();
        loop {
            let page = self.rows.page(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.key.id);
            for row in &page {
                let Some((env, version)) = parsed(&row.key.id) else { return Ok(()) };
                let is_old = clock::now().0 - version.made_at().0 > ORPHAN_AFTER_MS;
                let is_gone = state.envs.get(env).is_none();
                if (is_old || is_gone) && !is_in_use(state, env, version) {
                    self.rows.delete(&row.key.id).await?;
                }
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "org:{}|env:{}", self.org, self.env)
    }
}

fn record(place: Place, id: VersionId) -> String {
    format!("{RECORDS}{}/{id}", place.env)
}

fn parsed(record: &str) -> Option<(Id<Env>, VersionId)> {
    let (env, version) = record.strip_prefix(RECORDS)?.split_once('/')?;
    Some((env.parse().ok()?, version.parse().ok()?))
}

fn bound_to(place: Place, id: VersionId, hash: Hash) -> Vec<u8> {
    format!("helix-secrets-v1|{place}|version:{id}|hash:{hash}").into_bytes()
}

/// Whether a version or an instance leads to these values.
pub(crate) fn is_in_use(state: &State, env: Id<Env>, id: VersionId) -> bool {
    let kept = bundle::of(state, env)
        .is_some_and(|bundle| bundle.status.versions.iter().any(|version| version.pin.id == id));
    let mut instances = state.instances.children(env.any());
    kept || instances.any(|it| it.spec.secrets.is_some_and(|pin| pin.id == id))
}

fn unusable(error: &SealedError) -> Problem {
    tracing::error!(%error, hint = error.hint(), "the sealed table cannot be used");
    let detail = match error {
        SealedError::UnknownKey { .. } => "master_key_unavailable",
        SealedError::Tampered { .. } => "integrity_failed",
        _ => "decrypt_failed",
    };
    let detail = format!("secrets cannot be read or written right now ({detail})");
    Problem::new(Code::Unavailable, detail)
        .hint("the operator finds the cause in the server's output")
}

/// Removes the values of envs that are gone, for as long as it is not dropped
/// itself; and once, at the start, those that never became a version. What
/// makes room for another version is removed by whoever made that one.
pub(crate) async fn tend(engine: Engine, vault: Arc<Vault>) {
    let mut before = engine.state();
    if let Err(error) = vault.sweep(&before).await {
        tracing::warn!(%error, "the sealed table cannot be searched for what nothing leads to");
    }
    let mut position = engine.position();
    while position.changed().await.is_ok() {
        tokio::time::sleep(TEND_EVERY).await;
        position.mark_unchanged();
        let now = engine.state();
        // What is gone is remembered. The tables of bundles would not do: one that was
        // made and went between two looks is in neither.
        if now.gone.len() != before.gone.len() {
            let ended = now.gone.keys().filter(|id| !before.gone.contains_key(*id));
            for env in ended.filter_map(|id| id.typed::<Env>()) {
                if let Err(error) = vault.clear(env).await {
                    tracing::warn!(%error, %env, "secrets that are not needed cannot be removed");
                }
            }
        }
        before = now;
    }
}

impl Shared {
    /// The secrets of an instance, for the node it is on and nobody else. It is in
    /// the audit log, or it does not happen.
    pub(crate) async fn deliver_secrets(
        &self,
        to: &Attached,
        id: Id<Instance>,
        version: VersionId,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let state = self.engine.state();
        let linked = state.nodes.get(to.node).is_some_and(|node| node.status.link == to.link);
        let instance = state.instances.get(id).filter(|it| linked && it.spec.node == to.node);
        let pin = instance.and_then(|it| it.spec.secrets).filter(|pin| pin.id == version);
        let target = reference::path(&state, id.any());
        let attempt = to.attempt("deliver_secrets", instance.map(|it| it.spec.org), target);
        let (Some(instance), Some(pin)) = (instance, pin) else {
            let reason = "not_assigned".to_owned();
            self.audit.note(Attempt { decision: Decision::Deny, reason, ..attempt });
            let detail = format!("{id} does not have these secrets on node `{}`", to.name);
            return Err(Problem::new(Code::NotFound, detail));
        };
        self.audit.record(attempt).await?;
        let place = Place { org: instance.spec.org, env: instance.spec.env };
        self.vault.open(place, &pin).await
    }
}
