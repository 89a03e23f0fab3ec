//! Destruction: how an org, a project, an app, an env, a volume, a certificate,
//! a domain, a tunnel or a node goes away
//! again.
//!
//! ```text
//! exists ──► destroying (nothing new in it, instances drain) ──► destroyed
//! ```
//! Going takes time, because instances finish their open work and the nodes
//! have to say that they have stopped. Until then the resource stays, can be
//! looked at and waited for, and its name stays taken. What is gone is only
//! remembered by name, so that the log can still be read. A node is gone at once,
//! because only one that does not answer can be destroyed, and so is a tunnel, which
//! has nothing that would have to go first. Must not know why
//! something is destroyed.

use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConditionKind};
use crate::event::{Apply, Subject};
use crate::instance::Desired;
use crate::state::{Change, State};
use crate::{
    AnyId, Env, Id, Instance, Kind, Name, Node, Resource, Snapshot, Timestamp, Volume, address,
    domain, edge, reference, tunnel, view,
};

/// The kinds that can be destroyed by themselves, outermost first.
pub const KINDS: [Kind; 11] = [
    Kind::Org,
    Kind::Project,
    Kind::App,
    Kind::Env,
    Kind::Volume,
    Kind::Node,
    Kind::Snapshot,
    Kind::Certificate,
    Kind::Edge,
    Kind::Domain,
    Kind::Tunnel,
];

/// The reason of the conditions of what is being destroyed.
pub const REASON: &str = "destroying";

/// How many of what is still there a message names; the rest is counted.
const NAMED_MAX: usize = 3;

/// Command: have something destroyed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destroy {
    pub target: AnyId,
    /// Also when there are apps in it. An app is always destroyed with its envs.
    pub cascade: bool,
}

/// Which resource an event is about, in words that still tell when it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Of {
    pub id: AnyId,
    pub name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<AnyId>,
}

impl Of {
    /// The words for a resource that is there.
    pub fn new(state: &State, id: AnyId) -> Option<Of> {
        let (name, parent) = view::name_and_parent(state, id)?;
        Some(Of { id, name, parent })
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { id: self.id, place: self.parent.map(|parent| (parent, &self.name)) }
    }
}

/// Event: something is being destroyed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    #[serde(flatten)]
    pub of: Of,
}

/// Event: something is gone, and with it what cannot be without it: the deploys
/// of an env, the releases of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    #[serde(flatten)]
    pub of: Of,
}

/// What is remembered of something that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    pub name: Name,
    pub parent: Option<AnyId>,
    pub at: Timestamp,
}

impl Apply for Begun {
    fn apply(&self, state: &mut State, change: Change) {
        state.destroying.insert(self.of.id, change.at);
    }
}

impl Apply for Finished {
    fn apply(&self, state: &mut State, change: Change) {
        let id = self.of.id;
        match id.kind() {
            Kind::Org => state.orgs.remove_any(id),
            Kind::Project => state.projects.remove_any(id),
            Kind::App => {
                state.releases.remove_children(id);
                state.apps.remove_any(id);
            }
            Kind::Env => {
                state.deploys.remove_children(id);
                state.bundles.remove_children(id);
                if let Some(env) = id.typed::<Env>() {
                    state.past.remove(&env);
                    address::forget(state, env, change.at);
                }
                state.envs.remove_any(id);
            }
            Kind::Snapshot => {
                if let Some(snapshot) = id.typed::<Snapshot>()
                    && let Some(node) = state.snapshots.get(snapshot).map(|it| it.spec.node)
                {
                    state.index.without_snapshot(node, snapshot);
                }
                state.snapshots.remove_any(id);
            }
            Kind::Volume => {
                if let Some(volume) = id.typed::<Volume>()
                    && let Some(node) = state.volumes.get(volume).and_then(|it| it.spec.node)
                {
                    state.index.without_volume(node, volume);
                }
                state.volumes.remove_any(id);
            }
            Kind::Certificate => state.certificates.remove_any(id),
            Kind::Domain => {
                if let Some(id) = id.typed() {
                    domain::forget(state, id);
                }
            }
            Kind::Edge => {
                state.edges.remove_any(id);
                if let Some(edge) = id.typed() {
                    edge::forget(state, edge, change);
                }
            }
            Kind::Tunnel => {
                if let Some(id) = id.typed() {
                    tunnel::forget(state, id);
                }
            }
            Kind::Node => {
                state.nodes.remove_any(id);
                if let Some(node) = id.typed() {
                    state.index.without_node(node);
                }
            }
            _ => {}
        }
        state.destroying.remove(&id);
        let Of { name, parent, .. } = self.of.clone();
        state.gone.insert(id, Gone { name, parent, at: change.at });
    }
}

