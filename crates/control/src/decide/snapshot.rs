//! Deciding on snapshots: when one can be taken, and when it may go.

use helix_model::snapshot::{self, Of, PAUSE_MAX_MS, PER_VOLUME_MAX};
use helix_model::{
    AnyId, Code, Event, Id, Kind, Name, Node, Problem, Reason, Resource, Snapshot, State, Volume,
    reference,
};

use super::{Draft, destroy};

/// How much of the name of a snapshot nobody named is its volume's.
const STEM_CHARS_MAX: usize = 26;

/// Asks for a snapshot of a volume that is there.
pub(super) fn create(
    draft: &mut Draft<'_, '_>,
    command: &snapshot::Create,
) -> Result<Option<AnyId>, Problem> {
    let state = &draft.state;
    let Some(volume) = state.volumes.get(command.volume) else {
        return Err(Problem::not_found(Kind::Volume, &command.volume.to_string()));
    };
    if command.scheduled && !snapshot::is_due(state, volume, draft.context.now) {
        // Another server has asked already.
        return Ok(Some(volume.id.any()));
    }
    destroy::refuse_going(state, volume.id.any())?;
    let unready = |why: &str| {
        Problem::new(Code::PreconditionFailed, format!("volume `{}` {why}", volume.name))
    };
    let node = volume.spec.node.ok_or_else(|| unready("has no data yet"))?;
    let node = state.nodes.get(node).ok_or_else(|| unready("is gone with its node"))?;
    if !volume.status.made {
        return Err(unready("has no data yet"));
    }
    if !node.status.connected {
        let why = format!("is on node {}, which does not report", node.name);
        return Err(unready(&why));
    }
    if let Some(other) = snapshot::under_way(state, volume.spec.org, volume.id) {
        let other = reference::path(state, other.any());
        let detail = format!("snapshot `{other}` of volume `{}` is being taken", volume.name);
        return Err(Problem::new(Code::SnapshotInProgress, detail)
            .hint(format!("`helix wait snapshot/{other}` returns when it is there")));
    }
    let facts = node.status.facts.as_ref().and_then(|it| it.volumes.as_ref());
    if !facts.is_some_and(|it| it.size_enforced) {
        let why = format!("is a plain directory on node {}, of which there are none", node.name);
        return Err(
            unready(&why).hint("snapshots need a node with the driver `loop` or `lvm-thin`")
        );
    }
    if !command.backup {
        refuse_many(state, volume)?;
    }
    if command.pause_max_ms > PAUSE_MAX_MS {
        let detail = format!("writers wait for {PAUSE_MAX_MS} ms at most");
        return Err(Problem::new(Code::InvalidArgument, detail).field("pause_max_ms", "too long"));
    }
    let spec = Snapshot {
        org: volume.spec.org,
        volume: volume.id,
        volume_name: volume.name.clone(),
        size_bytes: volume.spec.size_bytes,
        node: node.id,
        pause_max_ms: command.pause_max_ms,
        backup: command.backup,
    };
    let name = match &command.name {
        Some(name) => free(state, volume, name)?,
        None => numbered(state, volume)?,
    };
    let id = draft.fresh_id();
    draft.emit(Event::SnapshotCreated(snapshot::Created { id, name, spec }));
    Ok(Some(id.any()))
}

/// Refuses one more than a volume may have.
fn refuse_many(state: &State, volume: &Resource<Volume>) -> Result<(), Problem> {
    let all = state.snapshots.children(volume.spec.org.any());
    let count = all.filter(|it| it.spec.volume == volume.id && !it.spec.backup).count();
    if count < PER_VOLUME_MAX {
        return Ok(());
    }
    let detail = format!("volume `{}` has {count} snapshots, and no more are kept", volume.name);
    Err(Problem::new(Code::PreconditionFailed, detail)
        .hint("`helix snapshots list`, then `helix snapshots destroy` what is not needed"))
}

