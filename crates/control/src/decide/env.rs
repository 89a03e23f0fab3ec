//! Deciding on envs.

use helix_model::{AnyId, Code, Env, Event, Id, Kind, Name, Problem, env};

use super::{Draft, address, destroy, volume};

/// As many as a manifest may ask for.
const INSTANCES_MAX: u32 = 100;

/// Makes an env with an address of its own; its name is unique in its app.
pub(super) fn create(draft: &mut Draft<'_, '_>, command: &env::Create) -> Result<Id<Env>, Problem> {
    let Some(app) = draft.state.apps.get(command.app) else {
        return Err(Problem::not_found(Kind::App, &command.app.to_string()));
    };
    destroy::refuse_going(&draft.state, app.id.any())?;
    let org = app.spec.org;
    let namesake = draft.state.envs.named(Some(command.app.any()), &command.name);
    if let Some(namesake) = namesake {
        destroy::refuse_going(&draft.state, namesake.id.any())?;
        let detail = format!("there is already an env `{}`", command.name);
        return Err(Problem::new(Code::NameTaken, detail));
    }
    let address = address::of_new_env(draft)?;
    let id = draft.fresh_id();
    let name = command.name.clone();
    draft.emit(Event::EnvCreated(env::Created { id, org, app: command.app, name, address }));
    Ok(id)
}

/// Sets instance counts; each process must be one of the env's release.
pub(super) fn scale(
    draft: &mut Draft<'_, '_>,
    command: &env::Scale,
) -> Result<Option<AnyId>, Problem> {
    let state = &draft.state;
    let Some(env) = state.envs.get(command.env) else {
        return Err(Problem::not_found(Kind::Env, &command.env.to_string()));
    };
    destroy::refuse_going(state, env.id.any())?;
    if command.processes.is_empty() {
        let detail = "no process was named".to_owned();
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint("name a process and a count, for example `helix scale web=3`"));
    }
    let release = env.status.release.or(env.spec.release).and_then(|id| state.releases.get(id));
    let Some(release) = release else {
        let detail = format!("nothing has been deployed to `{}` yet", env.name);
        return Err(Problem::new(Code::PreconditionFailed, detail).hint("run `helix deploy` first"));
    };
    for (process, count) in &command.processes {
        if !release.spec.manifest.processes.contains_key(process) {
            let known = names(release.spec.manifest.processes.keys());
            return Err(Problem::new(
                Code::InvalidArgument,
                format!("{} has no process `{process}`; it has {known}", release.name),
            )
            .field("processes", format!("`{process}` is not a process")));
        }
        if *count > INSTANCES_MAX {
            let detail = format!("{process}={count} is more than {INSTANCES_MAX} instances");
            return Err(Problem::new(Code::InvalidArgument, detail)
                .hint(format!("ask for at most {INSTANCES_MAX} of a process")));
        }
    }
    for (process, count) in &command.processes {
        volume::refuse_count(&release.spec.manifest, process, *count)?;
    }
    let changed = command.processes.iter().any(|(name, n)| env.spec.scale.get(name) != Some(n));
    if changed {
        let processes = command.processes.clone();
        draft.emit(Event::EnvScaled(env::Scaled { id: command.env, processes }));
    }
    Ok(Some(command.env.any()))
}

pub(super) fn names<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    names.map(Name::as_str).collect::<Vec<_>>().join(", ")
}
