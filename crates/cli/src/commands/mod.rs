//! One file per command: its arguments and what it does.

pub(crate) mod acme_options;
pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod builds;
pub(crate) mod certificates;
pub(crate) mod completion;
pub(crate) mod create;
pub(crate) mod deploy;
pub(crate) mod describe;
pub(crate) mod destroy;
pub(crate) mod disk;
pub(crate) mod doctor;
pub(crate) mod domain_options;
pub(crate) mod domains;
pub(crate) mod edges;
pub(crate) mod endpoints;
pub(crate) mod env;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod front;
pub(crate) mod ipv4;
pub(crate) mod kinds;
pub(crate) mod logs;
pub(crate) mod members;
pub(crate) mod nodes;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod quotas;
pub(crate) mod ready;
pub(crate) mod registries;
pub(crate) mod registry_options;
pub(crate) mod releases;
pub(crate) mod replicas;
pub(crate) mod restore;
pub(crate) mod roles;
pub(crate) mod rollback;
pub(crate) mod scale;
pub(crate) mod secrets;
pub(crate) mod snapshots;
pub(crate) mod status;
pub(crate) mod tokens;
pub(crate) mod top;
pub(crate) mod tunnel;
pub(crate) mod tunnels;
pub(crate) mod up;
pub(crate) mod usage;
pub(crate) mod users;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod volumes;
pub(crate) mod wait;

use helix_model::Kind;

use crate::args::Command;
use crate::failure::Result;
use crate::ready as readiness;
use crate::session::Session;

/// Runs the command; the exit code of a run that did not fail. Whether one that stays is
/// ready is answered meanwhile.
pub(crate) async fn run(
    session: &mut Session<'_>,
    command: Command,
    roles: &dyn roles::Roles,
) -> Result<u8> {
    let _answering = match command.stays() {
        true => Some(readiness::answer(&session.environment, &session.readiness).await?),
        false => None,
    };
    dispatch(session, command, roles).await
}

async fn dispatch(
    session: &mut Session<'_>,
    command: Command,
    roles: &dyn roles::Roles,
) -> Result<u8> {
    match command {
        Command::Up(args) => up::run(session, *args, roles).await,
        Command::Server(args) => {
            roles::run(session, roles::RoleArgs::Server(Box::new(args)), roles).await
        }
        Command::Node(args) => roles::run(session, roles::RoleArgs::Node(args), roles).await,
        Command::Edge(args) => roles::run(session, roles::RoleArgs::Edge(args), roles).await,
        Command::Deploy(args) => deploy::run(session, args).await,
        Command::Diff(args) => plan::diff(session, args).await,
        Command::Apply(args) => plan::apply(session, args).await,
        Command::Rollback(args) => rollback::run(session, args).await,
        Command::Scale(args) => scale::run(session, args).await,
        Command::Resize(args) => env::resize(session, args).await,
        Command::Env(args) => env::run(session, args).await,
        Command::Status(args) => status::run(session, args).await,
        Command::Logs(args) => logs::run(session, args).await,
        Command::Top(args) => top::run(session, args).await,
        Command::Http(args) => tunnel::http(session, args).await,
        Command::Tls(args) => tunnel::tls(session, args).await,
        Command::Tcp(args) => tunnel::tcp(session, args).await,
        Command::Udp(args) => tunnel::udp(session, args).await,
        Command::Events(args) => events::run(session, args).await,
        Command::Exec(args) => exec::run(session, args).await,
        Command::Describe(args) => describe::run(session, args).await,
        Command::Wait(args) => wait::run(session, args).await,
        Command::Ready(args) => ready::run(session, args).await,
        Command::Apps(args) => kinds::run_owned(session, Kind::App, args).await,
        Command::Envs(args) => kinds::run_owned(session, Kind::Env, args).await,
        Command::Releases(args) => releases::run(session, args).await,
        Command::Deploys(args) => kinds::run(session, Kind::Deploy, args).await,
        Command::Instances(args) => kinds::run(session, Kind::Instance, args).await,
        Command::Endpoints(args) => endpoints::run(session, args).await,
        Command::Bundles(args) => kinds::run(session, Kind::Bundle, args).await,
        Command::Projects(args) => kinds::run_owned(session, Kind::Project, args).await,
        Command::Orgs(args) => kinds::run_owned(session, Kind::Org, args).await,
        Command::Nodes(args) => nodes::run(session, args).await,
        Command::Edges(args) => edges::run(session, args).await,
        Command::Snapshots(args) => snapshots::run(session, args).await,
        Command::Volumes(args) => volumes::run(session, args).await,
        Command::Certificates(args) => certificates::run(session, args).await,
        Command::Domains(args) => domains::run(session, args).await,
        Command::Tunnels(args) => tunnels::run(session, args).await,
        Command::Audit(args) => audit::run(session, args).await,
        Command::Admin(args) => admin::run(session, args, roles).await,
        Command::Registries(args) => registries::run(session, args).await,
        Command::Policy(args) => policy::run(session, args).await,
        Command::Quotas(args) => quotas::run(session, args).await,
        Command::Secrets(args) => secrets::run(session, args).await,
        Command::Usage(args) => usage::run(session, args).await,
        Command::Auth(args) => auth::run(session, args).await,
        Command::Users(args) => users::run(session, args).await,
        Command::Members(args) => members::run(session, args).await,
        Command::Tokens(args) => tokens::run(session, args).await,
        Command::Replicas(args) => replicas::run(session, &args).await,
        Command::Builds(args) => builds::run(session, &args),
        Command::Validate(args) => validate::run(session, &args),
        Command::Explain(args) => explain::run(session, &args),
        Command::Doctor(args) => doctor::run(session, args).await,
        Command::Completion(args) => completion::run(session, &args),
        Command::Version(args) => version::run(session, args).await,
    }
}

impl Command {
    /// Whether it goes on until somebody ends it, for others to use.
    fn stays(&self) -> bool {
        match self {
            Command::Up(_) | Command::Server(_) | Command::Node(_) | Command::Edge(_) => true,
            Command::Http(_) | Command::Tls(_) | Command::Tcp(_) | Command::Udp(_) => true,
            Command::Tunnels(tunnels) => tunnels.stays(),
            _ => false,
        }
    }

    /// Commands that work beside a saved context nobody can read.
    pub(crate) fn works_without_context(&self) -> bool {
        matches!(
            self,
            Command::Up(_)
                | Command::Server(_)
                | Command::Node(_)
                | Command::Edge(_)
                | Command::Doctor(_)
                | Command::Builds(_)
                | Command::Validate(_)
                | Command::Explain(_)
                | Command::Ready(_)
                | Command::Completion(_)
                | Command::Version(_)
        )
    }
}
