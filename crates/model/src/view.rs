//! Views: a resource as people and scripts see it, the same for every kind.
//!
//! One generic mechanism gives each kind list, describe and wait: [`view`] and
//! [`list`] read any kind through [`Described`], which says the few things that
//! differ.

use serde::{Deserialize, Serialize, Serializer, ser};
use serde_json::Value;

use crate::condition::{Condition, ConditionKind, Standing};
use crate::quota;
use crate::reference::{self, Scope};
use crate::tally::Need;
use crate::{
    AnyId, App, Bundle, Certificate, Deploy, Domain, Edge, Endpoint, Env, Instance, Kind, Member,
    Name, Node, Noun, Org, Project, Reason, Release, Resource, Snapshot, State, Table, Timestamp,
    Token, Tunnel, User, Volume, deploy, destroy, env, instance,
};

mod bundle;
mod certificate;
mod domain;
mod edge;
mod node;
mod snapshot;
mod tunnel;
mod volume;

/// A resource as the API returns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
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
        vec![resource.standing.condition(ConditionKind::Ready, "exists", "It exists.")]
    }

    fn difference(_resource: &Resource<Self>, _state: &State) -> Option<String> {
        None
    }
}

/// Calls a generic function with the noun type of a run-time kind.
macro_rules! for_kind {
    ($kind:expr, $function:ident $(<$more:ident>)? ($($argument:expr),*)) => {
        match $kind {
            Kind::Org => $function::<Org $(, $more)?>($($argument),*),
            Kind::Project => $function::<Project $(, $more)?>($($argument),*),
            Kind::App => $function::<App $(, $more)?>($($argument),*),
            Kind::Env => $function::<Env $(, $more)?>($($argument),*),
            Kind::Release => $function::<Release $(, $more)?>($($argument),*),
            Kind::Deploy => $function::<Deploy $(, $more)?>($($argument),*),
            Kind::Instance => $function::<Instance $(, $more)?>($($argument),*),
            Kind::Endpoint => $function::<Endpoint $(, $more)?>($($argument),*),
            Kind::Node => $function::<Node $(, $more)?>($($argument),*),
            Kind::User => $function::<User $(, $more)?>($($argument),*),
            Kind::Member => $function::<Member $(, $more)?>($($argument),*),
            Kind::Token => $function::<Token $(, $more)?>($($argument),*),
            Kind::Bundle => $function::<Bundle $(, $more)?>($($argument),*),
            Kind::Volume => $function::<Volume $(, $more)?>($($argument),*),
            Kind::Snapshot => $function::<Snapshot $(, $more)?>($($argument),*),
            Kind::Certificate => $function::<Certificate $(, $more)?>($($argument),*),
            Kind::Edge => $function::<Edge $(, $more)?>($($argument),*),
            Kind::Domain => $function::<Domain $(, $more)?>($($argument),*),
            Kind::Tunnel => $function::<Tunnel $(, $more)?>($($argument),*),
        }
    };
}

/// The view of one resource.
pub fn view(state: &State, id: AnyId) -> Option<ResourceView> {
    for_kind!(id.kind(), view_of(state, id))
}

/// Resources of a kind in id order, from after `after`, at most `limit`, inside
/// `within` and everything under it when given, of those that are `visible`.
pub fn list<'s>(
    state: &'s State,
    kind: Kind,
    within: Option<AnyId>,
    after: Option<AnyId>,
    limit: usize,
    visible: &dyn Fn(AnyId) -> bool,
) -> Vec<Shown<'s>> {
    let ids = for_kind!(kind, list_of(state, within, after, limit, visible));
    ids.into_iter().map(|id| Shown { state, id }).collect()
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
) -> Vec<AnyId> {
    N::table(state)
        .after(after.and_then(AnyId::typed))
        .map(|resource| resource.id.any())
        .filter(|id| within.is_none_or(|within| is_within(state, *id, within)))
        .filter(|id| visible(*id))
        .take(limit)
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
    let view = Written::of(state, resource);
    ResourceView {
        kind: view.kind,
        id: view.id,
        name: view.name.clone(),
        path: view.path,
        created_at: view.created_at,
        updated_at: view.updated_at,
        version: view.version,
        desired: serde_json::to_value(view.desired).unwrap_or(Value::Null),
        current: serde_json::to_value(view.current).unwrap_or(Value::Null),
        conditions: view.conditions,
        difference: view.difference,
    }
}

