//! Views: a resource as people and scripts see it, the same for every kind.
//!
//! One generic mechanism gives each kind list, describe and wait: [`view`] and
//! [`list`] read any kind through [`Described`], which says the few things that
//! differ.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::{Condition, ConditionKind};
use crate::reference::{self, Scope};
use crate::{
    AnyId, App, Deploy, Endpoint, Env, Instance, Kind, Name, Node, Noun, Org, Project, Release,
    Resource, State, Table, Timestamp, deploy, destroy, instance,
};

/// A resource as the API returns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceView {
    pub kind: Kind,
    pub id: AnyId,
    pub name: Name,
    /// The canonical path, e.g. `acme/shop/web@prod`.
    pub path: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// What `expected_version` compares with.
    pub version: u64,
    pub desired: Value,
    pub current: Value,
    pub conditions: Vec<Condition>,
    /// Why current is not what is desired, in a sentence; absent when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
}

impl ResourceView {
    /// The condition of this kind, if the resource has one.
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// What differs from kind to kind in a view.
trait Described: Noun {
    fn table(state: &State) -> &Table<Self>;

    /// Facts worth waiting for. The default suits kinds that are what they are
    /// as soon as they exist.
    fn conditions(resource: &Resource<Self>, _state: &State) -> Vec<Condition> {
        let since = resource.created_at;
        vec![Condition::new(ConditionKind::Ready, true, "exists", "It exists.", since)]
    }

    fn difference(_resource: &Resource<Self>, _state: &State) -> Option<String> {
        None
    }
}

/// Calls a generic function with the noun type of a run-time kind.
macro_rules! for_kind {
    ($kind:expr, $function:ident($($argument:expr),*)) => {
        match $kind {
            Kind::Org => $function::<Org>($($argument),*),
            Kind::Project => $function::<Project>($($argument),*),
            Kind::App => $function::<App>($($argument),*),
            Kind::Env => $function::<Env>($($argument),*),
            Kind::Release => $function::<Release>($($argument),*),
            Kind::Deploy => $function::<Deploy>($($argument),*),
            Kind::Instance => $function::<Instance>($($argument),*),
            Kind::Endpoint => $function::<Endpoint>($($argument),*),
            Kind::Node => $function::<Node>($($argument),*),
        }
    };
}

/// The view of one resource.
pub fn view(state: &State, id: AnyId) -> Option<ResourceView> {
    for_kind!(id.kind(), view_of(state, id))
}

/// Resources of a kind in id order, from after `after`, at most `limit`, inside
/// `within` and everything under it when given, of those that are `visible`.
pub fn list(
    state: &State,
    kind: Kind,
    within: Option<AnyId>,
    after: Option<AnyId>,
    limit: usize,
    visible: &dyn Fn(AnyId) -> bool,
) -> Vec<ResourceView> {
    for_kind!(kind, list_of(state, within, after, limit, visible))
}

/// The name and parent of a resource, also of one that has been destroyed.
pub fn name_and_parent(state: &State, id: AnyId) -> Option<(Name, Option<AnyId>)> {
    let found = for_kind!(id.kind(), name_and_parent_of(state, id));
    found.or_else(|| state.gone.get(&id).map(|gone| (gone.name.clone(), gone.parent)))
}

/// What a scope narrows a list to: the innermost thing it names.
pub fn narrow(state: &State, scope: &Scope) -> Result<Option<AnyId>, crate::Problem> {
    let steps = [
        (Kind::Env, &scope.env),
        (Kind::App, &scope.app),
        (Kind::Project, &scope.project),
        (Kind::Org, &scope.org),
    ];
    for (kind, text) in steps {
        if let Some(text) = text {
            return reference::resolve(state, kind, text, scope).map(Some);
        }
    }
    Ok(None)
}

/// What `expected_version` compares with.
pub fn version(state: &State, id: AnyId) -> Option<u64> {
    for_kind!(id.kind(), version_of(state, id))
}

fn version_of<N: Described>(state: &State, id: AnyId) -> Option<u64> {
    N::table(state).get(id.typed()?).map(|resource| resource.version)
}

fn name_and_parent_of<N: Described>(state: &State, id: AnyId) -> Option<(Name, Option<AnyId>)> {
    let resource = N::table(state).get(id.typed()?)?;
    Some((resource.name.clone(), resource.parent))
}

fn view_of<N: Described>(state: &State, id: AnyId) -> Option<ResourceView> {
    N::table(state).get(id.typed()?).map(|resource| render(state, resource))
}

fn list_of<N: Described>(
    state: &State,
    within: Option<AnyId>,
    after: Option<AnyId>,
    limit: usize,
    visible: &dyn Fn(AnyId) -> bool,
) -> Vec<ResourceView> {
    N::table(state)
        .iter()
        .filter(|resource| after.is_none_or(|after| resource.id.any() > after))
        .filter(|resource| within.is_none_or(|within| is_within(state, resource.id.any(), within)))
        .filter(|resource| visible(resource.id.any()))
        .take(limit)
        .map(|resource| render(state, resource))
        .collect()
}

/// Whether a resource is another or somewhere under it.
pub fn is_within(state: &State, id: AnyId, ancestor: AnyId) -> bool {
    if id == ancestor {
        return true;
    }
    let parent = name_and_parent(state, id).and_then(|(_, parent)| parent);
    // Releases belong to the app; listing them for an env means its app's.
    let env_app = |env: AnyId| name_and_parent(state, env).and_then(|(_, parent)| parent);
    if id.kind() == Kind::Release && ancestor.kind() == Kind::Env {
        return parent == env_app(ancestor);
    }
    parent.is_some_and(|parent| is_within(state, parent, ancestor))
}

fn render<N: Described>(state: &State, resource: &Resource<N>) -> ResourceView {
    let mut view = ResourceView {
        kind: N::KIND,
        id: resource.id.any(),
        name: resource.name.clone(),
        path: reference::path(state, resource.id.any()),
        created_at: resource.created_at,
        updated_at: resource.updated_at,
        version: resource.version,
        desired: serde_json::to_value(&resource.spec).unwrap_or(Value::Null),
        current: serde_json::to_value(&resource.status).unwrap_or(Value::Null),
        conditions: N::conditions(resource, state),
        difference: N::difference(resource, state),
    };
    destroy::show(state, &mut view);
    view
}

impl Described for Org {
    fn table(state: &State) -> &Table<Self> {
        &state.orgs
    }
}

impl Described for Project {
    fn table(state: &State) -> &Table<Self> {
        &state.projects
    }
}

impl Described for App {
    fn table(state: &State) -> &Table<Self> {
        &state.apps
    }

