//! References: how people and scripts name a resource.
//!
//! An id always works. A path goes from the root: `acme`, `acme/shop`,
//! `acme/shop/web`, `acme/shop/web@prod`, `acme/shop/web:v3` (a release),
//! `acme/shop/web@prod/web-1` (what lives in an env). Leading parts may be left
//! out when a [`Scope`] supplies them.

use serde::{Deserialize, Serialize};

use crate::{
    AnyId, App, Env, Id, Kind, Member, Name, Noun, Org, Problem, Project, Resource, State, Table,
    Token,
};

/// Names to fill in what a reference leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

/// The id of what a reference of this kind names.
pub fn resolve(state: &State, kind: Kind, text: &str, scope: &Scope) -> Result<AnyId, Problem> {
    if let Ok(id) = text.parse::<AnyId>() {
        let found = id.kind() == kind && exists(state, id);
        return if found { Ok(id) } else { Err(Problem::not_found(kind, text)) };
    }
    let missing = || Problem::not_found(kind, text);
    let found = match kind {
        Kind::Org => org(state, text).map(|org| org.id.any()),
        Kind::Node => named(&state.nodes, None, text).map(|node| node.id.any()),
        Kind::Edge => named(&state.edges, None, text).map(|edge| edge.id.any()),
        Kind::User => named(&state.users, None, text).map(|user| user.id.any()),
        Kind::Member => member(state, text, scope).map(|member| member.id.any()),
        Kind::Snapshot => in_org(state, &state.snapshots, text, scope),
        Kind::Certificate => in_org(state, &state.certificates, text, scope),
        Kind::Volume => in_org(state, &state.volumes, text, scope),
        Kind::Tunnel => in_org(state, &state.tunnels, text, scope),
        Kind::Domain => domain(state, text, scope),
        Kind::Token => token(state, text, scope).map(|token| token.id.any()),
        Kind::Project => project(state, text, scope).map(|project| project.id.any()),
        Kind::App => app(state, text, scope).map(|app| app.id.any()),
        Kind::Env => env(state, text, scope).map(|env| env.id.any()),
        Kind::Release => {
            let (app, name) = match text.rsplit_once(':') {
                Some((path, name)) => (app(state, path, scope), name),
                None => (scoped_app(state, scope), text),
            };
            app.and_then(|app| named(&state.releases, Some(app.id.any()), name))
                .map(|release| release.id.any())
        }
        Kind::Deploy => in_env(state, &state.deploys, text, scope),
        Kind::Instance => in_env(state, &state.instances, text, scope),
        Kind::Endpoint => in_env(state, &state.endpoints, text, scope),
        Kind::Bundle => in_env(state, &state.bundles, text, scope),
    };
    found.ok_or_else(missing)
}

/// The env a scope names in full.
pub fn scoped_env<'s>(state: &'s State, scope: &Scope) -> Option<&'s Resource<Env>> {
    env(state, scope.env.as_deref()?, scope)
}

/// The app a scope names in full.
pub fn scoped_app<'s>(state: &'s State, scope: &Scope) -> Option<&'s Resource<App>> {
    app(state, scope.app.as_deref()?, scope)
}

/// Whether there is such a resource.
pub fn exists(state: &State, id: AnyId) -> bool {
    crate::view::version(state, id).is_some()
}

/// The canonical path of a resource, or its id when it is gone.
pub fn path(state: &State, id: AnyId) -> String {
    let mut path = String::with_capacity(USUAL_LENGTH);
    write_path(state, id, &mut path);
    path
}

/// Longer than most paths are.
const USUAL_LENGTH: usize = 64;

fn write_path(state: &State, id: AnyId, path: &mut String) {
    match crate::view::name_and_parent(state, id) {
        None => path.push_str(&id.to_string()),
        Some((name, None)) => path.push_str(name.as_str()),
        Some((name, Some(parent))) => write_child_path(state, parent, id.kind(), &name, path),
    }
}

/// The canonical path of what has this kind and name in this parent.
pub(crate) fn child_path(state: &State, parent: AnyId, kind: Kind, name: &Name) -> String {
    let mut path = String::with_capacity(USUAL_LENGTH);
    write_child_path(state, parent, kind, name, &mut path);
    path
}