impl State {
    /// Since when something is being destroyed.
    pub fn destroying_since(&self, id: AnyId) -> Option<Timestamp> {
        self.destroying.get(&id).copied()
    }
}

/// What is directly in something and has to go before it.
pub fn contents(state: &State, id: AnyId) -> Vec<AnyId> {
    match id.kind() {
        Kind::Org => {
            let projects = state.projects.children(id).map(|it| it.id.any());
            let volumes = state.volumes.children(id).map(|it| it.id.any());
            let snapshots = state.snapshots.children(id).map(|it| it.id.any());
            let certificates = state.certificates.children(id).map(|it| it.id.any());
            let domains = state.domains.children(id).map(|it| it.id.any());
            let tunnels = state.tunnels.children(id).map(|it| it.id.any());
            let owned = projects.chain(volumes).chain(snapshots);
            owned.chain(certificates).chain(domains).chain(tunnels).collect()
        }
        Kind::Project => state.apps.children(id).map(|it| it.id.any()).collect(),
        Kind::App => state.envs.children(id).map(|it| it.id.any()).collect(),
        Kind::Env => {
            let instances = state.instances.children(id).map(|it| it.id.any());
            instances.chain(state.endpoints.children(id).map(|it| it.id.any())).collect()
        }
        _ => Vec::new(),
    }
}

/// The conditions of what is being destroyed, and what is not yet as desired;
/// `None` when it is not.
pub(crate) fn shown(state: &State, id: AnyId) -> Option<(Vec<Condition>, String)> {
    let since = state.destroying_since(id)?;
    let message = remaining(state, id);
    let difference = format!("it is being destroyed: {message}");
    let conditions = vec![
        Condition::new(ConditionKind::Ready, false, REASON, "It is being destroyed.", since),
        Condition::new(ConditionKind::Destroying, true, REASON, message, since),
    ];
    Some((conditions, difference))
}

/// What has to go first, in a sentence.
fn remaining(state: &State, id: AnyId) -> String {
    if let Some(env) = id.typed::<Env>() {
        return remaining_instances(state, env);
    }
    if let Some(volume) = id.typed().and_then(|id| state.volumes.get(id)) {
        return remaining_data(state, volume);
    }
    if let Some(snapshot) = id.typed().and_then(|id| state.snapshots.get(id)) {
        return remaining_on(state, Some(snapshot.spec.node));
    }
    let contents = contents(state, id);
    let names = contents.iter().map(|id| reference::path(state, *id));
    match names_of(names, contents.len()) {
        Some(names) => format!("waiting for {names}"),
        None => "nothing is left in it".to_owned(),
    }
}

fn remaining_instances(state: &State, env: Id<Env>) -> String {
    let instances: Vec<&Resource<Instance>> = state.instances.children(env.any()).collect();
    let told = instances.iter().map(|instance| {
        let node = state.nodes.get(instance.spec.node);
        match (instance.spec.desired, node) {
            (_, Some(node)) if !node.status.connected => {
                format!(
                    "{} (node {} does not report: if it never will again, \
                     `helix nodes destroy {}`)",
                    instance.name, node.name, node.name
                )
            }
            (Desired::Draining, _) => format!("{} (finishing open work)", instance.name),
            _ => format!("{} (stopping)", instance.name),
        }
    });
    match names_of(told, instances.len()) {
        Some(names) => format!("waiting for {names}"),
        None => "nothing runs in it any more".to_owned(),
    }
}

fn remaining_data(state: &State, volume: &Resource<Volume>) -> String {
    if let Some(user) = state.index.user(volume.id) {
        return format!("waiting for {}, which has it", reference::path(state, user.any()));
    }
    remaining_on(state, volume.spec.node)
}

fn remaining_on(state: &State, node: Option<Id<Node>>) -> String {
    match node.and_then(|node| state.nodes.get(node)) {
        Some(node) if !node.status.connected => format!(
            "node {} does not report: if it never will again, `helix nodes destroy {}`",
            node.name, node.name
        ),
        Some(node) => format!("waiting for node {} to remove its data", node.name),
        None => "nothing is left of it".to_owned(),
    }
}

/// The first few names and how many more; `None` when there are none.
fn names_of(names: impl Iterator<Item = String>, count: usize) -> Option<String> {
    let first: Vec<String> = names.take(NAMED_MAX).collect();
    if first.is_empty() {
        return None;
    }
    let more = count - first.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("{}{more}", first.join(", ")))
}
