//! Deciding on deploys: what a new release of an app changes, and what the end
//! of a deploy means for its env.

use helix_model::config::{self, Config, Configured};
use helix_model::deploy::{self, Intent, Outcome};
use helix_model::release::Image;
use helix_model::{
    AnyId, App, Code, Deploy, Env, Event, Id, Kind, Manifest, Name, Problem, Reason, Release,
    Resource, app, env, release,
};

use super::endpoint::{self, Extent};
use super::{Draft, app as decide_app, bundle, destroy, env as decide_env, policy, volume};

/// Releases an image and moves an env to it, making app and env when missing.
pub(super) fn request(
    draft: &mut Draft<'_, '_>,
    command: &deploy::Request,
) -> Result<Option<AnyId>, Problem> {
    let app = find_or_create_app(draft, &command.org, &command.project, &command.app)?;
    let env = find_or_create_env(draft, app, &command.env)?;
    policy::check(&draft.state, app, &command.image, command.by_digest)?;
    let config = Some((env, config::of(&draft.state, env)));
    let made = Made { image: &command.image, manifest: &command.manifest, source: &command.source };
    let release = create_release(draft, app, made, config)?;
    go_to(draft, env, release, Intent::Deploy)
}

/// Releases an image and leaves it at that.
pub(super) fn release(
    draft: &mut Draft<'_, '_>,
    command: &release::Create,
) -> Result<Option<AnyId>, Problem> {
    let app = find_or_create_app(draft, &command.org, &command.project, &command.app)?;
    policy::check(&draft.state, app, &command.image, command.by_digest)?;
    let state = &draft.state;
    let env = command.env.as_ref().and_then(|env| state.envs.named(Some(app.any()), env));
    let config = env.map(|env| (env.id, config::of(state, env.id)));
    let made = Made { image: &command.image, manifest: &command.manifest, source: &command.source };
    Ok(Some(create_release(draft, app, made, config)?.any()))
}

/// Moves an env to a release that is there.
pub(super) fn promote(
    draft: &mut Draft<'_, '_>,
    command: &deploy::Promote,
) -> Result<Option<AnyId>, Problem> {
    let Some(release) = draft.state.releases.get(command.release) else {
        return Err(Problem::not_found(Kind::Release, &command.release.to_string()));
    };
    if release.spec.app != command.app {
        let detail = format!("release `{}` is of another app", release.name);
        return Err(Problem::new(Code::InvalidArgument, detail));
    }
    if command.first && draft.state.envs.named(Some(command.app.any()), &command.env).is_some() {
        let detail = format!("there is an env `{}` by now", command.env);
        return Err(Problem::new(Code::VersionConflict, detail)
            .hint("see what would change now: `helix deploy --plan`"));
    }
    let env = find_or_create_env(draft, command.app, &command.env)?;
    let release = made_for(draft, env, command.release)?;
    go_to(draft, env, release, Intent::Deploy)
}

/// A release as it is to run in an env: what is set of another env stays there, and what
/// is set of this one comes along.
fn made_for(
    draft: &mut Draft<'_, '_>,
    env: Id<Env>,
    id: Id<Release>,
) -> Result<Id<Release>, Problem> {
    let Some(release) = draft.state.releases.get(id) else {
        return Err(Problem::not_found(Kind::Release, &id.to_string()));
    };
    let config = config::of(&draft.state, env);
    let is_plain = release.spec.configured.is_none() && config.is_empty();
    if is_plain || release.spec.config_of(env).is_some() {
        return Ok(id);
    }
    let spec = release.spec.clone();
    remake(draft, &spec, env, config)
}

/// The same image and manifest as another release has, with what is set of an env.
pub(super) fn remake(
    draft: &mut Draft<'_, '_>,
    release: &Release,
    env: Id<Env>,
    config: Config,
) -> Result<Id<Release>, Problem> {
    let (image, manifest) = (&release.image, release.written());
    let made = Made { image, manifest, source: &release.source };
    create_release(draft, release.app, made, Some((env, config)))
}