/// What a [`ResourceView`] says, borrowed where it can be. Reads of the API are
/// written from this: the detour over [`Value`] costs more than all the rest.
#[derive(Serialize)]
#[serde(bound = "")]
struct Written<'s, N: Described> {
    kind: Kind,
    id: AnyId,
    name: &'s Name,
    path: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: u64,
    desired: &'s N,
    current: &'s N::Status,
    conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<String>,
}

impl<'s, N: Described> Written<'s, N> {
    fn of(state: &'s State, resource: &'s Resource<N>) -> Written<'s, N> {
        let id = resource.id.any();
        let (conditions, difference) = match destroy::shown(state, id) {
            Some((conditions, difference)) => (conditions, Some(difference)),
            None => (N::conditions(resource, state), N::difference(resource, state)),
        };
        Written {
            kind: N::KIND,
            id,
            name: &resource.name,
            path: reference::path(state, id),
            created_at: resource.created_at,
            updated_at: resource.updated_at,
            version: resource.version,
            desired: &resource.spec,
            current: &resource.status,
            conditions,
            difference,
        }
    }
}

/// A resource on its way out, written as the [`ResourceView`] of it would be.
#[derive(Clone, Copy)]
pub struct Shown<'s> {
    state: &'s State,
    id: AnyId,
}

impl Shown<'_> {
    /// Which resource it is.
    pub fn id(&self) -> AnyId {
        self.id
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        for_kind!(self.id.kind(), serialize<S>(self.state, self.id, serializer))
    }
}

fn serialize<N: Described, S: Serializer>(
    state: &State,
    id: AnyId,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let resource = id.typed().and_then(|id| N::table(state).get(id));
    let resource = resource.ok_or_else(|| ser::Error::custom("there is no such resource"))?;
    Written::of(state, resource).serialize(serializer)
}

/// One resource, to be written.
pub fn shown(state: &State, id: AnyId) -> Option<Shown<'_>> {
    reference::exists(state, id).then_some(Shown { state, id })
}

/// What is desired of a resource and what is current.
pub fn sides(state: &State, id: AnyId) -> Option<(Value, Value)> {
    for_kind!(id.kind(), sides_of(state, id))
}

fn sides_of<N: Described>(state: &State, id: AnyId) -> Option<(Value, Value)> {
    let resource = N::table(state).get(id.typed()?)?;
    let desired = serde_json::to_value(&resource.spec).unwrap_or(Value::Null);
    Some((desired, serde_json::to_value(&resource.status).unwrap_or(Value::Null)))
}

/// The three facts of what is brought from one state to another, where one reason
/// says it all: it is why something holds, and what does not hold is as it should
/// be.
fn three(standing: &Standing, reason: &str, message: &str) -> Vec<Condition> {
    let facts = standing.facts();
    let why = |holds: bool, kind, otherwise: &str| match holds {
        true => standing.condition(kind, reason, message),
        false => standing.condition(kind, otherwise, ""),
    };
    vec![
        standing.condition(ConditionKind::Ready, reason, message),
        why(facts.reconciling, ConditionKind::Reconciling, "settled"),
        why(facts.degraded, ConditionKind::Degraded, "as_desired"),
    ]
}

fn sentence(clause: String) -> String {
    let mut letters = clause.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
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

    /// An app stands as its worst env does.
    fn conditions(app: &Resource<App>, state: &State) -> Vec<Condition> {
        let Some(env) = worst_env(app, state) else {
            let (kind, message) = (ConditionKind::Ready, "Nothing has been deployed.");
            return vec![Condition::new(kind, false, "no_env", message, app.created_at)];
        };
        let mut conditions = Env::conditions(env, state);
        if env.standing.facts().ready {
            // All are: since the last of them became so.
            let all = state.envs.children(app.id.any()).map(|env| ready_since(env, state));
            if let (Some(ready), Some(since)) = (conditions.first_mut(), all.max()) {
                ready.since = since;
            }
        }
        conditions
    }

    fn difference(app: &Resource<App>, state: &State) -> Option<String> {
        let env = worst_env(app, state)?;
        Env::difference(env, state).map(|why| format!("{}: {why}", env.name))
    }
}

