//! Deciding on volumes: which there are, how large, and whose they are.
//!
//! A manifest mounts volumes by name. Which volume a name means is settled when a
//! release is deployed: one that the manifest declares is made for the env with
//! its first deploy, any other is a volume of the org. From then on the env has
//! it until a deploy that does not mount it has succeeded.

use std::collections::BTreeSet;

use helix_model::manifest::format_bytes;
use helix_model::volume::{self, Attachment, Of, SIZE_MAX_BYTES, SIZE_MIN_BYTES};
use helix_model::{
    AnyId, Code, Command, Deploy, Env, Event, Id, Kind, Manifest, Name, Node, Org, Problem,
    Resource, Snapshot, State, Volume, manifest, reference, snapshot,
};

use super::{Draft, destroy};
use crate::place;

/// How much of the name of a volume that is made from a manifest is what it says
/// there; the rest is a number that makes it unique.
const STEM_CHARS_MAX: usize = 26;

/// Makes a volume; its name is unique in its org.
pub(super) fn create(
    draft: &mut Draft<'_, '_>,
    command: &volume::Create,
) -> Result<Option<AnyId>, Problem> {
    let volume::Create { org, name, size_bytes, node, source } = command.clone();
    if draft.state.orgs.get(org).is_none() {
        return Err(Problem::not_found(Kind::Org, &org.to_string()));
    }
    destroy::refuse_going(&draft.state, org.any())?;
    check_size(size_bytes)?;
    if let Some(namesake) = draft.state.volumes.named(Some(org.any()), &name) {
        destroy::refuse_going(&draft.state, namesake.id.any())?;
        let detail = format!("there is already a volume `{name}`");
        return Err(Problem::new(Code::NameTaken, detail));
    }
    let node = match source {
        Some(source) => Some(home_of(&draft.state, source, org, size_bytes, node)?),
        None => node,
    };
    if let Some(node) = node {
        let Some(node) = draft.state.nodes.get(node) else {
            return Err(Problem::not_found(Kind::Node, &node.to_string()));
        };
        if let Some(reason) = place::refusal_of_volume(&draft.state, node, size_bytes) {
            let detail = format!("node `{}` cannot take it: {}", node.name, reason.meaning());
            return Err(Problem::new(Code::PreconditionFailed, detail));
        }
    }
    let (app, attachment, backups) = (None, None, None);
    let spec = Volume { org, size_bytes, node, app, source, attachment, backups };
    Ok(Some(emit_created(draft, name, spec).any()))
}

/// Where a volume that is made from a backup will be: where that was taken, or else
/// wherever there is room.
fn any_home(
    state: &State,
    snapshot: &Resource<Snapshot>,
    size_bytes: u64,
) -> Result<Id<Node>, Problem> {
    let enforces = |node: &Resource<Node>| {
        let facts = node.status.facts.as_ref().and_then(|it| it.volumes.as_ref());
        facts.is_some_and(|it| it.size_enforced)
    };
    let can = |node: &&Resource<Node>| {
        enforces(node) && place::refusal_of_volume(state, node, size_bytes).is_none()
    };
    let first = state.nodes.get(snapshot.spec.node).filter(can);
    let home = first.or_else(|| state.nodes.iter().find(can));
    home.map(|node| node.id).ok_or_else(|| {
        let detail = "no node can take it: none is connected that has room for it and keeps \
                      volumes with `loop` or `lvm-thin`";
        Problem::new(Code::PreconditionFailed, detail).hint("`helix nodes list` shows them")
    })
}

