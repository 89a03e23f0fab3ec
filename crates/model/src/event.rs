//! Events: what has happened, in the only order there is.
//!
//! [`Recorded`] is one entry of the log: an event with who caused it and when.
//! Every change to the state is an event; heartbeats, metrics and log lines are
//! not. The `type` of an event is a contract and never changes its meaning.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::state::{Change, State};
use crate::{AnyId, Name, Timestamp};
use crate::{
    acme, address, app, bundle, certificate, deploy, destroy, domain, edge, endpoint, env,
    instance, member, network, node, org, policy, ports, project, quota, registry, release,
    snapshot, token, tunnel, user, volume,
};
use crate::{reference, view};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub at: Timestamp,
    pub actor: Actor,
    /// The request that led here, for tracing; the same on every event of one
    /// command.
    pub request_id: String,
    /// The address the request came from, when it came over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    #[serde(flatten)]
    pub event: Event,
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "type", content = "id")]
pub enum Actor {
    /// A person or a machine acting through the API, by token name.
    Token(String),
    /// A reconciler, by name.
    System(String),
    /// A node or an edge, by name.
    Machine(String),
    /// A user, by name, through any of their tokens.
    User(String),
}

impl Actor {
    /// The name alone.
    pub fn name(&self) -> &str {
        let (Actor::Token(name) | Actor::System(name) | Actor::Machine(name) | Actor::User(name)) =
            self;
        name
    }
}

/// What an event is about.
///
/// Kinds that come and go say where they belong in every event, so that the
/// log can be read, and narrowed to an env, after they are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'e> {
    pub id: AnyId,
    /// The parent and the name in it, of kinds that come and go.
    pub place: Option<(AnyId, &'e Name)>,
}

