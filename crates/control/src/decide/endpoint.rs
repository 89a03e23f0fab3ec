//! Deciding on endpoints: who owns a host name and a port.

use helix_model::endpoint::{self, Exposure, Of};
use helix_model::{
    AnyId, Code, Endpoint, Env, Event, Id, Manifest, Name, Problem, Resource, manifest,
};

use super::Draft;

/// The suffix under which every env gets a name without proof of ownership:
/// RFC 6761 §6.3 keeps it on this machine, and browsers resolve it unaided.
const LOCAL_DOMAIN: &str = "localhost";

/// The env whose name is left out of its default host.
const MAIN_ENV: &str = "production";

/// How far to go in making an env's endpoints those of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Only make what is missing: an older release may still be serving, and a
    /// deploy that fails must not have taken anything from it.
    Add,
    /// Make, change and remove.
    Exact,
}

/// Makes an env's endpoints those of a manifest, or says which host is taken.
pub(super) fn align(
    draft: &mut Draft<'_, '_>,
    env: Id<Env>,
    manifest: &Manifest,
    extent: Extent,
) -> Result<(), Problem> {
    let mut wanted: Vec<(Name, Endpoint)> = Vec::new();
    for asked in &manifest.endpoints {
        wanted.push((asked.name.clone(), resolve(draft, env, asked)?));
    }
    let present: Vec<Resource<Endpoint>> =
        draft.state.endpoints.children(env.any()).cloned().collect();
    if extent == Extent::Exact {
        let kept = |name: &Name| wanted.iter().any(|(other, _)| other == name);
        for gone in present.iter().filter(|endpoint| !kept(&endpoint.name)) {
            draft.emit(Event::EndpointDeleted(endpoint::Deleted { of: Of::new(gone) }));
        }
    }
    for (name, spec) in wanted {
        match present.iter().find(|endpoint| endpoint.name == name) {
            None => {
                let id = draft.fresh_id();
                draft.emit(Event::EndpointCreated(endpoint::Created { id, name, spec }));
            }
            Some(before) if before.spec != spec && extent == Extent::Exact => {
                let of = Of::new(before);
                draft.emit(Event::EndpointUpdated(endpoint::Updated { of, spec }));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Notes what an edge says of an endpoint, when it is news.
pub(super) fn observe(draft: &mut Draft<'_, '_>, command: &endpoint::Observe) -> Option<AnyId> {
    let known = draft.state.endpoints.get(command.endpoint)?;
    if known.status != command.status {
        let (of, status) = (Of::new(known), command.status.clone());
        draft.emit(Event::EndpointStatusChanged(endpoint::StatusChanged { of, status }));
    }
    Some(command.endpoint.any())
}

fn resolve(
    draft: &Draft<'_, '_>,
    env: Id<Env>,
    asked: &manifest::Endpoint,
) -> Result<Endpoint, Problem> {
    let state = &draft.state;
    let Some(owner) = state.envs.get(env) else {
        return Err(Problem::not_found(helix_model::Kind::Env, &env.to_string()));
    };
    let exposure = match &asked.exposure {
        manifest::Exposure::Tcp { listen_port } => {
            Exposure::Tcp { address: owner.spec.address, listen_port: *listen_port }
        }
        manifest::Exposure::Http { host: Some(host) } => {
            if !is_free(draft, owner, &asked.name, host) {
                return Err(taken(host));
            }
            Exposure::Http { host: host.clone() }
        }
        manifest::Exposure::Http { host: None } => {
            let candidates = default_hosts(draft, owner);
            let free = candidates.iter().find(|host| is_free(draft, owner, &asked.name, host));
            let host = free.ok_or_else(|| taken(&candidates[0]))?.clone();
            Exposure::Http { host }
        }
    };
    Ok(Endpoint {
        org: owner.spec.org,
        env,
        process: asked.process.clone(),
        port: asked.port.clone(),
        exposure,
    })
}

fn taken(host: &str) -> Problem {
    Problem::new(Code::HostTaken, format!("the host name `{host}` belongs to another endpoint"))
        .field("endpoints.host", format!("`{host}` is taken"))
}

/// Free means: nobody's, or this very endpoint's. An endpoint of the same env
/// under another name counts as taken until it is gone.
fn is_free(draft: &Draft<'_, '_>, env: &Resource<Env>, name: &Name, host: &str) -> bool {
    let Some(owner) = draft.state.hosts.get(host) else {
        return true;
    };
    let owner = draft.state.endpoints.get(*owner);
    owner.is_some_and(|owner| owner.spec.env == env.id && owner.name == *name)
}

/// `hello.localhost` for production, `staging-hello.localhost` otherwise; longer
/// ones for when another project has an app of the same name.
fn default_hosts(draft: &Draft<'_, '_>, env: &Resource<Env>) -> Vec<String> {
    let state = &draft.state;
    let Some(app) = state.apps.get(env.spec.app) else {
        return vec![LOCAL_DOMAIN.to_owned()];
    };
    let project = state.projects.get(app.spec.project).map(|project| project.name.to_string());
    let org = state.orgs.get(app.spec.org).map(|org| org.name.to_string());
    let stem = if env.name.as_str() == MAIN_ENV {
        app.name.to_string()
    } else {
        format!("{}-{}", env.name, app.name)
    };
    let project = project.unwrap_or_default();
    let org = org.unwrap_or_default();
    vec![
        format!("{stem}.{LOCAL_DOMAIN}"),
        format!("{stem}.{project}.{LOCAL_DOMAIN}"),
        format!("{stem}.{project}.{org}.{LOCAL_DOMAIN}"),
    ]
}
