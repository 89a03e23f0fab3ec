//! Backups of volumes, between the nodes that have the data and the store that keeps it.
//!
//! Start from [`Backups`]. Nodes send pieces and ask for pieces, over their links; what is
//! encrypted, under which key and where it goes is known here alone. A node may write only
//! the backup that it is to make, and read only the one that a volume of its is made from.

use std::time::Duration;

use helix_log::{BackupError, BackupIndex, BackupStore, Sealed, StoreTrouble, VolumeBackups};
use helix_model::audit::{Attempt, Decision};
use helix_model::link::BackupAsk;
use helix_model::snapshot::{self, BACKUPS_KEPT};
use helix_model::{
    AnyId, Code, Command, Id, Problem, Resource, Snapshot, State, destroy, reference,
};
use zeroize::Zeroizing;

use crate::attach::Attached;
use crate::clock;
use crate::engine::{Engine, Origin};
use crate::entropy;
use crate::server::Shared;

/// What keys of volumes are derived for.
const PURPOSE: &str = "helix/backups/1";

/// How often what became of backups is looked at.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// How late a backup may be asked for that is due.
const DUE_EVERY: Duration = Duration::from_secs(60);

/// A store that was out of reach is tried again after this long.
const AGAIN: Duration = Duration::from_secs(30);

/// Who prunes backups, in events.
const ACTOR: &str = "backups";

/// Where backups go, when the operator has said so.
#[derive(Debug)]
pub(crate) struct Backups {
    store: Option<BackupStore>,
    sealed: std::sync::Arc<Sealed>,
}

impl Backups {
    pub(crate) fn new(store: Option<BackupStore>, sealed: std::sync::Arc<Sealed>) -> Backups {
        Backups { store, sealed }
    }

    /// Refuses what needs a store where there is none.
    pub(crate) fn refuse_without_store(&self) -> Result<(), Problem> {
        if self.store.is_some() {
            return Ok(());
        }
        let detail = "this installation has no place for backups";
        Err(Problem::new(Code::PreconditionFailed, detail).hint(
            "the operator names one: `--backups DIR` or `--backups s3://BUCKET/PREFIX` of the \
             server",
        ))
    }

    /// Says in the server's log whether the store can be used, for whoever has just set it
    /// up. The server goes on either way: a store may be away for a while.
    async fn introduce(&self) {
        let Some(store) = &self.store else { return };
        match store.check().await {
            Ok(()) => tracing::info!(store = store.place(), "the store of backups is in reach"),
            Err(error) => drop(told(&error)),
        }
    }

    /// The backups of a snapshot's volume. The key is derived from one of the installation,
    /// which is a sealed record itself.
    async fn of(&self, snapshot: &Resource<Snapshot>) -> Result<VolumeBackups, Problem> {
        self.refuse_without_store()?;
        let (org, volume) = (snapshot.spec.org.to_string(), snapshot.spec.volume.to_string());
        let parts = [org.as_bytes(), volume.as_bytes()];
        let key = self.sealed.keyed_hash(PURPOSE, &parts).await.map_err(|error| {
            tracing::error!(%error, "the key of a backup cannot be made");
            Problem::new(Code::Unavailable, "master_key_unavailable: the key cannot be read")
        })?;
        let store = self.store.as_ref().ok_or_else(|| unusable("there is no store"))?;
        Ok(store.of(&org, &volume, Zeroizing::new(key)))
    }
}

fn unusable(detail: &str) -> Problem {
    Problem::new(Code::Unavailable, detail)
}

/// What a person is told of a store that does not do as it is asked. What the store itself
/// says is for the operator, in the server's log.
fn told(error: &BackupError) -> Problem {
    tracing::warn!(%error, cause = cause(error), "a backup cannot be kept or read");
    let trouble = error.trouble();
    let code = match (trouble, error) {
        (Some(StoreTrouble::CredentialsInvalid), _) => "credentials_invalid",
        (Some(StoreTrouble::BucketMissing), _) => "backup_bucket_missing",
        (Some(StoreTrouble::Unreachable), _) => "backup_store_unreachable",
        (None, BackupError::Missing { what: "index", .. }) => "backup_metadata_missing",
        (None, BackupError::Missing { .. }) => "backup_object_missing",
        (None, BackupError::NotAPiece { .. }) => "checksum_failed",
        (None, _) => "decrypt_failed",
    };
    // What ails a store may be over in a moment; a damaged backup stays as it is.
    let kind = if trouble.is_some() { Code::Unavailable } else { Code::PreconditionFailed };
    Problem::new(kind, format!("{code}: {error}"))
}