/// Moves an env back to an older release. Nothing is rebuilt.
pub(super) fn rollback(
    draft: &mut Draft<'_, '_>,
    command: &deploy::Rollback,
) -> Result<Option<AnyId>, Problem> {
    let Some(env) = draft.state.envs.get(command.env) else {
        return Err(Problem::not_found(Kind::Env, &command.env.to_string()));
    };
    destroy::refuse_going(&draft.state, env.id.any())?;
    let target = match command.to {
        Some(to) => draft.state.releases.get(to),
        None => previous(draft, env).and_then(|release| draft.state.releases.get(release)),
    };
    let Some(target) = target else {
        let detail = format!("`{}` has no earlier release that served", env.name);
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint("`helix releases list` shows what there is"));
    };
    if target.spec.app != env.spec.app {
        let detail = format!("release `{}` is of another app", target.name);
        return Err(Problem::new(Code::InvalidArgument, detail));
    }
    let (env, release) = (env.id, target.id);
    go_to(draft, env, release, Intent::Rollback)
}

/// Notes the end of a deploy and settles the env's endpoints accordingly.
pub(super) fn finish(
    draft: &mut Draft<'_, '_>,
    command: &deploy::Finish,
) -> Result<Option<AnyId>, Problem> {
    let Some(deploy) = draft.state.deploys.get(command.deploy) else {
        return Err(Problem::not_found(Kind::Deploy, &command.deploy.to_string()));
    };
    if deploy.status.phase.is_final() {
        return Ok(Some(command.deploy.any()));
    }
    let (env, release, previous) = (deploy.spec.env, deploy.spec.release, deploy.spec.previous);
    let outcome = command.outcome.clone();
    let settled = if outcome == Outcome::Succeeded { Some(release) } else { previous };
    let finished = deploy::Finished::new(deploy, outcome);
    draft.emit(Event::DeployFinished(finished));
    let manifest = settled
        .and_then(|release| draft.state.releases.get(release))
        .map(|release| release.spec.manifest.clone());
    volume::settle(draft, env, manifest.as_ref());
    match manifest {
        Some(manifest) => endpoint::align(draft, env, &manifest, Extent::Exact)?,
        None => endpoint::unreserve(draft, env),
    }
    Ok(Some(command.deploy.any()))
}

/// Has the instances of an env given the secrets that are desired, where there
/// are any: with the release that is on its way, else with the one that serves.
pub(super) fn rotate(draft: &mut Draft<'_, '_>, env: Id<Env>) -> Result<(), Problem> {
    let Some(resource) = draft.state.envs.get(env) else {
        return Err(Problem::not_found(Kind::Env, &env.to_string()));
    };
    let rolling = resource.spec.rolling.and_then(|id| draft.state.deploys.get(id));
    let release = rolling.map(|deploy| deploy.spec.release).or(resource.status.release);
    match release {
        Some(release) => start(draft, env, release, Intent::Rotate).map(drop),
        // The first deploy brings them.
        None => Ok(()),
    }
}

fn find_or_create_app(
    draft: &mut Draft<'_, '_>,
    org: &Name,
    project: &Name,
    app: &Name,
) -> Result<Id<App>, Problem> {
    let state = &draft.state;
    let Some(found) = state.orgs.named(None, org) else {
        return Err(Problem::not_found(Kind::Org, org.as_str()));
    };
    let Some(found) = state.projects.named(Some(found.id.any()), project) else {
        return Err(Problem::not_found(Kind::Project, project.as_str()));
    };
    let project = found.id;
    destroy::refuse_going(state, project.any())?;
    match state.apps.named(Some(project.any()), app) {
        Some(found) => Ok(found.id),
        None => decide_app::create(draft, &app::Create { project, name: app.clone() }),
    }
}

fn find_or_create_env(
    draft: &mut Draft<'_, '_>,
    app: Id<App>,
    env: &Name,
) -> Result<Id<Env>, Problem> {
    match draft.state.envs.named(Some(app.any()), env).map(|env| env.id) {
        Some(env) => destroy::refuse_going(&draft.state, env.any()).map(|()| env),
        None => decide_env::create(draft, &env::Create { app, name: env.clone() }),
    }
}

/// What a release is made from.
#[derive(Clone, Copy)]
struct Made<'a> {
    image: &'a Image,
    /// As it was written.
    manifest: &'a Manifest,
    source: &'a str,
}