/// Where a volume that is made from a snapshot will be: beside it.
fn home_of(
    state: &State,
    source: Id<Snapshot>,
    org: Id<Org>,
    size_bytes: u64,
    wanted: Option<Id<Node>>,
) -> Result<Id<Node>, Problem> {
    let snapshot = state.snapshots.get(source).filter(|it| it.spec.org == org);
    let Some(snapshot) = snapshot else {
        return Err(Problem::not_found(Kind::Snapshot, &source.to_string()));
    };
    destroy::refuse_going(state, source.any())?;
    if snapshot.status.observed.phase != snapshot::Phase::Available {
        let detail = format!("snapshot `{}` is not there", snapshot.name);
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint(format!("`helix wait snapshot/{}`", reference::path(state, source.any()))));
    }
    if size_bytes < snapshot.spec.size_bytes {
        let least = format_bytes(snapshot.spec.size_bytes);
        let detail = format!("what is in snapshot `{}` needs {least}", snapshot.name);
        return Err(Problem::new(Code::InvalidArgument, detail).field("size_bytes", "too small"));
    }
    if snapshot.spec.backup {
        return wanted.map_or_else(|| any_home(state, snapshot, size_bytes), Ok);
    }
    let home = snapshot.spec.node;
    if wanted.is_some_and(|wanted| wanted != home) {
        let detail = format!("snapshot `{}` is on another node", snapshot.name);
        return Err(Problem::new(Code::InvalidArgument, detail).field("node", "not where it is"));
    }
    Ok(home)
}

fn emit_created(draft: &mut Draft<'_, '_>, name: Name, spec: Volume) -> Id<Volume> {
    let id = draft.fresh_id();
    draft.emit(Event::VolumeCreated(volume::Created { id, name, spec }));
    id
}

fn check_size(size_bytes: u64) -> Result<(), Problem> {
    if (SIZE_MIN_BYTES..=SIZE_MAX_BYTES).contains(&size_bytes) {
        return Ok(());
    }
    let (min, max) = (format_bytes(SIZE_MIN_BYTES), format_bytes(SIZE_MAX_BYTES));
    let detail = format!("a volume has from {min} to {max}");
    Err(Problem::new(Code::InvalidArgument, detail).field("size_bytes", "out of range"))
}

/// Lets a volume hold more. None ever holds less: what is in it might not fit.
pub(super) fn resize(
    draft: &mut Draft<'_, '_>,
    command: &volume::Resize,
) -> Result<Option<AnyId>, Problem> {
    let Some(known) = draft.state.volumes.get(command.volume) else {
        return Err(Problem::not_found(Kind::Volume, &command.volume.to_string()));
    };
    destroy::refuse_going(&draft.state, known.id.any())?;
    check_size(command.size_bytes)?;
    let has = known.spec.size_bytes;
    if command.size_bytes < has {
        let detail = format!("`{}` has {}, and volumes only grow", known.name, format_bytes(has));
        return Err(Problem::new(Code::InvalidArgument, detail)
            .field("size_bytes", "smaller than it is")
            .hint("make a smaller volume and copy what is in this one"));
    }
    let home = known.spec.node.and_then(|node| draft.state.nodes.get(node));
    let delta = command.size_bytes - has;
    if let Some(home) = home
        && delta > 0
        && place::free_volume_bytes(&draft.state, home) < delta
    {
        let detail = format!("node `{}` has no room for {} more", home.name, format_bytes(delta));
        return Err(Problem::new(Code::PreconditionFailed, detail));
    }
    grow(draft, command.volume, command.size_bytes);
    Ok(Some(command.volume.any()))
}

/// Has a volume backed up at times, or no longer.
pub(super) fn set_backups(
    draft: &mut Draft<'_, '_>,
    command: &volume::SetBackups,
) -> Result<Option<AnyId>, Problem> {
    let Some(known) = draft.state.volumes.get(command.volume) else {
        return Err(Problem::not_found(Kind::Volume, &command.volume.to_string()));
    };
    destroy::refuse_going(&draft.state, known.id.any())?;
    if let Some(schedule) = command.schedule {
        check_schedule(schedule)?;
    }
    if known.spec.backups != command.schedule {
        let (of, schedule) = (Of::new(known), command.schedule);
        draft.emit(Event::VolumeBackupsSet(volume::BackupsSet { of, schedule }));
    }
    Ok(Some(command.volume.any()))
}

