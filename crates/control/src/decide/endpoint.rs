//! Deciding on endpoints: who owns a host name and a port.

use helix_model::domain::LOCAL;
use helix_model::endpoint::{self, Exposure, Of, OwnPort};
use helix_model::{
    AnyId, Code, Endpoint, Env, Event, Id, Manifest, Name, Problem, Resource, manifest,
};

use super::{Draft, address, domain, tunnel};

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
    for asked in &manifest.endpoints {
        let known = draft.state.endpoints.named(Some(env.any()), &asked.name);
        if let Some(apart) = known.filter(|it| it.spec.apart) {
            return Err(named_apart(&apart.name));
        }
    }
    let wanted = resolve_all(draft, env, manifest)?;
    match extent {
        Extent::Add => add(draft, env, wanted),
        Extent::Exact => exact(draft, env, wanted),
    }
    Ok(())
}

/// Gives up what was kept for a deploy that has come to nothing.
pub(super) fn unreserve(draft: &mut Draft<'_, '_>, env: Id<Env>) {
    for endpoint in present(draft, env) {
        if endpoint.spec.reserved.is_some() {
            update(draft, &endpoint, Endpoint { reserved: None, ..endpoint.spec.clone() });
        }
    }
}

/// Makes what is missing, and keeps for the others what they will need. What
/// another endpoint of the env still has is handed over at the end.
fn add(draft: &mut Draft<'_, '_>, env: Id<Env>, wanted: Vec<(Name, Endpoint)>) {
    unreserve(draft, env);
    for (name, spec) in wanted {
        let is_free = draft.state.owner(&spec.exposure).is_none();
        match draft.state.endpoints.named(Some(env.any()), &name).cloned() {
            None if is_free => create(draft, name, spec),
            Some(before) if is_free => {
                let reserved = Some(spec.exposure);
                update(draft, &before, Endpoint { reserved, ..before.spec.clone() });
            }
            _ => {}
        }
    }
}

/// Makes, changes and removes. One goes after the other, so that at no moment a
/// host or a port has two owners; two that want each other's are made anew.
fn exact(draft: &mut Draft<'_, '_>, env: Id<Env>, wanted: Vec<(Name, Endpoint)>) {
    let spec_of = |name: &Name| wanted.iter().find(|(it, _)| it == name).map(|(_, spec)| spec);
    for gone in present(draft, env).iter().filter(|it| spec_of(&it.name).is_none()) {
        delete(draft, gone);
    }
    loop {
        let mut waiting = Vec::new();
        let mut has_moved = false;
        for endpoint in present(draft, env) {
            let Some(spec) = spec_of(&endpoint.name).filter(|spec| **spec != endpoint.spec) else {
                continue;
            };
            let owner = draft.state.owner(&spec.exposure);
            if owner.is_none_or(|owner| owner == endpoint.id.any()) {
                update(draft, &endpoint, spec.clone());
                has_moved = true;
            } else {
                waiting.push(endpoint);
            }
        }
        match waiting.first() {
            None => break,
            Some(first) if !has_moved => delete(draft, first),
            Some(_) => {}
        }
    }
    for (name, spec) in wanted {
        if draft.state.endpoints.named(Some(env.any()), &name).is_none() {
            create(draft, name, spec);
        }
    }
}

/// Those that a manifest asked for.
fn present(draft: &Draft<'_, '_>, env: Id<Env>) -> Vec<Resource<Endpoint>> {
    draft.state.endpoints.children(env.any()).filter(|it| !it.spec.apart).cloned().collect()
}

pub(super) fn create(draft: &mut Draft<'_, '_>, name: Name, spec: Endpoint) {
    let id = draft.fresh_id();
    draft.emit(Event::EndpointCreated(endpoint::Created { id, name, spec }));
}

pub(super) fn update(draft: &mut Draft<'_, '_>, before: &Resource<Endpoint>, spec: Endpoint) {
    let of = Of::new(before);
    draft.emit(Event::EndpointUpdated(endpoint::Updated { of, spec }));
}

pub(super) fn delete(draft: &mut Draft<'_, '_>, endpoint: &Resource<Endpoint>) {
    draft.emit(Event::EndpointDeleted(endpoint::Deleted { of: Of::new(endpoint) }));
}

/// Notes what an edge says of an endpoint, when it is news.
pub(super) fn observe(draft: &mut Draft<'_, '_>, command: &endpoint::Observe) -> Option<AnyId> {
    let known = draft.state.endpoints.get(command.endpoint)?;
    let edge = command.from.edge;
    if known.status.edges.get(&edge) != Some(&command.seen) && command.from.is_current(&draft.state)
    {
        let (of, seen, edge) = (Of::new(known), command.seen.clone(), Some(edge));
        draft.emit(Event::EndpointStatusChanged(endpoint::StatusChanged { of, seen, edge }));
    }
    Some(command.endpoint.any())
}

/// The endpoints a manifest asks for, those that name their host first: the
/// others take what is left.
fn resolve_all(
    draft: &Draft<'_, '_>,
    env: Id<Env>,
    manifest: &Manifest,
) -> Result<Vec<(Name, Endpoint)>, Problem> {
    let takes_any =
        |it: &&manifest::Endpoint| matches!(it.exposure, manifest::Exposure::Http { host: None });
    let (any, named): (Vec<_>, Vec<_>) = manifest.endpoints.iter().partition(takes_any);
    let mut wanted: Vec<(Name, Endpoint)> = Vec::new();
    for asked in named.into_iter().chain(any) {
        let spec = resolve(draft, env, asked, &wanted, None)?;
        wanted.push((asked.name.clone(), spec));
    }
    Ok(wanted)
}

