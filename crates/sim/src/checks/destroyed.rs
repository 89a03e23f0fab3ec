//! Nothing new begins in what is being destroyed, nothing is left of what is
//! destroyed, and nobody else notices.

use helix_model::destroy::contents;
use helix_model::{AnyId, Event, State};

use super::{Failed, fail};

const NAME: &str = "destroyed";

pub(super) fn happened(failed: &mut Failed, before: &State, after: &State, event: &Event) {
    match event {
        Event::InstanceAllocated(it) => begins(failed, before, it.spec.env.any(), "an instance"),
        Event::EndpointCreated(it) => begins(failed, before, it.spec.env.any(), "an endpoint"),
        Event::DeployCreated(it) => begins(failed, before, it.spec.env.any(), "a deploy"),
        Event::EnvCreated(it) => begins(failed, before, it.app.any(), "an env"),
        Event::AppCreated(it) => begins(failed, before, it.project.any(), "an app"),
        Event::ProjectCreated(it) => begins(failed, before, it.org.any(), "a project"),
        Event::OrgDestroyed(it)
        | Event::ProjectDestroyed(it)
        | Event::AppDestroyed(it)
        | Event::EnvDestroyed(it) => gone(failed, before, after, it.of.id),
        _ => {}
    }
}

fn begins(failed: &mut Failed, state: &State, parent: AnyId, what: &str) {
    if state.destroying_since(parent).is_some() {
        fail(failed, NAME, || format!("{what} begins in {parent}, which is being destroyed"));
    }
}

fn gone(failed: &mut Failed, before: &State, after: &State, id: AnyId) {
    let mut inside = contents(after, id);
    inside.extend(after.deploys.children(id).map(|it| it.id.any()));
    inside.extend(after.releases.children(id).map(|it| it.id.any()));
    if let Some(left) = inside.first() {
        fail(failed, NAME, || format!("{left} is left of {id}"));
    }
    for env in before.envs.iter().filter(|env| env.id.any() != id) {
        let count = |state: &State| {
            let parts = state.instances.children(env.id.any()).count();
            parts + state.endpoints.children(env.id.any()).count()
        };
        if after.envs.get(env.id).is_none() || count(before) != count(after) {
            fail(failed, NAME, || format!("{} lost something when {id} went", env.id));
        }
    }
}