impl<'e> Subject<'e> {
    pub(crate) fn lasting(id: AnyId) -> Subject<'e> {
        Subject { id, place: None }
    }

    pub(crate) fn of(id: AnyId, parent: AnyId, name: &'e Name) -> Subject<'e> {
        Subject { id, place: Some((parent, name)) }
    }

    /// Whether it is the resource `ancestor` or somewhere under it.
    pub fn is_within(&self, state: &State, ancestor: AnyId) -> bool {
        let parent = self.place.map(|(parent, _)| parent);
        view::is_within(state, self.id, ancestor)
            || parent.is_some_and(|parent| view::is_within(state, parent, ancestor))
    }

    /// Its canonical path, also when it is gone.
    pub fn path(&self, state: &State) -> String {
        match self.place {
            Some((parent, name)) => reference::child_path(state, parent, self.id.kind(), name),
            None => reference::path(state, self.id),
        }
    }
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

            /// What it is about; `None` for the installation itself.
            pub fn subject(&self) -> Option<Subject<'_>> {
                match self {
                    $(Event::$variant(payload) => {
                        let subject: fn(&$payload) -> Option<Subject<'_>> = $subject;
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
    "org.created" => OrgCreated(org::Created), |e| Some(Subject::lasting(e.id.any()));
    "project.created" => ProjectCreated(project::Created), |e| Some(Subject::of(e.id.any(), e.org.any(), &e.name));
    "app.created" => AppCreated(app::Created), |e| Some(Subject::of(e.id.any(), e.project.any(), &e.name));
    "env.created" => EnvCreated(env::Created), |e| Some(Subject::of(e.id.any(), e.app.any(), &e.name));
    "env.scaled" => EnvScaled(env::Scaled), |e| Some(Subject::lasting(e.id.any()));
    "release.created" => ReleaseCreated(release::Created), |e| Some(Subject::of(e.id.any(), e.spec.app.any(), &e.name));
    "deploy.created" => DeployCreated(deploy::Created), |e| Some(Subject::of(e.id.any(), e.spec.env.any(), &e.name));
    "deploy.finished" => DeployFinished(deploy::Finished), |e| Some(e.subject());
    "instance.allocated" => InstanceAllocated(instance::Allocated), |e| Some(Subject::of(e.id.any(), e.spec.env.any(), &e.name));
    "instance.desired_changed" => InstanceDesiredChanged(instance::DesiredChanged), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "instance.status_changed" => InstanceStatusChanged(instance::StatusChanged), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "instance.drained" => InstanceDrained(instance::Drained), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "instance.routed_changed" => InstanceRoutedChanged(instance::RoutedChanged), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "instance.removed" => InstanceRemoved(instance::Removed), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "endpoint.created" => EndpointCreated(endpoint::Created), |e| Some(Subject::of(e.id.any(), e.spec.env.any(), &e.name));
    "endpoint.updated" => EndpointUpdated(endpoint::Updated), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "endpoint.deleted" => EndpointDeleted(endpoint::Deleted), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "endpoint.status_changed" => EndpointStatusChanged(endpoint::StatusChanged), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "org.destroying" => OrgDestroying(destroy::Begun), |e| Some(e.of.subject());
    "org.destroyed" => OrgDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "project.destroying" => ProjectDestroying(destroy::Begun), |e| Some(e.of.subject());
    "project.destroyed" => ProjectDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "app.destroying" => AppDestroying(destroy::Begun), |e| Some(e.of.subject());
    "app.destroyed" => AppDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "env.destroying" => EnvDestroying(destroy::Begun), |e| Some(e.of.subject());
    "env.ipv4_changed" => EnvIpv4Changed(address::Ipv4Changed), |e| Some(Subject::lasting(e.id.any()));
    "env.destroyed" => EnvDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "org.registry_set" => OrgRegistrySet(registry::LoginSet), |e| Some(Subject::lasting(e.org.any()));
    "org.registry_removed" => OrgRegistryRemoved(registry::LoginRemoved), |e| Some(Subject::lasting(e.org.any()));
    "org.policy_set" => OrgPolicySet(policy::PolicySet), |e| Some(Subject::lasting(e.org.any()));
    "quota.set" => QuotaSet(quota::QuotaSet), |e| e.org.map(|org| Subject::lasting(org.any()));
    "user.created" => UserCreated(user::Created), |e| Some(Subject::lasting(e.id.any()));
    "user.operator_changed" => UserOperatorChanged(user::OperatorChanged), |e| Some(Subject::lasting(e.id.any()));
    "user.password_changed" => UserPasswordChanged(user::PasswordChanged), |e| Some(Subject::lasting(e.id.any()));
    "user.removed" => UserRemoved(user::Removed), |e| Some(Subject::lasting(e.id.any()));
    "member.added" => MemberAdded(member::Added), |e| Some(Subject::of(e.id.any(), e.spec.org.any(), &e.name));
    "member.role_changed" => MemberRoleChanged(member::RoleChanged), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "member.removed" => MemberRemoved(member::Removed), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "token.created" => TokenCreated(token::Created), |e| Some(Subject::of(e.id.any(), e.spec.owner.any(), &e.name));
    "token.revoked" => TokenRevoked(token::Revoked), |e| Some(e.of.subject());
    "token.used" => TokenUsed(token::Used), |e| Some(e.of.subject());
    "token.forgotten" => TokenForgotten(token::Forgotten), |e| Some(e.of.subject());
    "bundle.created" => BundleCreated(bundle::Created), |e| Some(Subject::of(e.id.any(), e.env.any(), &e.name));
    "bundle.version_added" => BundleVersionAdded(bundle::VersionAdded), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "bundle.applied" => BundleApplied(bundle::Applied), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "bundle.discarded" => BundleDiscarded(bundle::Discarded), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "bundle.confirmed_none" => BundleConfirmedNone(bundle::ConfirmedNone), |e| Some(Subject::of(e.of.id.any(), e.of.env.any(), &e.of.name));
    "volume.created" => VolumeCreated(volume::Created), |e| Some(Subject::of(e.id.any(), e.spec.org.any(), &e.name));
    "volume.placed" => VolumePlaced(volume::Placed), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "volume.backups_set" => VolumeBackupsSet(volume::BackupsSet), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "volume.resized" => VolumeResized(volume::Resized), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "volume.attached" => VolumeAttached(volume::Attached), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "volume.detached" => VolumeDetached(volume::Detached), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "volume.status_changed" => VolumeStatusChanged(volume::StatusChanged), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "volume.destroying" => VolumeDestroying(destroy::Begun), |e| Some(e.of.subject());
    "volume.destroyed" => VolumeDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "snapshot.created" => SnapshotCreated(snapshot::Created), |e| Some(Subject::of(e.id.any(), e.spec.org.any(), &e.name));
    "snapshot.status_changed" => SnapshotStatusChanged(snapshot::StatusChanged), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "snapshot.destroying" => SnapshotDestroying(destroy::Begun), |e| Some(e.of.subject());
    "snapshot.destroyed" => SnapshotDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "certificate.created" => CertificateCreated(certificate::Created), |e| Some(Subject::of(e.id.any(), e.spec.org.any(), &e.name));
    "certificate.replaced" => CertificateReplaced(certificate::Replaced), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "certificate.status_changed" => CertificateStatusChanged(certificate::StatusChanged), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "certificate.challenged" => CertificateChallenged(acme::Challenged), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "certificate.answered" => CertificateAnswered(acme::Answered), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "certificate.order_failed" => CertificateOrderFailed(acme::Failed), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "certificate.destroying" => CertificateDestroying(destroy::Begun), |e| Some(e.of.subject());
    "certificate.destroyed" => CertificateDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "domain.created" => DomainCreated(domain::Created), |e| Some(Subject::of(e.id.any(), e.spec.org.any(), &e.name));
    "domain.proven" => DomainProven(domain::Proven), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "domain.status_changed" => DomainStatusChanged(domain::StatusChanged), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "domain.destroying" => DomainDestroying(destroy::Begun), |e| Some(e.of.subject());
    "domain.destroyed" => DomainDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "tunnel.created" => TunnelCreated(tunnel::Created), |e| Some(Subject::of(e.id.any(), e.spec.org.any(), &e.name));
    "tunnel.updated" => TunnelUpdated(tunnel::Updated), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "tunnel.kept" => TunnelKept(tunnel::Kept), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "tunnel.status_changed" => TunnelStatusChanged(tunnel::StatusChanged), |e| Some(Subject::of(e.of.id.any(), e.of.org.any(), &e.of.name));
    "tunnel.destroyed" => TunnelDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "installation.tunnel_ports_set" => TunnelPortsSet(tunnel::PortsSet), |_| None;
    "installation.anonymous_tunnels_set" => AnonymousTunnelsSet(tunnel::AnonymousSet), |_| None;
    "installation.tunnel_key_set" => TunnelKeySet(tunnel::KeySet), |_| None;
    "installation.denied_ports_set" => DeniedPortsSet(ports::Denied), |_| None;
    "installation.app_domain_set" => AppDomainSet(domain::AppSet), |_| None;
    "installation.authority_set" => AuthoritySet(certificate::AuthoritySet), |_| None;
    "node.enrolled" => NodeEnrolled(node::Enrolled), |e| Some(Subject::lasting(e.id.any()));
    "node.availability_changed" => NodeAvailabilityChanged(node::AvailabilityChanged), |e| Some(Subject::lasting(e.id.any()));
    "node.destroyed" => NodeDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "node.status_changed" => NodeStatusChanged(node::StatusChanged), |e| Some(Subject::lasting(e.id.any()));
    "edge.enrolled" => EdgeEnrolled(edge::Enrolled), |e| Some(Subject::lasting(e.id.any()));
    "edge.destroyed" => EdgeDestroyed(destroy::Finished), |e| Some(e.of.subject());
    "edge.status_changed" => EdgeStatusChanged(edge::StatusChanged), |e| Some(Subject::lasting(e.id.any()));
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
        InstallationCreated { network: network::unique_local(entropy) }
    }
}

impl Apply for InstallationCreated {
    fn apply(&self, state: &mut State, _change: Change) {
        state.network = self.network;
    }
}