fn ready_since(env: &Resource<Env>, state: &State) -> Timestamp {
    Env::conditions(env, state).first().map_or(env.created_at, |ready| ready.since)
}

/// The first env that is not ready, else the first that is less than it should
/// be, else the first.
fn worst_env<'s>(app: &Resource<App>, state: &'s State) -> Option<&'s Resource<Env>> {
    state.envs.children(app.id.any()).min_by_key(|env| {
        let facts = env.standing.facts();
        (facts.ready, !facts.degraded)
    })
}

impl Described for Env {
    fn table(state: &State) -> &Table<Self> {
        &state.envs
    }

    fn conditions(env: &Resource<Env>, state: &State) -> Vec<Condition> {
        let counts = env::counts(state, env);
        let facts = env.standing.facts();
        let rolling = env.spec.rolling.map(|deploy| reference::path(state, deploy.any()));
        let count = format!("{} of {} instances are ready.", counts.ready, counts.wanted);
        let why = Env::difference(env, state).unwrap_or_default();
        let (reason, message) = match env.status.release {
            None => ("no_release", "No release has been deployed successfully.".to_owned()),
            Some(_) if facts.ready => ("all_ready", count.clone()),
            Some(_) if counts.is_short => match volume::without_home(env, state) {
                Some(why) => (Reason::VolumeHomeNodeOffline.code(), sentence(why)),
                None => ("not_all_ready", count.clone()),
            },
            Some(_) => ("deploy_rolling", count.clone()),
        };
        let ready = env.standing.condition(ConditionKind::Ready, reason, message);
        let short = short_of(env, state).filter(|_| facts.reconciling).map(|dimension| {
            let limit = dimension.format(state.limits.of(Some(env.spec.org), dimension).0);
            (
                "quota_exceeded",
                format!("The org's limit for {dimension} is {limit}, and it is reached."),
            )
        });
        let (reason, message) = short.unwrap_or(match (rolling, facts.reconciling) {
            (Some(deploy), _) => ("deploy_rolling", format!("{deploy} is rolling.")),
            (None, true) => ("instances_changing", count),
            (None, false) => ("settled", "Nothing is on its way.".to_owned()),
        });
        let reconciling = env.standing.condition(ConditionKind::Reconciling, reason, message);
        let (reason, message) = if facts.degraded {
            ("desired_not_serving", why)
        } else {
            ("as_desired", "It is no worse than asked for.".to_owned())
        };
        let degraded = env.standing.condition(ConditionKind::Degraded, reason, message);
        vec![ready, reconciling, degraded]
    }