fn check_schedule(schedule: volume::Schedule) -> Result<(), Problem> {
    let (min, max) = (volume::BACKUPS_EVERY_MIN_SECONDS, volume::BACKUPS_EVERY_MAX_SECONDS);
    if !(min..=max).contains(&schedule.every_seconds) {
        let detail = "a volume is backed up every 15 minutes at most, and every 31 days at least";
        return Err(Problem::new(Code::InvalidArgument, detail)
            .field("every_seconds", format!("{min} to {max}")));
    }
    if !(1..=volume::BACKUPS_KEEP_MAX).contains(&schedule.keep) {
        let rule = format!("1 to {}", volume::BACKUPS_KEEP_MAX);
        let detail = format!("of a volume {rule} backups are kept");
        return Err(Problem::new(Code::InvalidArgument, detail).field("keep", rule));
    }
    Ok(())
}

fn grow(draft: &mut Draft<'_, '_>, id: Id<Volume>, size_bytes: u64) {
    if let Some(known) = draft.state.volumes.get(id)
        && known.spec.size_bytes < size_bytes
    {
        let of = Of::new(known);
        draft.emit(Event::VolumeResized(volume::Resized { of, size_bytes }));
    }
}

/// Notes what its home sees of a volume, when it is news.
pub(super) fn observe(draft: &mut Draft<'_, '_>, command: &volume::Observe) -> Option<AnyId> {
    let known = draft.state.volumes.get(command.volume)?;
    let home = known.spec.node.and_then(|node| draft.state.nodes.get(node));
    let is_present = home.is_some_and(|node| node.status.link == command.link);
    if is_present && known.status.observed != command.observed {
        let (of, observed) = (Of::new(known), command.observed.clone());
        draft.emit(Event::VolumeStatusChanged(volume::StatusChanged { of, observed }));
    }
    Some(command.volume.any())
}

/// Refuses to destroy what an env has, or an instance.
pub(super) fn refuse_attached(state: &State, id: Id<Volume>) -> Result<(), Problem> {
    let Some(volume) = state.volumes.get(id) else {
        return Err(Problem::not_found(Kind::Volume, &id.to_string()));
    };
    let holder = match (&volume.spec.attachment, state.index.user(id)) {
        (Some(attachment), _) => attachment.env.any(),
        (None, Some(user)) => user.any(),
        (None, None) => return Ok(()),
    };
    let (kind, holder) = (holder.kind(), reference::path(state, holder));
    Err(Problem::new(
        Code::VolumeInUse,
        format!("volume `{}` is attached to {kind} `{holder}`", volume.name),
    ))
}

/// Gives an env the volumes that a manifest mounts, making those it declares.
/// Nothing is taken from it: an older release may still be serving.
pub(super) fn attach(
    draft: &mut Draft<'_, '_>,
    env: Id<Env>,
    manifest: &Manifest,
) -> Result<(), Problem> {
    refuse_replicas(draft, env, manifest)?;
    let mut taken = BTreeSet::new();
    for (process, spec) in &manifest.processes {
        for mount in &spec.mounts {
            let id = find_or_create(draft, env, &mount.volume, manifest)?;
            if !taken.insert(id) {
                let detail = format!(
                    "`{}` is another name of a volume that is mounted already",
                    mount.volume
                );
                return Err(Problem::new(Code::InvalidArgument, detail)
                    .field(format!("processes.{process}.mounts"), "mounted twice"));
            }
            refuse_others(&draft.state, env, id, &mount.volume)?;
            emit_attached(draft, id, attachment(env, process, mount));
        }
    }
    Ok(())
}