/// What an endpoint is to be; `own` is the one in whose place it comes, which is not in
/// its way.
pub(super) fn resolve(
    draft: &Draft<'_, '_>,
    env: Id<Env>,
    asked: &manifest::Endpoint,
    others: &[(Name, Endpoint)],
    own: Option<Id<Endpoint>>,
) -> Result<Endpoint, Problem> {
    let Some(owner) = draft.state.envs.get(env) else {
        return Err(Problem::not_found(helix_model::Kind::Env, &env.to_string()));
    };
    let is_wanted = |it: &Exposure| others.iter().any(|(_, other)| other.exposure.collides(it));
    let is_own = |it: &Exposure| own.is_some() && draft.state.owner(it) == own.map(Id::any);
    let is_free = |it: &Exposure| !is_wanted(it) && (is_own(it) || is_free(draft, env, it));
    let own = |listen_port: u16| OwnPort { address: owner.spec.address, listen_port };
    let exposure = match &asked.exposure {
        manifest::Exposure::Tcp { listen_port } => {
            let OwnPort { address, listen_port } = own(*listen_port);
            Exposure::Tcp { address, listen_port }
        }
        manifest::Exposure::Udp { listen_port } => {
            let OwnPort { address, listen_port } = own(*listen_port);
            Exposure::Udp { address, listen_port }
        }
        manifest::Exposure::Tls { host, listen_port } => {
            Exposure::Tls { host: host.clone(), own: listen_port.map(own) }
        }
        manifest::Exposure::Http { host: Some(host) } => Exposure::Http { host: host.clone() },
        manifest::Exposure::Http { host: None } => {
            let candidates = default_hosts(draft, owner);
            let mut exposures = candidates.iter().map(|host| Exposure::Http { host: host.clone() });
            exposures.find(is_free).ok_or_else(|| taken(&candidates[0]))?
        }
    };
    match (exposure.shared_host(), exposure.port()) {
        (Some(host), _) if !is_free(&exposure) => return Err(taken(host)),
        (_, Some(port)) if is_wanted(&exposure) => return Err(asked_twice(port.own.listen_port)),
        (None, Some(port)) if !is_free(&exposure) => return Err(in_use(port.own.listen_port)),
        // What an env has it keeps, also from before there were proofs.
        (Some(host), _) if draft.state.owner(&exposure).is_none() => {
            domain::refuse_unproven(&draft.state, owner.spec.org, host)?;
        }
        _ => {}
    }
    // Nor is it taken a port that is denied since.
    if let Some(port) = exposure.port()
        && draft.state.owner(&exposure).is_none()
    {
        address::refuse_denied(&draft.state, port.own.listen_port)?;
    }
    address::refuse_ipv4(&draft.state, owner, asked)?;
    Ok(Endpoint {
        org: owner.spec.org,
        env,
        process: asked.process.clone(),
        port: asked.port.clone(),
        exposure,
        ipv4: asked.ipv4,
        handling: asked.handling,
        apart: false,
        reserved: None,
    })
}

fn named_apart(name: &Name) -> Problem {
    let detail =
        format!("endpoint `{name}` was exposed apart from the manifest, which has one too");
    Problem::new(Code::Conflict, detail).hint(format!(
        "`helix endpoints unexpose {name}`, or call the one in helix.toml something else"
    ))
}

pub(super) fn in_use(port: u16) -> Problem {
    let detail = format!("port {port} of the env's address belongs to another endpoint");
    Problem::new(Code::Conflict, detail)
        .field("endpoints.listen_port", format!("{port} is taken"))
        .hint("`helix endpoints list` shows whose it is")
}

pub(super) fn taken(host: &str) -> Problem {
    Problem::new(
        Code::HostTaken,
        format!("the host name `{host}` belongs to another endpoint or a tunnel"),
    )
    .field("endpoints.host", format!("`{host}` is taken"))
}

fn asked_twice(port: u16) -> Problem {
    let detail = format!("two endpoints of the manifest ask for port {port}");
    Problem::new(Code::InvalidArgument, detail)
        .field("endpoints.listen_port", format!("{port} can have one endpoint"))
}

/// Free means: nobody's, or of this env's manifest, whichever of its endpoints has it.
fn is_free(draft: &Draft<'_, '_>, env: Id<Env>, exposure: &Exposure) -> bool {
    let Some(owner) = draft.state.owner(exposure) else {
        let host = exposure.shared_host();
        return host.is_none_or(|host| !tunnel::is_edges_own(&draft.state, host));
    };
    let owner = owner.typed().and_then(|owner| draft.state.endpoints.get(owner));
    owner.is_some_and(|owner| owner.spec.env == env && !owner.spec.apart)
}

/// `hello.localhost` for production, `staging-hello.localhost` otherwise; longer
/// ones for when another project has an app of the same name. Below the domain of the
/// installation's apps where it has one.
fn default_hosts(draft: &Draft<'_, '_>, env: &Resource<Env>) -> Vec<String> {
    let state = &draft.state;
    let Some(app) = state.apps.get(env.spec.app) else {
        return vec![LOCAL.to_owned()];
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
    let domain = state.app_domain();
    vec![
        format!("{stem}.{domain}"),
        format!("{stem}.{project}.{domain}"),
        format!("{stem}.{project}.{org}.{domain}"),
    ]
}