    /// An app is ready when each of its envs is.
    fn conditions(app: &Resource<App>, state: &State) -> Vec<Condition> {
        let envs: Vec<_> = state.envs.children(app.id.any()).collect();
        let Some(first) = envs.first() else {
            return vec![Condition::new(
                ConditionKind::Ready,
                false,
                "no_env",
                "Nothing has been deployed.",
                app.created_at,
            )];
        };
        let waiting = envs.iter().find(|env| !env_is_ready(env, state));
        Env::conditions(waiting.unwrap_or(first), state)
    }
}

impl Described for Env {
    fn table(state: &State) -> &Table<Self> {
        &state.envs
    }

    fn conditions(env: &Resource<Env>, state: &State) -> Vec<Condition> {
        let (ready, wanted) = env_counts(env, state);
        let since = env.updated_at;
        let serving = env_is_ready(env, state);
        let (reason, message) = if env.status.release.is_none() {
            ("no_release", "No release has been deployed successfully.".to_owned())
        } else if serving {
            ("all_ready", format!("{ready} of {wanted} instances are ready."))
        } else {
            ("not_all_ready", format!("{ready} of {wanted} instances are ready."))
        };
        let mut conditions =
            vec![Condition::new(ConditionKind::Ready, serving, reason, message, since)];
        if let Some(deploy) = env.spec.rolling {
            let message = format!("{} is rolling.", reference::path(state, deploy.any()));
            let kind = ConditionKind::Reconciling;
            conditions.push(Condition::new(kind, true, "deploy_rolling", message, since));
        }
        if let Some(failed) = Env::difference(env, state).filter(|_| env.spec.rolling.is_none()) {
            let kind = ConditionKind::Degraded;
            conditions.push(Condition::new(kind, true, "desired_not_serving", failed, since));
        }
        conditions
    }

    fn difference(env: &Resource<Env>, state: &State) -> Option<String> {
        let wanted = env.spec.release?;
        if Some(wanted) == env.status.release {
            let (ready, count) = env_counts(env, state);
            return (ready != count).then(|| format!("{ready} of {count} instances are ready"));
        }
        let last = state.deploys.children(env.id.any()).max_by_key(|deploy| deploy.id)?;
        Some(match last.status.phase {
            deploy::Phase::Failed => format!(
                "{} failed: {}",
                last.name,
                last.status.message.as_deref().unwrap_or("no reason was recorded")
            ),
            _ => format!("{} is rolling", last.name),
        })
    }
}

/// Ready and wanted instances of what an env serves.
fn env_counts(env: &Resource<Env>, state: &State) -> (usize, usize) {
    let Some(release) = env.status.release.and_then(|release| state.releases.get(release)) else {
        return (0, 0);
    };
    let wanted = release.spec.manifest.processes.iter();
    let wanted = wanted
        .map(|(name, process)| env.spec.scale.get(name).copied().unwrap_or(process.scaling.min))
        .sum::<u32>();
    let ready = state.instances.children(env.id.any());
    let ready = ready
        .filter(|instance| {
            instance.spec.release == release.id
                && instance.spec.desired == instance::Desired::Running
                && instance.status.observed.phase == instance::Phase::Ready
        })
        .count();
    (ready, wanted as usize)
}

fn env_is_ready(env: &Resource<Env>, state: &State) -> bool {
    let (ready, wanted) = env_counts(env, state);
    env.status.release.is_some() && ready >= wanted && env.spec.rolling.is_none()
}

impl Described for Release {
    fn table(state: &State) -> &Table<Self> {
        &state.releases
    }
}

impl Described for Deploy {
    fn table(state: &State) -> &Table<Self> {
        &state.deploys
    }

