//! Deciding on what is set of an env apart from its manifest: each change makes a release.

use helix_model::config::{self, Configure};
use helix_model::deploy::Intent;
use helix_model::{AnyId, Code, Kind, Manifest, Problem};

use super::env::names;
use super::{Draft, deploy, destroy};

/// Makes a release of what the env should be running with another configuration, and
/// moves the env there unless that is only planned. A change of nothing makes none.
pub(super) fn configure(
    draft: &mut Draft<'_, '_>,
    command: &Configure,
) -> Result<Option<AnyId>, Problem> {
    let state = &draft.state;
    let Some(env) = state.envs.get(command.env) else {
        return Err(Problem::not_found(Kind::Env, &command.env.to_string()));
    };
    destroy::refuse_going(state, env.id.any())?;
    let release = env.spec.release.and_then(|id| state.releases.get(id));
    let Some(release) = release else {
        let detail = format!("nothing has been deployed to `{}` yet", env.name);
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint("run `helix deploy` first, or write it in helix.toml"));
    };
    refuse_unknown(command, release.name.as_str(), release.spec.written())?;
    let before = config::of(state, command.env);
    let after = command.changes.apply(&before);
    after.check()?;
    if after == before {
        let subject = if command.plan { release.id.any() } else { command.env.any() };
        return Ok(Some(subject));
    }
    let spec = release.spec.clone();
    let release = deploy::remake(draft, &spec, command.env, after)?;
    if command.plan {
        return Ok(Some(release.any()));
    }
    deploy::go_to(draft, command.env, release, Intent::Deploy)
}

fn refuse_unknown(command: &Configure, release: &str, manifest: &Manifest) -> Result<(), Problem> {
    let mut asked = command.changes.processes.keys();
    let Some(unknown) = asked.find(|name| !manifest.processes.contains_key(*name)) else {
        return Ok(());
    };
    let known = names(manifest.processes.keys());
    let detail = format!("{release} has no process `{unknown}`; it has {known}");
    Err(Problem::new(Code::InvalidArgument, detail)
        .field("processes", format!("`{unknown}` is not a process")))
}
