//! Deciding on endpoints that are made apart from a manifest: no deploy changes them.

use helix_model::endpoint::{Expose, Unexpose};
use helix_model::{
    AnyId, Code, Command, Endpoint, Id, Kind, Name, Problem, Resource, State, manifest,
};

use super::{Draft, destroy, endpoint};

/// Makes a port of what an env runs reachable, apart from its manifest, or changes how.
pub(super) fn expose(
    draft: &mut Draft<'_, '_>,
    command: &Expose,
) -> Result<Option<AnyId>, Problem> {
    let env = command.env;
    destroy::refuse_going(&draft.state, env.any())?;
    let asked = checked(&draft.state, command)?;
    let known = draft.state.endpoints.named(Some(env.any()), &asked.name).cloned();
    match (&known, command.replace) {
        (Some(known), true) if !known.spec.apart => return Err(from_manifest(&known.name)),
        (None, true) => {
            return Err(Problem::not_found(Kind::Endpoint, asked.name.as_str()));
        }
        (Some(known), false) => {
            let name = &known.name;
            let hint = match known.spec.apart {
                true => format!("`helix endpoints update {name}` changes it"),
                false => "`helix endpoints expose NAME …` gives it another name".to_owned(),
            };
            let detail = format!("there is an endpoint `{name}` already");
            return Err(Problem::new(Code::Conflict, detail).hint(hint));
        }
        (Some(_), true) | (None, false) => {}
    }
    let own = known.as_ref().map(|known| known.id);
    let spec = endpoint::resolve(draft, env, &asked, &[], own)?;
    let spec = Endpoint { apart: true, ..spec };
    // What the env's manifest has is not for the taking here.
    let owner = draft.state.owner(&spec.exposure);
    if owner.is_some() && owner != own.map(Id::any) {
        let port = spec.exposure.port().map(|port| endpoint::in_use(port.own.listen_port));
        let host = || endpoint::taken(spec.exposure.shared_host().unwrap_or_default());
        return Err(port.unwrap_or_else(host));
    }
    match known {
        Some(known) => endpoint::update(draft, &known, spec),
        None => endpoint::create(draft, asked.name.clone(), spec),
    }
    let made = draft.state.endpoints.named(Some(env.any()), &asked.name);
    Ok(made.map(|made| made.id.any()))
}

/// What is asked for, held against what the env is to run.
fn checked(state: &State, command: &Expose) -> Result<manifest::Endpoint, Problem> {
    let Some(env) = state.envs.get(command.env) else {
        return Err(Problem::not_found(Kind::Env, &command.env.to_string()));
    };
    let release = env.spec.release.and_then(|id| state.releases.get(id));
    let Some(release) = release else {
        let detail = format!("nothing has been deployed to env `{}`", env.name);
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint("`helix deploy`, then expose a port of what runs"));
    };
    let processes = &release.spec.manifest.processes;
    manifest::check_endpoint(command.endpoint.clone(), processes).map_err(|flaws| {
        let first =
            flaws.first().map_or_else(String::new, |it| format!("{}: {}", it.field, it.message));
        let problem = Problem::new(Code::InvalidArgument, first);
        flaws.into_iter().fold(problem, |problem, flaw| problem.field(flaw.field, flaw.message))
    })
}

fn from_manifest(name: &Name) -> Problem {
    Problem::new(Code::PreconditionFailed, format!("endpoint `{name}` comes from helix.toml"))
        .hint("change it there and run `helix deploy`")
}

/// Takes back what was exposed apart from the manifest.
pub(super) fn unexpose(
    draft: &mut Draft<'_, '_>,
    command: &Unexpose,
) -> Result<Option<AnyId>, Problem> {
    let known = draft.state.endpoints.named(Some(command.env.any()), &command.name).cloned();
    let Some(known) = known else {
        return Err(Problem::not_found(Kind::Endpoint, command.name.as_str()));
    };
    if !known.spec.apart {
        return Err(from_manifest(&known.name));
    }
    endpoint::delete(draft, &known);
    Ok(Some(known.spec.env.any()))
}

/// Which endpoints, exposed apart from the manifest, lead nowhere in what is deployed.
pub(super) fn warnings(after: &State, command: &Command, subject: Option<AnyId>) -> Vec<String> {
    let (Command::Deploy(_) | Command::Promote(_) | Command::Rollback(_)) = command else {
        return Vec::new();
    };
    let deploy = subject.and_then(AnyId::typed).and_then(|id| after.deploys.get(id));
    let Some(deploy) = deploy else { return Vec::new() };
    let Some(release) = after.releases.get(deploy.spec.release) else { return Vec::new() };
    let has_port = |it: &Endpoint| {
        let process = release.spec.manifest.processes.get(&it.process);
        process.is_some_and(|process| process.ports.iter().any(|port| port.name == it.port))
    };
    let endpoints = after.endpoints.children(deploy.spec.env.any());
    let astray = endpoints.filter(|it| it.spec.apart && !has_port(&it.spec));
    let warning = |it: &Resource<Endpoint>| {
        let Endpoint { process, port, .. } = &it.spec;
        format!("endpoint `{}` leads to port `{port}` of `{process}`, which is not there", it.name)
    };
    astray.map(warning).collect()
}
