//! Commands: everything that may be asked of the control plane.
//!
//! People, reconcilers, nodes and edges all speak through this one enum; what
//! comes of a command is decided in `control`, nowhere else.

use serde::{Deserialize, Serialize};

use crate::{AnyId, Certificate, Domain, Env, Id, Instance, Kind, Member, Token, User};
use crate::{
    acme, address, app, bundle, certificate, config, deploy, destroy, domain, edge, endpoint, env,
    installation, instance, member, node, org, policy, project, quota, registry, release, snapshot,
    token, tunnel, user, volume,
};

/// A wish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "operation", content = "arguments", rename_all = "snake_case")]
pub enum Command {
    CreateInstallation,
    CreateOrg(org::Create),
    CreateProject(project::Create),
    CreateApp(app::Create),
    CreateEnv(env::Create),
    Destroy(destroy::Destroy),
    /// Note that nothing is left in what is being destroyed (a reconciler's).
    FinishDestroy(AnyId),
    SetQuota(quota::Set),
    SetRegistryLogin(registry::SetLogin),
    RemoveRegistryLogin(registry::RemoveLogin),
    SetReleasePolicy(policy::SetPolicy),
    Deploy(Box<deploy::Request>),
    CreateRelease(Box<release::Create>),
    Promote(deploy::Promote),
    Rollback(deploy::Rollback),
    Scale(env::Scale),
    SetIpv4(address::SetIpv4),
    Configure(Box<config::Configure>),
    SetSecrets(Box<bundle::Set>),
    StepSecrets(bundle::Step),
    /// Look at an env and take the next steps towards what is desired of it (a
    /// reconciler's). What they are is decided when it is carried out, not when
    /// it was asked for: the env may have changed in between.
    Reconcile(Id<Env>),
    FinishDeploy(deploy::Finish),
    AllocateInstance(instance::Allocate),
    SetInstanceDesired(instance::SetDesired),
    ObserveInstance(instance::Observe),
    MarkDrained(instance::MarkDrained),
    SetInstanceRouted(instance::SetRouted),
    ForgetInstance(Id<Instance>),
    ExposeEndpoint(Box<endpoint::Expose>),
    UnexposeEndpoint(endpoint::Unexpose),
    ObserveEndpoint(endpoint::Observe),
    ConnectNode(node::Connect),
    DisconnectNode(node::Disconnect),
    ConnectEdge(edge::Connect),
    DisconnectEdge(edge::Disconnect),
    SetNodeAvailability(node::SetAvailability),
    ObserveNode(node::Observe),
    CreateVolume(volume::Create),
    ResizeVolume(volume::Resize),
    SetVolumeBackups(volume::SetBackups),
    ObserveVolume(volume::Observe),
    CreateSnapshot(snapshot::Create),
    ObserveSnapshot(snapshot::Observe),
    BackupRemoved(snapshot::BackupRemoved),
    SetCertificate(Box<certificate::Set>),
    /// Note that another part of a certificate's life has begun (a reconciler's).
    AgeCertificate(Id<Certificate>),
    SetAuthority(Box<certificate::SetAuthority>),
    /// The server's own, while it has one issued.
    AskForCertificate(acme::Ask),
    OfferChallenges(acme::Offer),
    ObserveChallenges(acme::Observe),
    FailOrder(acme::Fail),
    IssueCertificate(Box<acme::Issue>),
    AddDomain(domain::Add),
    ObserveDomain(domain::Observe),
    /// Take an operator's word for a domain.
    VouchForDomain(Id<Domain>),
    Settle(installation::Settle),
    ChangeTunnel(Box<tunnel::Ask>),
    CreateUser(user::Create),
    SetUserOperator(user::SetOperator),
    ChangeUserPassword(Id<User>),
    RemoveUser(Id<User>),
    SetMember(member::Set),
    RemoveMember(Id<Member>),
    CreateToken(token::Create),
    RevokeToken(Id<Token>),
    /// Note that a token is in use (the server's own).
    NoteTokenUse(Id<Token>),
}

