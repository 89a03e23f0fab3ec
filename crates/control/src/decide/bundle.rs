//! Deciding on secrets: which version an env should have, and which one a deploy
//! brings. The values are sealed before and are not known here.

use std::collections::BTreeSet;

use helix_model::bundle::{
    self, Applied, ConfirmedNone, Created, Discarded, NAME, Of, Pin, Set, Step, VERSIONS_KEPT,
    Version, VersionAdded,
};
use helix_model::deploy::Intent;
use helix_model::{
    AnyId, Bundle, Code, Env, Event, Id, Kind, Name, Problem, Release, Resource, State, reference,
};

use super::{Draft, deploy, destroy};

/// Gives an env another version. Instances get it by a deploy of the release
/// they run, unless it is staged.
pub(super) fn set(draft: &mut Draft<'_, '_>, command: &Set) -> Result<Option<AnyId>, Problem> {
    let bundle = find_or_create(draft, command.env)?;
    let known = known(&draft.state, bundle)?;
    if command.base != known.status.latest {
        let detail = format!("version {} was made meanwhile", known.status.latest);
        return Err(Problem::new(Code::Conflict, detail).hint("look at it and decide again"));
    }
    if let (Some(staged), false) = (known.spec.staged, command.stage) {
        let detail = format!("version {staged} is staged and would be left behind");
        return Err(Problem::new(Code::PreconditionFailed, detail).hint(
            "add to it with `--stage`, let it take effect with `helix secrets apply`, or give it \
             up with `helix secrets discard`",
        ));
    }
    let present = known.staged().or(known.desired());
    if present.is_some_and(|present| present.pin.hash == command.draft.hash) {
        return Ok(Some(bundle.any()));
    }
    let made = &command.draft;
    let number = known.status.latest + 1;
    let version = Version {
        pin: Pin { number, id: made.id, hash: made.hash },
        keys: made.keys.clone(),
        bytes: made.bytes,
        made_at: draft.context.now,
        restored_from: command.restored_from,
    };
    let (of, staged) = (Of::new(known), command.stage);
    let dropped = dropped(&draft.state, known);
    draft.emit(Event::BundleVersionAdded(VersionAdded { of, version, staged, dropped }));
    if !staged {
        deploy::rotate(draft, command.env)?;
    }
    Ok(Some(bundle.any()))
}

/// Takes a step that makes no other version.
pub(super) fn step(draft: &mut Draft<'_, '_>, command: Step) -> Result<Option<AnyId>, Problem> {
    match command {
        Step::Apply(env) => apply(draft, env),
        Step::Discard(env) => discard(draft, env),
        Step::ConfirmNone(env) => confirm_none(draft, env),
    }
}

/// Lets the version that waits take effect.
fn apply(draft: &mut Draft<'_, '_>, env: Id<Env>) -> Result<Option<AnyId>, Problem> {
    let known = staged(draft, env)?;
    let (id, of, number) = (known.id, Of::new(known), known.spec.staged.unwrap_or_default());
    draft.emit(Event::BundleApplied(Applied { of, number }));
    deploy::rotate(draft, env)?;
    Ok(Some(id.any()))
}

/// Gives up the version that waits.
fn discard(draft: &mut Draft<'_, '_>, env: Id<Env>) -> Result<Option<AnyId>, Problem> {
    let known = staged(draft, env)?;
    let (id, of, number) = (known.id, Of::new(known), known.spec.staged.unwrap_or_default());
    draft.emit(Event::BundleDiscarded(Discarded { of, number }));
    Ok(Some(id.any()))
}

/// Notes that an env needs no secrets.
fn confirm_none(draft: &mut Draft<'_, '_>, env: Id<Env>) -> Result<Option<AnyId>, Problem> {
    let bundle = find_or_create(draft, env)?;
    let known = known(&draft.state, bundle)?;
    let present = known.staged().or(known.desired());
    if let Some(present) = present.filter(|present| !present.keys.is_empty()) {
        let detail = format!("there are {} of them", present.keys.len());
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint("take them out first: `helix secrets unset KEY`"));
    }
    if !known.spec.confirmed_none {
        let of = Of::new(known);
        draft.emit(Event::BundleConfirmedNone(ConfirmedNone { of }));
    }
    Ok(Some(bundle.any()))
}