fn write_child_path(state: &State, parent: AnyId, kind: Kind, name: &Name, path: &mut String) {
    let separator = match kind {
        Kind::Env => '@',
        Kind::Release => ':',
        _ => '/',
    };
    write_path(state, parent, path);
    path.push(separator);
    path.push_str(name.as_str());
}

fn named<'s, N: Noun>(
    table: &'s Table<N>,
    parent: Option<AnyId>,
    name: &str,
) -> Option<&'s Resource<N>> {
    table.named(parent, &name.parse::<Name>().ok()?)
}

fn org<'s>(state: &'s State, name: &str) -> Option<&'s Resource<Org>> {
    named(&state.orgs, None, name)
}

fn project<'s>(state: &'s State, text: &str, scope: &Scope) -> Option<&'s Resource<Project>> {
    let (org_name, name) = match text.rsplit_once('/') {
        Some((org_name, name)) => (org_name, name),
        None => (scope.org.as_deref()?, text),
    };
    named(&state.projects, Some(org(state, org_name)?.id.any()), name)
}

fn member<'s>(state: &'s State, text: &str, scope: &Scope) -> Option<&'s Resource<Member>> {
    let (org_name, name) = match text.rsplit_once('/') {
        Some((org_name, name)) => (org_name, name),
        None => (scope.org.as_deref()?, text),
    };
    named(&state.members, Some(org(state, org_name)?.id.any()), name)
}

fn in_org<N: Noun>(state: &State, table: &Table<N>, text: &str, scope: &Scope) -> Option<AnyId> {
    let (org_name, name) = match text.rsplit_once('/') {
        Some((org_name, name)) => (org_name, name),
        None => (scope.org.as_deref()?, text),
    };
    let found = named(table, Some(org(state, org_name)?.id.any()), name);
    found.map(|resource| resource.id.any())
}

/// A domain goes by its name, and by what it is.
fn domain(state: &State, text: &str, scope: &Scope) -> Option<AnyId> {
    if let Some(found) = in_org(state, &state.domains, text, scope) {
        return Some(found);
    }
    let (org_name, domain) = match text.rsplit_once('/') {
        Some((org_name, domain)) => (org_name, domain),
        None => (scope.org.as_deref()?, text),
    };
    let org = org(state, org_name)?.id.any();
    let mut known = state.domains.children(org).filter(|it| it.spec.domain == domain);
    known.next().map(|it| it.id.any())
}

/// A token's owner is an org or a user; should both have one name and a token
/// of the same name each, only its id says which is meant.
fn token<'s>(state: &'s State, text: &str, scope: &Scope) -> Option<&'s Resource<Token>> {
    let Some((owner, name)) = text.rsplit_once('/') else {
        let org = org(state, scope.org.as_deref()?)?;
        return named(&state.tokens, Some(org.id.any()), text);
    };
    let of_org = org(state, owner).and_then(|it| named(&state.tokens, Some(it.id.any()), name));
    let user = named(&state.users, None, owner);
    let of_user = user.and_then(|it| named(&state.tokens, Some(it.id.any()), name));
    if of_org.is_some() && of_user.is_some() {
        return None;
    }
    of_org.or(of_user)
}

fn app<'s>(state: &'s State, text: &str, scope: &Scope) -> Option<&'s Resource<App>> {
    let (project_path, name) = match text.rsplit_once('/') {
        Some((path, name)) => (path, name),
        None => (scope.project.as_deref()?, text),
    };
    let project: Id<Project> = project(state, project_path, scope)?.id;
    named(&state.apps, Some(project.any()), name)
}

fn env<'s>(state: &'s State, text: &str, scope: &Scope) -> Option<&'s Resource<Env>> {
    let (app, name) = match text.split_once('@') {
        Some((path, name)) => (app(state, path, scope)?, name),
        None => (scoped_app(state, scope)?, text),
    };
    named(&state.envs, Some(app.id.any()), name)
}

fn in_env<N: Noun>(state: &State, table: &Table<N>, text: &str, scope: &Scope) -> Option<AnyId> {
    let (env, name) = match text.rsplit_once('/') {
        Some((path, name)) => (env(state, path, scope)?, name),
        None => (scoped_env(state, scope)?, text),
    };
    named(table, Some(env.id.any()), name).map(|resource| resource.id.any())
}