    fn difference(env: &Resource<Env>, state: &State) -> Option<String> {
        let wanted = env.spec.release?;
        if Some(wanted) == env.status.release && env.spec.rolling.is_none() {
            if let Some(lag) = bundle::lag(env, state) {
                return Some(lag);
            }
            let counts = env::counts(state, env);
            let differs = counts.is_short || counts.ready != counts.wanted;
            return differs
                .then(|| format!("{} of {} instances are ready", counts.ready, counts.wanted));
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

/// How a deploy replaces instances.
fn rolling_message(deploy: &Resource<Deploy>, state: &State) -> String {
    if deploy.awaits_release_command(state) {
        return match &deploy.status.release_command {
            Some(ran) => {
                format!("Nothing is replaced before the release command ({}) is over.", ran.name)
            }
            None => "Nothing is replaced before the release command has run.".to_owned(),
        };
    }
    let env = state.envs.get(deploy.spec.env);
    match env.and_then(|env| short_of(env, state)) {
        Some(dimension) => format!(
            "The org's quota of {dimension} has no room for one instance more, so each old one \
             goes before its successor comes."
        ),
        None => format!("Instances are being replaced.{}", volume::pauses(deploy)),
    }
}

/// The dimension of the quota that keeps an env's next instance from coming.
fn short_of(env: &Resource<Env>, state: &State) -> Option<quota::Dimension> {
    let rolling = env.spec.rolling.and_then(|deploy| state.deploys.get(deploy));
    let release = rolling.map(|deploy| deploy.spec.release).or(env.status.release);
    let processes = &state.releases.get(release?)?.spec.manifest.processes;
    let missing = processes.iter().filter(|(name, process)| {
        let wanted = env.spec.scale.get(*name).copied().unwrap_or(process.scaling.min);
        let running = state.instances.children(env.id.any()).filter(|instance| {
            instance.spec.process == **name && instance.spec.desired == instance::Desired::Running
        });
        running.count() < wanted as usize
    });
    missing
        .filter_map(|(_, process)| quota::blocking(state, env.spec.org, Need::of_one(process)))
        .next()
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

    fn conditions(deploy: &Resource<Deploy>, state: &State) -> Vec<Condition> {
        let (reason, message) = match deploy.status.phase {
            deploy::Phase::Succeeded => {
                ("succeeded", format!("It serves.{}", volume::pauses(deploy)))
            }
            deploy::Phase::Failed => (
                deploy.status.reason.map_or("workload_failed", Reason::code),
                deploy.status.message.clone().unwrap_or_default(),
            ),
            _ => ("rolling", rolling_message(deploy, state)),
        };
        three(&deploy.standing, reason, &message)
    }

    fn difference(deploy: &Resource<Deploy>, _state: &State) -> Option<String> {
        match deploy.status.phase {
            deploy::Phase::Succeeded => None,
            deploy::Phase::Failed => deploy.status.message.clone(),
            _ => Some("instances are being replaced".to_owned()),
        }
    }
}

impl Described for Instance {
    fn table(state: &State) -> &Table<Self> {
        &state.instances
    }

    fn conditions(instance: &Resource<Instance>, state: &State) -> Vec<Condition> {
        let observed = &instance.status.observed;
        let phase = serde_json::to_value(observed.phase).unwrap_or_default();
        let reason = match observed.reason {
            Some(reason) => reason.code(),
            None => phase.as_str().unwrap_or_default(),
        };
        let message = observed.message.clone();
        let message = message.or_else(|| Instance::difference(instance, state).map(sentence));
        three(&instance.standing, reason, &message.unwrap_or_else(|| "It serves.".to_owned()))
    }

    fn difference(instance: &Resource<Instance>, state: &State) -> Option<String> {
        if let Some(node) = state.nodes.get(instance.spec.node).filter(|it| !it.status.connected) {
            return Some(format!("its node {} does not report", node.name));
        }
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
        let reachable = !endpoint.status.seen.reachable.is_empty();
        let (reason, message) = match &endpoint.status.seen.problem {
            Some(problem) => ("limited", problem.clone()),
            None if reachable => ("reachable", endpoint.status.seen.reachable.join(", ")),
            None => ("pending", "No edge has taken it up yet.".to_owned()),
        };
        three(&endpoint.standing, reason, &message)
    }

    fn difference(endpoint: &Resource<Endpoint>, _state: &State) -> Option<String> {
        let pending = endpoint.status.seen.reachable.is_empty();
        let pending = pending.then(|| "no edge has taken it up yet".to_owned());
        endpoint.status.seen.problem.clone().or(pending)
    }
}

impl Described for User {
    fn table(state: &State) -> &Table<Self> {
        &state.users
    }

    fn conditions(user: &Resource<User>, _state: &State) -> Vec<Condition> {
        let since = user.status.password_set_at;
        let (reason, message) = match since {
            Some(_) => ("can_log_in", "They have a password."),
            None => ("no_password", "They have not chosen a password yet."),
        };
        let ready = since.is_some();
        let since = since.unwrap_or(user.created_at);
        vec![Condition::new(ConditionKind::Ready, ready, reason, message, since)]
    }

    fn difference(user: &Resource<User>, _state: &State) -> Option<String> {
        let waits = user.status.password_set_at.is_none();
        waits.then(|| "no password has been chosen yet".to_owned())
    }
}

impl Described for Member {
    fn table(state: &State) -> &Table<Self> {
        &state.members
    }
}

impl Described for Token {
    fn table(state: &State) -> &Table<Self> {
        &state.tokens
    }
}