impl Command {
    /// The operation's name, as receipts show it.
    pub fn operation(&self) -> &'static str {
        match self {
            Command::CreateInstallation => "create_installation",
            Command::CreateOrg(_) => "create_org",
            Command::CreateProject(_) => "create_project",
            Command::CreateApp(_) => "create_app",
            Command::CreateEnv(_) => "create_env",
            Command::Destroy(it) => destroy_operation(it.target.kind()),
            Command::FinishDestroy(_) => "finish_destroy",
            Command::SetQuota(_) => "set_quota",
            Command::SetRegistryLogin(_) => "set_registry_login",
            Command::RemoveRegistryLogin(_) => "remove_registry_login",
            Command::SetReleasePolicy(_) => "set_release_policy",
            Command::Deploy(_) => "deploy",
            Command::CreateRelease(_) => "create_release",
            Command::Promote(_) => "promote",
            Command::Rollback(_) => "rollback",
            Command::Scale(_) => "scale",
            Command::SetIpv4(it) => it.operation(),
            Command::Configure(it) => it.operation(),
            Command::SetSecrets(it) => it.operation(),
            Command::StepSecrets(it) => it.operation(),
            Command::Reconcile(_) => "reconcile",
            Command::FinishDeploy(_) => "finish_deploy",
            Command::AllocateInstance(_) => "allocate_instance",
            Command::SetInstanceDesired(_) => "set_instance_desired",
            Command::ObserveInstance(_) => "observe_instance",
            Command::MarkDrained(_) => "mark_drained",
            Command::SetInstanceRouted(_) => "set_instance_routed",
            Command::ForgetInstance(_) => "forget_instance",
            Command::ExposeEndpoint(it) => it.operation(),
            Command::UnexposeEndpoint(_) => "unexpose_endpoint",
            Command::ObserveEndpoint(_) => "observe_endpoint",
            Command::ConnectNode(_) => "connect_node",
            Command::DisconnectNode(_) => "disconnect_node",
            Command::ConnectEdge(_) => "connect_edge",
            Command::DisconnectEdge(_) => "disconnect_edge",
            Command::SetNodeAvailability(_) => "set_node_availability",
            Command::ObserveNode(_) => "observe_node",
            Command::CreateVolume(_) => "create_volume",
            Command::ResizeVolume(_) => "resize_volume",
            Command::SetVolumeBackups(_) => "set_volume_backups",
            Command::ObserveVolume(_) => "observe_volume",
            Command::CreateSnapshot(_) => "create_snapshot",
            Command::ObserveSnapshot(_) => "observe_snapshot",
            Command::BackupRemoved(_) => "backup_removed",
            Command::SetCertificate(_) => "set_certificate",
            Command::AgeCertificate(_) => "age_certificate",
            Command::SetAuthority(_) => "set_authority",
            Command::AskForCertificate(_) => "ask_for_certificate",
            Command::OfferChallenges(_) => "offer_challenges",
            Command::ObserveChallenges(_) => "observe_challenges",
            Command::FailOrder(_) => "fail_order",
            Command::IssueCertificate(_) => "issue_certificate",
            Command::AddDomain(_) => "add_domain",
            Command::ObserveDomain(_) => "observe_domain",
            Command::VouchForDomain(_) => "vouch_for_domain",
            Command::Settle(it) => it.operation(),
            Command::ChangeTunnel(it) => it.operation(),
            Command::CreateUser(_) => "create_user",
            Command::SetUserOperator(_) => "set_user_operator",
            Command::ChangeUserPassword(_) => "change_user_password",
            Command::RemoveUser(_) => "remove_user",
            Command::SetMember(_) => "set_member",
            Command::RemoveMember(_) => "remove_member",
            Command::CreateToken(_) => "create_token",
            Command::RevokeToken(_) => "revoke_token",
            Command::NoteTokenUse(_) => "note_token_use",
        }
    }
}

/// The operation by which something of a kind is destroyed.
fn destroy_operation(kind: Kind) -> &'static str {
    match kind {
        Kind::Org => "destroy_org",
        Kind::Project => "destroy_project",
        Kind::App => "destroy_app",
        Kind::Env => "destroy_env",
        Kind::Node => "destroy_node",
        Kind::Volume => "destroy_volume",
        Kind::Snapshot => "destroy_snapshot",
        Kind::Certificate => "destroy_certificate",
        Kind::Edge => "destroy_edge",
        Kind::Domain => "destroy_domain",
        Kind::Tunnel => "destroy_tunnel",
        _ => "destroy",
    }
}