/// Takes from an env what the release that it has settled on does not mount.
pub(super) fn settle(draft: &mut Draft<'_, '_>, env: Id<Env>, manifest: Option<&Manifest>) {
    let present: Vec<Resource<Volume>> = volume::attached_to(&draft.state, env).cloned().collect();
    for volume in present {
        let Some(now) = &volume.spec.attachment else { continue };
        let processes = manifest.into_iter().flat_map(|manifest| &manifest.processes);
        let mut mounts = processes
            .flat_map(|(process, spec)| spec.mounts.iter().map(move |mount| (process, mount)));
        match mounts.find(|(_, mount)| mount.volume == now.name) {
            Some((process, mount)) => {
                emit_attached(draft, volume.id, attachment(env, process, mount));
            }
            None => {
                let of = Of::new(&volume);
                draft.emit(Event::VolumeDetached(volume::Detached { of, env }));
            }
        }
    }
}

fn attachment(env: Id<Env>, process: &Name, mount: &manifest::Mount) -> Attachment {
    Attachment {
        env,
        process: process.clone(),
        name: mount.volume.clone(),
        path: mount.path.clone(),
        read_only: mount.read_only,
    }
}

fn emit_attached(draft: &mut Draft<'_, '_>, id: Id<Volume>, attachment: Attachment) {
    if let Some(known) = draft.state.volumes.get(id)
        && known.spec.attachment.as_ref() != Some(&attachment)
    {
        let of = Of::new(known);
        draft.emit(Event::VolumeAttached(volume::Attached { of, attachment }));
    }
}

/// The volume a name of a manifest means.
fn find_or_create(
    draft: &mut Draft<'_, '_>,
    env: Id<Env>,
    name: &Name,
    manifest: &Manifest,
) -> Result<Id<Volume>, Problem> {
    let state = &draft.state;
    let attached = {
        let is_meant = |it: &&Resource<Volume>| {
            it.spec.attachment.as_ref().is_some_and(|attachment| attachment.name == *name)
        };
        volume::attached_to(state, env).find(is_meant).map(|volume| volume.id)
    };
    let Some(declared) = manifest.volumes.get(name) else {
        let org = state.envs.get(env).map(|env| env.spec.org.any());
        let known = state.volumes.named(org, name).map(|volume| volume.id);
        return known.or(attached).ok_or_else(|| {
            Problem::new(Code::NotFound, format!("there is no volume `{name}`"))
                .field("volumes", format!("`{name}` is mounted and not declared"))
                .hint(format!(
                    "declare it in [[volumes]], or `helix volumes create {name} --size 10Gi`"
                ))
        });
    };
    let id = match attached {
        Some(id) => id,
        None => made_for(draft, env, name, declared.size_bytes)?,
    };
    grow(draft, id, declared.size_bytes);
    Ok(id)
}

/// The volume that a declaration of an env stands for: one that was made for it
/// before and is free, or a new one.
fn made_for(
    draft: &mut Draft<'_, '_>,
    env: Id<Env>,
    name: &Name,
    size_bytes: u64,
) -> Result<Id<Volume>, Problem> {
    let state = &draft.state;
    let Some(owner) = state.envs.get(env) else {
        return Err(Problem::not_found(Kind::Env, &env.to_string()));
    };
    let (org, app) = (owner.spec.org, owner.spec.app);
    let app_name = state.apps.get(app).map(|app| app.name.to_string()).unwrap_or_default();
    let whole = format!("{app_name}-{}-{name}", owner.name).parse::<Name>().ok();
    if let Some(whole) = whole {
        match state.volumes.named(Some(org.any()), &whole) {
            None => return Ok(declare(draft, org, app, whole, size_bytes)),
            Some(known)
                if known.spec.app == Some(app)
                    && known.spec.attachment.is_none()
                    && state.destroying_since(known.id.any()).is_none() =>
            {
                return Ok(known.id);
            }
            Some(_) => {}
        }
    }
    let stem: String = format!("{app_name}-{name}").chars().take(STEM_CHARS_MAX).collect();
    let free = (2..).map_while(|number: u32| format!("{stem}-{number}").parse::<Name>().ok());
    let mut free = free.filter(|name| state.volumes.named(Some(org.any()), name).is_none());
    let free = free.next().ok_or_else(|| {
        Problem::new(Code::NameTaken, format!("no name is left for a volume `{name}`"))
    })?;
    Ok(declare(draft, org, app, free, size_bytes))
}