/// What is below an error, for the operator.
fn cause(error: &BackupError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

/// Whether a node may do this with a backup now.
fn is_allowed(
    state: &State,
    from: &Attached,
    snapshot: &Resource<Snapshot>,
    ask: &BackupAsk,
) -> bool {
    let is_linked = state.nodes.get(from.node).is_some_and(|node| node.status.link == from.link);
    let is_meant = match ask {
        BackupAsk::Lacks { .. } | BackupAsk::Put { .. } | BackupAsk::Finish { .. } => {
            let is_wanted = state.destroying_since(snapshot.id.any()).is_none();
            snapshot.spec.node == from.node
                && snapshot.status.observed.phase.is_under_way()
                && is_wanted
        }
        BackupAsk::Open { .. } | BackupAsk::Get { .. } => {
            let mut volumes = state.volumes.children(snapshot.spec.org.any());
            volumes.any(|it| {
                it.spec.source == Some(snapshot.id)
                    && it.spec.node == Some(from.node)
                    && !it.status.made
            })
        }
    };
    is_linked && snapshot.spec.backup && is_meant
}

impl Shared {
    /// Does what a node asks of the store of backups. The beginning of a read and the end
    /// of a write are in the audit log, or do not happen; so is what is refused.
    pub(crate) async fn backup_asked(
        &self,
        from: &Attached,
        ask: &BackupAsk,
        body: &[u8],
    ) -> Result<Vec<u8>, Problem> {
        let state = self.engine.state();
        let id = ask.snapshot();
        let snapshot = state.snapshots.get(id);
        let allowed = snapshot.filter(|it| is_allowed(&state, from, it, ask));
        let operation = match ask {
            BackupAsk::Open { .. } | BackupAsk::Get { .. } => "read_backup",
            _ => "write_backup",
        };
        let target = reference::path(&state, id.any());
        let attempt = from.attempt(operation, snapshot.map(|it| it.spec.org), target);
        let Some(snapshot) = allowed else {
            let reason = "not_assigned".to_owned();
            self.audit.note(Attempt { decision: Decision::Deny, reason, ..attempt });
            return Err(not_assigned(from, id));
        };
        if matches!(ask, BackupAsk::Open { .. } | BackupAsk::Finish { .. }) {
            self.audit.record(attempt).await?;
        }
        let backups = self.backups.of(snapshot).await?;
        let name = id.to_string();
        let answered = match ask {
            BackupAsk::Lacks { .. } => {
                let hashes: Vec<String> = lines(body);
                backups.lacks(&hashes).await.map(|lacking| lacking.join("\n").into_bytes())
            }
            BackupAsk::Put { sha256, .. } => backups.put(sha256, body).await.map(|()| Vec::new()),
            BackupAsk::Finish { lists, .. } => {
                let index = BackupIndex { about: body.to_vec(), lists: lists.clone() };
                self.finish(from, ask, &backups, &index).await?;
                Ok(Vec::new())
            }
            BackupAsk::Open { .. } => backups.open(&name).await.map(|index| {
                let lists = index.lists.iter().map(|list| format!("{list}\n"));
                let head = format!("{}\n{}", index.lists.len(), lists.collect::<String>());
                [head.as_bytes(), &index.about].concat()
            }),
            BackupAsk::Get { sha256, .. } => backups.get(sha256).await,
        };
        answered.map_err(|error| told(&error))
    }

    /// Makes a backup whole. Another server may have destroyed it and removed it from the
    /// store without this one knowing yet: what the log says is asked before, and again
    /// when it is written, so that none stays that nothing names any more.
    async fn finish(
        &self,
        from: &Attached,
        ask: &BackupAsk,
        backups: &VolumeBackups,
        index: &BackupIndex,
    ) -> Result<(), Problem> {
        let id = ask.snapshot();
        let is_still_allowed = async || {
            let state = self.engine.caught_up().await?;
            let snapshot = state.snapshots.get(id);
            let allowed = snapshot.is_some_and(|it| is_allowed(&state, from, it, ask));
            if allowed { Ok(()) } else { Err(not_assigned(from, id)) }
        };
        is_still_allowed().await?;
        let name = id.to_string();
        backups.finish(&name, index).await.map_err(|error| told(&error))?;
        if let Err(problem) = is_still_allowed().await {
            backups.remove(&name).await.map_err(|error| told(&error))?;
            return Err(problem);
        }
        Ok(())
    }
}

fn not_assigned(from: &Attached, id: Id<Snapshot>) -> Problem {
    Problem::new(Code::NotFound, format!("{id} is nothing that node `{}` is to do", from.name))
}

fn lines(body: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(body).lines().map(str::to_owned).collect()
}

/// Removes backups that are being destroyed, and asks for those beyond the number that is
/// kept to be; for as long as it is not dropped itself.
pub(crate) async fn tend(shared: std::sync::Arc<Shared>) {
    shared.backups.introduce().await;
    let engine = shared.engine.clone();
    let mut position = engine.position();
    loop {
        position.mark_unchanged();
        let all = remove_destroyed(&shared).await;
        prune(&engine).await;
        begin_due(&engine).await;
        tokio::time::sleep(if all { TEND_EVERY } else { AGAIN }).await;
        // Backups come due without anything happening.
        if all {
            // The end of the log's writer is asked for below.
            let _ = tokio::time::timeout(DUE_EVERY, position.changed()).await;
        }
        if position.has_changed().is_err() {
            return;
        }
    }
}

/// Whether all of them could be.
async fn remove_destroyed(shared: &Shared) -> bool {
    let state = shared.engine.state();
    let going = state.snapshots.iter().filter(|it| snapshot::is_for_store_to_remove(&state, it));
    let mut all = true;
    for snapshot in going {
        match remove(shared, snapshot).await {
            Ok(()) => {
                let removed = snapshot::BackupRemoved { snapshot: snapshot.id };
                submit(&shared.engine, Command::BackupRemoved(removed)).await;
            }
            Err(problem) => {
                tracing::warn!(%problem, snapshot = %snapshot.id, "a backup cannot be removed");
                all = false;
            }
        }
    }
    all
}

async fn remove(shared: &Shared, snapshot: &Resource<Snapshot>) -> Result<(), Problem> {
    let backups = shared.backups.of(snapshot).await?;
    backups.remove(&snapshot.id.to_string()).await.map_err(|error| told(&error))?;
    // Pieces of one that is being made are named by nothing yet.
    let state = shared.engine.state();
    if snapshot::under_way(&state, snapshot.spec.org, snapshot.spec.volume).is_none()
        && let Err(error) = backups.sweep().await
    {
        tracing::warn!(%error, "pieces of backups that nothing needs cannot be removed");
    }
    Ok(())
}

/// Of each volume the newest backups are kept; the others go.
async fn prune(engine: &Engine) {
    let state = engine.state();
    for id in snapshot::beyond(&state, BACKUPS_KEPT) {
        submit(engine, Command::Destroy(destroy::Destroy { target: id.any(), cascade: false }))
            .await;
    }
}

/// Asks for the backups that are due. Every server does, and the first is heard.
async fn begin_due(engine: &Engine) {
    for volume in snapshot::due(&engine.state(), clock::now()) {
        let create = snapshot::Create {
            volume,
            name: None,
            pause_max_ms: snapshot::PAUSE_DEFAULT_MS,
            backup: true,
            scheduled: true,
        };
        // Its node may be away, which the node's condition tells; this asks again.
        if let Err(problem) = engine.submit(Command::CreateSnapshot(create), origin()).await {
            tracing::debug!(%problem, %volume, "a backup that is due cannot be begun");
        }
    }
}

fn origin() -> Origin {
    Origin::system(ACTOR, entropy::request_id())
}

async fn submit(engine: &Engine, command: Command) -> Option<AnyId> {
    match engine.submit(command, origin()).await {
        Ok(receipt) => receipt.subject.map(|subject| subject.id),
        Err(problem) => {
            tracing::warn!(%problem, "what is to be done about backups was refused");
            None
        }
    }
}
