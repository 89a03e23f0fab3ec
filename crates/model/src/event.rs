//! Events: what has happened, in the only order there is.
//!
//! [`Recorded`] is one entry of the log: an event with who caused it and when.
//! Every change to the state is an event; heartbeats, metrics and log lines are
//! not. The `type` of an event is a contract and never changes its meaning.

use serde::{Deserialize, Serialize};

use crate::state::{Change, State};
use crate::{AnyId, Timestamp};
use crate::{app, deploy, endpoint, env, instance, network, node, org, project, release};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub at: Timestamp,
    pub actor: Actor,
    /// The request that led here, for tracing; the same on every event of one
    /// command.
    pub request_id: String,
    #[serde(flatten)]
    pub event: Event,
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "id")]
pub enum Actor {
    /// A person or a machine acting through the API, by token name.
    Token(String),
    /// A reconciler, by name.
    System(String),
    /// A node or an edge, by name.
    Machine(String),
}

/// How an event changes the state.
pub trait Apply {
    /// Folds the event in. Must succeed: what could fail was decided before.
    fn apply(&self, state: &mut State, change: Change);
}

macro_rules! events {
    ($($name:literal => $variant:ident($payload:ty), $subject:expr;)*) => {
        /// Everything that can happen.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", content = "data")]
        pub enum Event {
            $(#[serde(rename = $name)] $variant($payload),)*
        }

        impl Event {
            /// The event's type as scripts see it, e.g. `deploy.finished`.
            pub fn name(&self) -> &'static str {
                match self { $(Event::$variant(_) => $name,)* }
            }

            /// The resource it is about; `None` for the installation itself.
            pub fn subject(&self) -> Option<AnyId> {
                match self {
                    $(Event::$variant(payload) => {
                        let subject: fn(&$payload) -> Option<AnyId> = $subject;
                        subject(payload)
                    })*
                }
            }

            pub(crate) fn apply(&self, state: &mut State, change: Change) {
                match self { $(Event::$variant(payload) => payload.apply(state, change),)* }
            }
        }
    };
}

events! {
    "installation.created" => InstallationCreated(InstallationCreated), |_| None;
    "org.created" => OrgCreated(org::Created), |e| Some(e.id.any());
    "project.created" => ProjectCreated(project::Created), |e| Some(e.id.any());
    "app.created" => AppCreated(app::Created), |e| Some(e.id.any());
    "env.created" => EnvCreated(env::Created), |e| Some(e.id.any());
    "env.scaled" => EnvScaled(env::Scaled), |e| Some(e.id.any());
    "release.created" => ReleaseCreated(release::Created), |e| Some(e.id.any());
    "deploy.created" => DeployCreated(deploy::Created), |e| Some(e.id.any());
    "deploy.finished" => DeployFinished(deploy::Finished), |e| Some(e.id.any());
    "instance.allocated" => InstanceAllocated(instance::Allocated), |e| Some(e.id.any());
    "instance.desired_changed" => InstanceDesiredChanged(instance::DesiredChanged), |e| Some(e.id.any());
    "instance.status_changed" => InstanceStatusChanged(instance::StatusChanged), |e| Some(e.id.any());
    "instance.drained" => InstanceDrained(instance::Drained), |e| Some(e.id.any());
    "instance.removed" => InstanceRemoved(instance::Removed), |e| Some(e.id.any());
    "endpoint.created" => EndpointCreated(endpoint::Created), |e| Some(e.id.any());
    "endpoint.updated" => EndpointUpdated(endpoint::Updated), |e| Some(e.id.any());
    "endpoint.deleted" => EndpointDeleted(endpoint::Deleted), |e| Some(e.id.any());
    "endpoint.status_changed" => EndpointStatusChanged(endpoint::StatusChanged), |e| Some(e.id.any());
    "node.enrolled" => NodeEnrolled(node::Enrolled), |e| Some(e.id.any());
    "node.status_changed" => NodeStatusChanged(node::StatusChanged), |e| Some(e.id.any());
}

/// Event: the log's first entry; fixes the installation's address block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallationCreated {
    /// A /48 (see [`network`]).
    pub network: std::net::Ipv6Addr,
}

impl InstallationCreated {
    /// The first event of a fresh installation.
    pub fn fresh(entropy: u128) -> InstallationCreated {
        InstallationCreated {
            network: network::unique_local(entropy),
        }
    }
}

impl Apply for InstallationCreated {
    fn apply(&self, state: &mut State, _change: Change) {
        state.network = self.network;
    }
}