    fn conditions(deploy: &Resource<Deploy>, _state: &State) -> Vec<Condition> {
        let since = deploy.updated_at;
        let (ready, reason, message) = match deploy.status.phase {
            deploy::Phase::Succeeded => (true, "succeeded".to_owned(), "It serves.".to_owned()),
            deploy::Phase::Failed => (
                false,
                deploy.status.reason.map_or_else(String::new, |reason| reason.to_string()),
                deploy.status.message.clone().unwrap_or_default(),
            ),
            _ => (false, "rolling".to_owned(), "Instances are being replaced.".to_owned()),
        };
        let mut conditions =
            vec![Condition::new(ConditionKind::Ready, ready, reason, message, since)];
        if !deploy.status.phase.is_final() {
            let kind = ConditionKind::Reconciling;
            conditions.push(Condition::new(kind, true, "rolling", "It goes on.", since));
        }
        conditions
    }

    fn difference(deploy: &Resource<Deploy>, _state: &State) -> Option<String> {
        deploy.status.message.clone()
    }
}

impl Described for Instance {
    fn table(state: &State) -> &Table<Self> {
        &state.instances
    }

    fn conditions(instance: &Resource<Instance>, _state: &State) -> Vec<Condition> {
        let observed = &instance.status.observed;
        let ready = observed.phase == instance::Phase::Ready;
        let phase = serde_json::to_value(observed.phase).unwrap_or_default();
        let reason = observed.reason.map_or_else(
            || phase.as_str().unwrap_or_default().to_owned(),
            |reason| reason.to_string(),
        );
        let message = observed.message.clone().unwrap_or_default();
        let since = instance.updated_at;
        vec![Condition::new(ConditionKind::Ready, ready, reason, message, since)]
    }

    fn difference(instance: &Resource<Instance>, _state: &State) -> Option<String> {
        let observed = &instance.status.observed;
        let wanted = instance.spec.desired;
        match (wanted, observed.phase) {
            (instance::Desired::Running, instance::Phase::Ready) => None,
            (instance::Desired::Stopped, instance::Phase::Stopped) => None,
            (instance::Desired::Running, _) => {
                Some(observed.message.clone().unwrap_or_else(|| {
                    let phase = serde_json::to_value(observed.phase).unwrap_or_default();
                    format!("it is {}", phase.as_str().unwrap_or_default())
                }))
            }
            (instance::Desired::Draining, _) => Some("open work is being finished".to_owned()),
            (instance::Desired::Stopped, _) => Some("it is being stopped".to_owned()),
        }
    }
}

impl Described for Endpoint {
    fn table(state: &State) -> &Table<Self> {
        &state.endpoints
    }

    fn conditions(endpoint: &Resource<Endpoint>, _state: &State) -> Vec<Condition> {
        let since = endpoint.updated_at;
        let reachable = !endpoint.status.reachable.is_empty();
        let (reason, message) = match &endpoint.status.problem {
            Some(problem) => ("limited", problem.clone()),
            None if reachable => ("reachable", endpoint.status.reachable.join(", ")),
            None => ("pending", "No edge has taken it up yet.".to_owned()),
        };
        let mut conditions =
            vec![Condition::new(ConditionKind::Ready, reachable, reason, message.clone(), since)];
        if endpoint.status.problem.is_some() {
            let kind = ConditionKind::Degraded;
            conditions.push(Condition::new(kind, true, reason, message, since));
        }
        conditions
    }

    fn difference(endpoint: &Resource<Endpoint>, _state: &State) -> Option<String> {
        endpoint.status.problem.clone()
    }
}

impl Described for Node {
    fn table(state: &State) -> &Table<Self> {
        &state.nodes
    }

    fn conditions(node: &Resource<Node>, _state: &State) -> Vec<Condition> {
        let since = node.updated_at;
        let connected = node.status.connected;
        let reason = if connected { "connected" } else { "disconnected" };
        let message = match &node.status.facts {
            Some(facts) if connected => {
                format!("It runs instances as {}.", facts.isolation)
            }
            _ => "It does not report.".to_owned(),
        };
        vec![Condition::new(ConditionKind::Ready, connected, reason, message, since)]
    }

    fn difference(node: &Resource<Node>, _state: &State) -> Option<String> {
        (!node.status.connected).then(|| "it is not connected".to_owned())
    }
}