/// The secrets that a deploy brings. The next release takes along what is staged;
/// going back to an older one changes the release alone, so that nothing else is
/// new at a time when something is wrong.
///
/// The gate is here: where the release needs secrets, the env must have some, or
/// somebody must have said that it needs none.
pub(super) fn brought(
    draft: &mut Draft<'_, '_>,
    env: Id<Env>,
    release: Id<Release>,
    intent: Intent,
) -> Result<Option<Pin>, Problem> {
    let staged = bundle::of(&draft.state, env)
        .filter(|bundle| intent == Intent::Deploy && bundle.spec.staged.is_some())
        .map(|bundle| (Of::new(bundle), bundle.spec.staged.unwrap_or_default()));
    if let Some((of, number)) = staged {
        draft.emit(Event::BundleApplied(Applied { of, number }));
    }
    let state = &draft.state;
    let bundle = bundle::of(state, env);
    let desired = bundle.and_then(Resource::desired);
    let required =
        state.releases.get(release).is_some_and(|release| release.spec.manifest.secrets.required);
    let none_needed = bundle.is_some_and(|bundle| bundle.spec.confirmed_none);
    let has_some = desired.is_some_and(|desired| !desired.keys.is_empty());
    if required && !has_some && !none_needed {
        let path = reference::path(state, env.any());
        let detail = format!("the release needs secrets and `{path}` has none");
        return Err(Problem::new(Code::SecretsMissing, detail));
    }
    let serving = state.envs.get(env).filter(|env| env.status.release.is_some());
    Ok(match serving.filter(|_| intent == Intent::Rollback) {
        Some(serving) if serving.status.secrets.is_some() || !required => serving.status.secrets,
        _ => desired.map(|desired| desired.pin),
    })
}

/// Versions that make room for the next: the oldest that nothing needs.
fn dropped(state: &State, bundle: &Resource<Bundle>) -> Vec<u64> {
    let env = bundle.spec.env;
    let instances = state.instances.children(env.any()).filter_map(|it| it.spec.secrets);
    let resource = state.envs.get(env);
    let rolling = resource.and_then(|env| state.deploys.get(env.spec.rolling?)?.spec.secrets);
    let serving = resource.and_then(|env| env.status.secrets);
    let used: BTreeSet<u64> = instances
        .chain(rolling)
        .chain(serving)
        .map(|pin| pin.number)
        .chain(bundle.spec.desired)
        .chain(bundle.spec.staged)
        .collect();
    let versions = &bundle.status.versions;
    let surplus = (versions.len() + 1).saturating_sub(VERSIONS_KEPT);
    let numbers = versions.iter().map(|version| version.pin.number);
    numbers.filter(|number| !used.contains(number)).take(surplus).collect()
}

fn staged<'d>(draft: &'d Draft<'_, '_>, env: Id<Env>) -> Result<&'d Resource<Bundle>, Problem> {
    if draft.state.envs.get(env).is_none() {
        return Err(Problem::not_found(Kind::Env, &env.to_string()));
    }
    destroy::refuse_going(&draft.state, env.any())?;
    let bundle = bundle::of(&draft.state, env).filter(|bundle| bundle.spec.staged.is_some());
    bundle.ok_or_else(|| {
        Problem::new(Code::PreconditionFailed, "nothing is staged")
            .hint("`helix secrets set KEY --stage` stages a change")
    })
}

fn known(state: &State, bundle: Id<Bundle>) -> Result<&Resource<Bundle>, Problem> {
    let known = state.bundles.get(bundle);
    known.ok_or_else(|| Problem::not_found(Kind::Bundle, &bundle.to_string()))
}

fn find_or_create(draft: &mut Draft<'_, '_>, env: Id<Env>) -> Result<Id<Bundle>, Problem> {
    let Some(resource) = draft.state.envs.get(env) else {
        return Err(Problem::not_found(Kind::Env, &env.to_string()));
    };
    destroy::refuse_going(&draft.state, env.any())?;
    if let Some(bundle) = bundle::of(&draft.state, env) {
        return Ok(bundle.id);
    }
    let org = resource.spec.org;
    let name: Name = NAME.parse().map_err(|error: helix_model::name::NameError| {
        Problem::new(Code::Internal, error.to_string())
    })?;
    let id = draft.fresh_id();
    draft.emit(Event::BundleCreated(Created { id, name, org, env }));
    Ok(id)
}
