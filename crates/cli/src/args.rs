//! What can be typed: the global flags and the list of commands.
//!
//! Each command's own arguments are beside its code in `commands`.

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    admin, audit, auth, builds, certificates, completion, deploy, describe, doctor, domains, edges,
    endpoints, env, events, exec, explain, kinds, logs, members, nodes, plan, policy, quotas,
    ready, registries, releases, replicas, roles, rollback, scale, secrets, snapshots, status,
    tokens, top, tunnel, tunnels, up, usage, users, validate, version, volumes, wait,
};

/// Run apps on your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "helix",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    after_help = "Examples:\n  helix up examples/hello      start the platform here and run a folder\n  helix status                 what runs, and what should\n  helix deploy                 run the folder you are in\n  helix explain oom_killed     what a code means\n\nSettings: flag > HELIX_* variable > helix.toml here > saved context.\nVariables: HELIX_URL HELIX_TOKEN HELIX_ORG HELIX_PROJECT HELIX_APP HELIX_ENV HELIX_DATA_DIR HELIX_LOG"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Org to work in
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) org: Option<String>,
    /// Project to work in
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// App to work on
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Env to work on
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Print one JSON document (streams: one per line) and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Address of the API
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Answer every question with yes
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Never ask; fail instead
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Say more about what goes wrong
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// Verbs for actions, plural nouns for kinds.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Box<up::UpArgs>),
    Server(roles::ServerArgs),
    Node(roles::NodeArgs),
    Edge(roles::EdgeArgs),
    Deploy(deploy::DeployArgs),
    Diff(plan::DiffArgs),
    Apply(plan::ApplyArgs),
    Rollback(rollback::RollbackArgs),
    Scale(scale::ScaleArgs),
    Resize(env::ResizeArgs),
    Env(env::EnvArgs),
    Status(status::StatusArgs),
    Logs(logs::LogsArgs),
    Top(top::TopArgs),
    Http(tunnel::HttpArgs),
    Tls(tunnel::TlsArgs),
    Tcp(tunnel::TcpArgs),
    Udp(tunnel::UdpArgs),
    Events(events::EventsArgs),
    Exec(exec::ExecArgs),
    Describe(describe::DescribeArgs),
    Wait(wait::WaitArgs),
    Ready(ready::ReadyArgs),
    /// Apps: list, describe, events, create, destroy
    Apps(kinds::OwnedArgs),
    /// Envs: list, describe, events, create, destroy
    Envs(kinds::OwnedArgs),
    /// Releases: list, describe, events, diff, promote
    Releases(releases::ReleasesArgs),
    /// Deploys: list, describe, events
    Deploys(kinds::KindArgs),
    /// Instances: list, describe, events
    Instances(kinds::KindArgs),
    /// Endpoints: list, describe, events
    Endpoints(endpoints::EndpointsArgs),
    /// Secrets as resources, one bundle per env: list, describe, events
    Bundles(kinds::KindArgs),
    /// Projects: list, describe, events, create, destroy
    Projects(kinds::OwnedArgs),
    /// Orgs: list, describe, events, create, destroy
    Orgs(kinds::OwnedArgs),
    /// Nodes: list, describe, events, cordon, uncordon, drain, destroy
    Nodes(nodes::NodesArgs),
    /// Edges: list, describe, events, destroy
    Edges(edges::EdgesArgs),
    /// Volumes: list, describe, events, create, resize, destroy
    Volumes(volumes::VolumesArgs),
    /// Snapshots of volumes: list, describe, events, create, destroy
    Snapshots(snapshots::SnapshotsArgs),
    /// Certificates of hosts: list, describe, events, add, trust, destroy
    Certificates(certificates::CertificatesArgs),
    /// DNS names of orgs: list, describe, events, add, verify, vouch, destroy
    Domains(domains::DomainsArgs),
    /// Public names of programs elsewhere: list, describe, events, reserve, disable,
    /// enable, rotate, delete
    Tunnels(tunnels::TunnelsArgs),
    /// The record of what happened: list, export, verify
    Audit(audit::AuditArgs),
    /// The installation as a whole: verify-state, export, import, keys, retention
    Admin(admin::AdminArgs),
    Secrets(secrets::SecretsArgs),
    Registries(registries::RegistriesArgs),
    Policy(policy::PolicyArgs),
    Quotas(quotas::QuotasArgs),
    Usage(usage::UsageArgs),
    Auth(auth::AuthArgs),
    Users(users::UsersArgs),
    Members(members::MembersArgs),
    Tokens(tokens::TokensArgs),
    Replicas(replicas::ReplicasArgs),
    Builds(builds::BuildsArgs),
    Validate(validate::ValidateArgs),
    Explain(explain::ExplainArgs),
    Doctor(doctor::DoctorArgs),
    Completion(completion::CompletionArgs),
    Version(version::VersionArgs),
}

impl Command {
    /// Whether the result is a stream, whose documents are one line each.
    pub(crate) fn streams(&self) -> bool {
        match self {
            Command::Logs(_) | Command::Exec(_) => true,
            Command::Http(_) | Command::Tls(_) | Command::Tcp(_) | Command::Udp(_) => true,
            Command::Events(events) => events.follow,
            Command::Apps(kind)
            | Command::Envs(kind)
            | Command::Projects(kind)
            | Command::Orgs(kind) => kind.streams(),
            Command::Releases(releases) => releases.streams(),
            Command::Deploys(kind) | Command::Instances(kind) | Command::Bundles(kind) => {
                kind.streams()
            }
            Command::Endpoints(endpoints) => endpoints.streams(),
            Command::Nodes(nodes) => nodes.streams(),
            Command::Edges(edges) => edges.streams(),
            Command::Snapshots(snapshots) => snapshots.streams(),
            Command::Volumes(volumes) => volumes.streams(),
            Command::Certificates(certificates) => certificates.streams(),
            Command::Domains(domains) => domains.streams(),
            Command::Tunnels(tunnels) => tunnels.streams(),
            Command::Audit(audit) => audit.streams(),
            Command::Auth(auth) => auth.streams(),
            Command::Users(users) => users.streams(),
            Command::Members(members) => members.streams(),
            Command::Tokens(tokens) => tokens.streams(),
            _ => false,
        }
    }
}
