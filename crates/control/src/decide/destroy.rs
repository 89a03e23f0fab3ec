//! Deciding on destruction: what may go, and what goes with it.
//!
//! A command marks the whole tree at once, so that nothing new can begin
//! anywhere in it; endpoints go in the same breath, which frees host names and
//! ports. Instances and the marked resources themselves are the reconciler's.

use helix_model::deploy::{self, Outcome};
use helix_model::destroy::{self, Begun, Destroy, Finished, Of};
use helix_model::token::Owner;
use helix_model::{
    AnyId, Code, Domain, Edge, Endpoint, Env, Event, Id, Kind, Node, Org, Problem, Project, Reason,
    Resource, Snapshot, State, Tunnel, Volume, endpoint, org, reference,
};

use super::{Draft, domain, edge, member, node, snapshot, token, tunnel, volume};

/// Marks something and all that is in it.
pub(super) fn destroy(
    draft: &mut Draft<'_, '_>,
    command: &Destroy,
) -> Result<Option<AnyId>, Problem> {
    let target = command.target;
    if !destroy::KINDS.contains(&target.kind()) {
        let detail = format!("{} cannot be destroyed by themselves", target.kind().plural());
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint("destroy the env or the app they belong to"));
    }
    if !reference::exists(&draft.state, target) {
        return Err(Problem::not_found(target.kind(), &target.to_string()));
    }
    if let Some(node) = target.typed::<Node>() {
        return node::destroy(draft, node);
    }
    if let Some(edge) = target.typed::<Edge>() {
        return edge::destroy(draft, edge);
    }
    if let Some(tunnel) = target.typed::<Tunnel>() {
        tunnel::destroy(draft, tunnel);
        return Ok(None);
    }
    if let Some(volume) = target.typed::<Volume>() {
        volume::refuse_attached(&draft.state, volume)?;
    }
    if let Some(snapshot) = target.typed::<Snapshot>() {
        snapshot::refuse_in_use(&draft.state, snapshot)?;
    }
    if let Some(domain) = target.typed::<Domain>() {
        domain::refuse_needed(&draft.state, domain)?;
    }
    refuse_protected(&draft.state, target)?;
    if !command.cascade {
        refuse_contents(&draft.state, target)?;
    }
    begin(draft, target)?;
    Ok(Some(target))
}

/// Notes that nothing is left in what is being destroyed.
pub(super) fn finish(draft: &mut Draft<'_, '_>, target: AnyId) -> Result<Option<AnyId>, Problem> {
    let state = &draft.state;
    if state.destroying_since(target).is_none() {
        return Ok(None);
    }
    if !destroy::contents(state, target).is_empty() {
        return Ok(Some(target));
    }
    if let Some(volume) = target.typed::<Volume>().and_then(|id| state.volumes.get(id))
        && !helix_model::volume::is_removed(state, volume)
    {
        return Ok(Some(target));
    }
    if let Some(snapshot) = target.typed::<Snapshot>().and_then(|id| state.snapshots.get(id))
        && !helix_model::snapshot::is_removed(state, snapshot)
    {
        return Ok(Some(target));
    }
    let of = Of::new(state, target);
    if let Some(env) = target.typed::<Env>() {
        volume::settle(draft, env, None);
    }
    if let Some(org) = target.typed::<Org>() {
        close_doors(draft, org);
    }
    if let Some(of) = of {
        draft.emit(destroyed(of)?);
    }
    Ok(None)
}

/// Refuses what would begin something new in, or with, what is being destroyed.
pub(super) fn refuse_going(state: &State, id: AnyId) -> Result<(), Problem> {
    if state.destroying_since(id).is_none() {
        return Ok(());
    }
    let (kind, path) = (id.kind(), reference::path(state, id));
    Err(Problem::new(Code::BeingDestroyed, format!("{kind} `{path}` is being destroyed"))
        .hint(format!("`helix wait {kind}/{path} --for gone` returns when it is gone")))
}

fn begin(draft: &mut Draft<'_, '_>, target: AnyId) -> Result<(), Problem> {
    if draft.state.destroying_since(target).is_some() {
        return Ok(());
    }
    if let Some(tunnel) = target.typed::<Tunnel>() {
        tunnel::destroy(draft, tunnel);
        return Ok(());
    }
    if let Some(of) = Of::new(&draft.state, target) {
        draft.emit(destroying(of)?);
    }
    if let Some(env) = target.typed::<Env>() {
        clear(draft, env);
        return Ok(());
    }
    for child in destroy::contents(&draft.state, target) {
        begin(draft, child)?;
    }
    Ok(())
}