/// Makes a release, with what is set of an env if it is for one.
fn create_release(
    draft: &mut Draft<'_, '_>,
    app: Id<App>,
    made: Made<'_>,
    config: Option<(Id<Env>, Config)>,
) -> Result<Id<Release>, Problem> {
    let written = made.manifest;
    let config = config.map(|(env, config)| (env, config.within(written)));
    let configured = config.filter(|(_, config)| !config.is_empty());
    let manifest = configured.as_ref().map_or_else(|| written.clone(), |it| it.1.apply(written));
    let configured = configured
        .map(|(env, config)| Box::new(Configured { env, config, written: written.clone() }));
    destroy::refuse_going(&draft.state, app.any())?;
    let Some(app) = draft.state.apps.get(app) else {
        return Err(Problem::not_found(Kind::App, &app.to_string()));
    };
    let number = app.status.releases + 1;
    let spec = Release {
        org: app.spec.org,
        app: app.id,
        number,
        image: made.image.clone(),
        manifest_hash: manifest.hash(),
        manifest,
        source: made.source.to_owned(),
        configured,
    };
    let id = draft.fresh_id();
    let name = numbered('v', number)?;
    draft.emit(Event::ReleaseCreated(release::Created { id, name, spec }));
    Ok(id)
}

/// Has an env go to a release, with the endpoints and volumes that this needs.
pub(super) fn go_to(
    draft: &mut Draft<'_, '_>,
    env: Id<Env>,
    release: Id<Release>,
    intent: Intent,
) -> Result<Option<AnyId>, Problem> {
    let Some(manifest) = draft.state.releases.get(release).map(|it| it.spec.manifest.clone())
    else {
        return Err(Problem::not_found(Kind::Release, &release.to_string()));
    };
    endpoint::align(draft, env, &manifest, Extent::Add)?;
    volume::attach(draft, env, &manifest)?;
    start(draft, env, release, intent)
}

/// Begins a deploy; one that is still rolling gives way.
fn start(
    draft: &mut Draft<'_, '_>,
    env: Id<Env>,
    release: Id<Release>,
    intent: Intent,
) -> Result<Option<AnyId>, Problem> {
    destroy::refuse_going(&draft.state, env.any())?;
    let secrets = bundle::brought(draft, env, release, intent)?;
    let Some(resource) = draft.state.envs.get(env) else {
        return Err(Problem::not_found(Kind::Env, &env.to_string()));
    };
    let number = resource.status.deploys + 1;
    let previous = resource.status.release;
    let org = resource.spec.org;
    if let Some(rolling) = resource.spec.rolling.and_then(|id| draft.state.deploys.get(id)) {
        let outcome = Outcome::Failed {
            reason: Reason::DeploySuperseded,
            message: format!("d{number} took over"),
        };
        let finished = deploy::Finished::new(rolling, outcome);
        draft.emit(Event::DeployFinished(finished));
    }
    let id: Id<Deploy> = draft.fresh_id();
    let name = numbered('d', number)?;
    let spec = Deploy { org, env, release, intent, previous, secrets };
    draft.emit(Event::DeployCreated(deploy::Created { id, name, spec }));
    Ok(Some(id.any()))
}

/// Where a bare rollback goes. After a failed deploy that is what still serves;
/// otherwise the last release that served before the present one.
fn previous(draft: &Draft<'_, '_>, env: &Resource<Env>) -> Option<Id<Release>> {
    if env.spec.release != env.status.release {
        return env.status.release;
    }
    let current = env.status.release;
    let mut deploys: Vec<_> = draft.state.deploys.children(env.id.any()).collect();
    // By their ends' place in the log: ids carry the clock of whoever made them.
    deploys.sort_by_key(|deploy| std::cmp::Reverse(deploy.version));
    deploys
        .into_iter()
        .filter(|deploy| deploy.status.phase == deploy::Phase::Succeeded)
        .map(|deploy| deploy.spec.release)
        .find(|release| Some(*release) != current)
}

fn numbered(letter: char, number: u64) -> Result<Name, Problem> {
    format!("{letter}{number}").parse().map_err(|error: helix_model::name::NameError| {
        Problem::new(Code::Internal, error.to_string())
    })
}