fn free(state: &State, volume: &Resource<Volume>, name: &Name) -> Result<Name, Problem> {
    let Some(namesake) = state.snapshots.named(Some(volume.spec.org.any()), name) else {
        return Ok(name.clone());
    };
    destroy::refuse_going(state, namesake.id.any())?;
    Err(Problem::new(Code::NameTaken, format!("there is already a snapshot `{name}`")))
}

/// The first name after its volume that nobody has.
fn numbered(state: &State, volume: &Resource<Volume>) -> Result<Name, Problem> {
    let stem: String = volume.name.as_str().chars().take(STEM_CHARS_MAX).collect();
    let names = (1..).map_while(|number: u32| format!("{stem}-{number}").parse::<Name>().ok());
    let org = Some(volume.spec.org.any());
    let mut free = names.filter(|name| state.snapshots.named(org, name).is_none());
    free.next().ok_or_else(|| {
        Problem::new(Code::NameTaken, format!("no name is left for a snapshot of `{stem}`"))
    })
}

/// Notes what its node sees of a snapshot, when it is news.
pub(super) fn observe(draft: &mut Draft<'_, '_>, command: &snapshot::Observe) -> Option<AnyId> {
    let known = draft.state.snapshots.get(command.snapshot)?;
    let home = draft.state.nodes.get(known.spec.node);
    let is_present = home.is_some_and(|node| node.status.link == command.link);
    // That it is gone from the node says nothing of the store.
    let is_told = known.spec.backup && command.observed.phase == snapshot::Phase::Removed;
    if is_present && !is_told && known.status.observed != command.observed {
        let (of, observed) = (Of::new(known), command.observed.clone());
        draft.emit(Event::SnapshotStatusChanged(snapshot::StatusChanged { of, observed }));
    }
    Some(command.snapshot.any())
}

/// Notes that nothing is left of a backup that is being destroyed.
pub(super) fn backup_removed(
    draft: &mut Draft<'_, '_>,
    command: &snapshot::BackupRemoved,
) -> Option<AnyId> {
    let known = draft.state.snapshots.get(command.snapshot)?;
    let is_going = draft.state.destroying_since(known.id.any()).is_some();
    if known.spec.backup && is_going && known.status.observed.phase != snapshot::Phase::Removed {
        let of = Of::new(known);
        let observed =
            snapshot::Observed { phase: snapshot::Phase::Removed, ..known.status.observed.clone() };
        draft.emit(Event::SnapshotStatusChanged(snapshot::StatusChanged { of, observed }));
    }
    Some(command.snapshot.any())
}

/// Nothing comes any more of what a node that is given up had begun.
pub(super) fn give_up(draft: &mut Draft<'_, '_>, node: Id<Node>) {
    let begun: Vec<Resource<Snapshot>> = draft
        .state
        .index
        .snapshots(node)
        .filter_map(|id| draft.state.snapshots.get(id))
        .filter(|it| it.status.observed.phase.is_under_way())
        .cloned()
        .collect();
    for snapshot in &begun {
        let reason =
            if snapshot.spec.backup { Reason::BackupFailed } else { Reason::SnapshotFailed };
        let message = "its node was given up before it was there".to_owned();
        let observed = snapshot::Observed {
            phase: snapshot::Phase::Failed,
            reason: Some(reason),
            message: Some(message),
            ..snapshot::Observed::default()
        };
        let of = Of::new(snapshot);
        draft.emit(Event::SnapshotStatusChanged(snapshot::StatusChanged { of, observed }));
    }
}

/// Refuses to destroy what a volume is being made from.
pub(super) fn refuse_in_use(state: &State, id: Id<Snapshot>) -> Result<(), Problem> {
    let Some(snapshot) = state.snapshots.get(id) else {
        return Err(Problem::not_found(Kind::Snapshot, &id.to_string()));
    };
    let Some(volume) = snapshot::restoring(state, snapshot) else { return Ok(()) };
    let volume = reference::path(state, volume.any());
    let detail = format!("volume `{volume}` is being made from snapshot `{}`", snapshot.name);
    Err(Problem::new(Code::Conflict, detail)
        .hint(format!("`helix wait volume/{volume}` returns when it is there")))
}