/// Ends what an env has begun and takes its endpoints away.
fn clear(draft: &mut Draft<'_, '_>, env: Id<Env>) {
    let rolling = draft.state.envs.get(env).and_then(|env| env.spec.rolling);
    if let Some(rolling) = rolling.and_then(|rolling| draft.state.deploys.get(rolling)) {
        let outcome = Outcome::Failed {
            reason: Reason::EnvDestroyed,
            message: "its env is being destroyed".to_owned(),
        };
        let finished = deploy::Finished::new(rolling, outcome);
        draft.emit(Event::DeployFinished(finished));
    }
    let endpoints: Vec<Resource<Endpoint>> =
        draft.state.endpoints.children(env.any()).cloned().collect();
    for endpoint in &endpoints {
        let of = endpoint::Of::new(endpoint);
        draft.emit(Event::EndpointDeleted(endpoint::Deleted { of }));
    }
}

/// An org that is gone has no members and lets no program in.
fn close_doors(draft: &mut Draft<'_, '_>, org: Id<Org>) {
    let names: Vec<_> =
        draft.state.members.children(org.any()).map(|member| member.name.clone()).collect();
    for name in &names {
        member::emit_removed(draft, org, name);
    }
    token::revoke_all(draft, Owner::Org(org));
}

/// Every command that names no org and no project means the first ones.
fn refuse_protected(state: &State, target: AnyId) -> Result<(), Problem> {
    let is_first = |id: AnyId| {
        let org = id.typed::<Org>().and_then(|id| state.orgs.get(id));
        org.is_some_and(|org| org.name.as_str() == org::FIRST_NAME)
    };
    let project = target.typed::<Project>().and_then(|id| state.projects.get(id));
    let protected = is_first(target)
        || project.is_some_and(|project| {
            project.name.as_str() == org::FIRST_NAME && is_first(project.spec.org.any())
        });
    if !protected {
        return Ok(());
    }
    let detail = format!("{} `{}` stays", target.kind(), reference::path(state, target));
    Err(Problem::new(Code::PreconditionFailed, detail)
        .hint("commands that name no org and no project use it; destroy the apps in it instead"))
}

/// An org and a project must be empty, or the caller must mean their contents.
fn refuse_contents(state: &State, target: AnyId) -> Result<(), Problem> {
    let contents = match target.kind() {
        Kind::Org | Kind::Project => destroy::contents(state, target),
        _ => Vec::new(),
    };
    // A project with nothing in it is no content of an org.
    let counted: Vec<&AnyId> = contents
        .iter()
        .filter(|id| id.kind() != Kind::Project || !destroy::contents(state, **id).is_empty())
        .collect();
    let Some(first) = counted.first() else {
        return Ok(());
    };
    let path = reference::path(state, target);
    let detail = match counted.len() - 1 {
        0 => format!("{} `{path}` still has {}", target.kind(), reference::path(state, **first)),
        more => format!(
            "{} `{path}` still has {} and {more} more",
            target.kind(),
            reference::path(state, **first)
        ),
    };
    Err(Problem::new(Code::NotEmpty, detail))
}

fn destroying(of: Of) -> Result<Event, Problem> {
    let kind = of.id.kind();
    let begun = Begun { of };
    match kind {
        Kind::Org => Ok(Event::OrgDestroying(begun)),
        Kind::Project => Ok(Event::ProjectDestroying(begun)),
        Kind::App => Ok(Event::AppDestroying(begun)),
        Kind::Env => Ok(Event::EnvDestroying(begun)),
        Kind::Volume => Ok(Event::VolumeDestroying(begun)),
        Kind::Snapshot => Ok(Event::SnapshotDestroying(begun)),
        Kind::Certificate => Ok(Event::CertificateDestroying(begun)),
        Kind::Domain => Ok(Event::DomainDestroying(begun)),
        other => Err(indestructible(other)),
    }
}

fn destroyed(of: Of) -> Result<Event, Problem> {
    let kind = of.id.kind();
    let finished = Finished { of };
    match kind {
        Kind::Org => Ok(Event::OrgDestroyed(finished)),
        Kind::Project => Ok(Event::ProjectDestroyed(finished)),
        Kind::App => Ok(Event::AppDestroyed(finished)),
        Kind::Env => Ok(Event::EnvDestroyed(finished)),
        Kind::Volume => Ok(Event::VolumeDestroyed(finished)),
        Kind::Snapshot => Ok(Event::SnapshotDestroyed(finished)),
        Kind::Certificate => Ok(Event::CertificateDestroyed(finished)),
        Kind::Domain => Ok(Event::DomainDestroyed(finished)),
        other => Err(indestructible(other)),
    }
}

fn indestructible(kind: Kind) -> Problem {
    Problem::new(Code::Internal, format!("a {kind} has no end of its own"))
}