fn declare(
    draft: &mut Draft<'_, '_>,
    org: Id<Org>,
    app: Id<helix_model::App>,
    name: Name,
    size_bytes: u64,
) -> Id<Volume> {
    let spec = Volume {
        org,
        size_bytes,
        node: None,
        app: Some(app),
        source: None,
        attachment: None,
        backups: None,
    };
    emit_created(draft, name, spec)
}

/// Refuses a volume that another env has, or that is on its way out, and a name
/// that means another volume of the env already.
fn refuse_others(state: &State, env: Id<Env>, id: Id<Volume>, name: &Name) -> Result<(), Problem> {
    destroy::refuse_going(state, id.any())?;
    let Some(volume) = state.volumes.get(id) else { return Ok(()) };
    if let Some(other) = volume.spec.attachment.as_ref().filter(|it| it.env != env) {
        let holder = reference::path(state, other.env.any());
        let detail = format!("volume `{}` is attached to env `{holder}`", volume.name);
        return Err(Problem::new(Code::VolumeInUse, detail));
    }
    let namesake = volume::attached_to(state, env).find(|it| {
        it.id != id && it.spec.attachment.as_ref().is_some_and(|held| held.name == *name)
    });
    if let Some(namesake) = namesake {
        let detail =
            format!("the env has volume `{}` under the name `{name}` already", namesake.name);
        return Err(
            Problem::new(Code::Conflict, detail).hint("mount the other volume under another name")
        );
    }
    Ok(())
}

/// Refuses what would give a process with a volume more than one instance.
pub(super) fn refuse_replicas(
    draft: &Draft<'_, '_>,
    env: Id<Env>,
    manifest: &Manifest,
) -> Result<(), Problem> {
    let scale = draft.state.envs.get(env).map(|env| &env.spec.scale);
    let counts = scale.into_iter().flatten();
    counts.into_iter().try_for_each(|(process, count)| refuse_count(manifest, process, *count))
}

/// The same for one count.
pub(super) fn refuse_count(manifest: &Manifest, process: &Name, count: u32) -> Result<(), Problem> {
    let has_volume = manifest.processes.get(process).is_some_and(|it| !it.mounts.is_empty());
    if !has_volume || count <= 1 {
        return Ok(());
    }
    let detail = format!("`{process}` has a volume, which one instance can have, not {count}");
    Err(Problem::new(Code::VolumeReplicaLimit, detail)
        .field("processes", format!("`{process}` has at most 1"))
        .hint(format!("`helix scale {process}=1`, or take the volume out of the manifest")))
}

/// What a deploy means for processes whose volumes let only one instance be.
pub(super) fn warnings(after: &State, command: &Command, subject: Option<AnyId>) -> Vec<String> {
    if !matches!(command, Command::Deploy(_) | Command::Promote(_) | Command::Rollback(_)) {
        return Vec::new();
    }
    let deploy: Option<&Resource<Deploy>> =
        subject.and_then(AnyId::typed).and_then(|id| after.deploys.get(id));
    let Some(deploy) = deploy else { return Vec::new() };
    let release = after.releases.get(deploy.spec.release);
    let processes = release.into_iter().flat_map(|release| &release.spec.manifest.processes);
    let paused = processes.filter(|(name, process)| {
        let mut present = after.instances.children(deploy.spec.env.any());
        !process.mounts.is_empty() && present.any(|it| it.spec.process == **name)
    });
    let told = paused.map(|(name, _)| {
        format!(
            "`{name}` has a volume: it stops before its successor starts, and does not serve \
             in between"
        )
    });
    told.collect()
}
