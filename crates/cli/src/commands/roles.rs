//! `helix server`, `helix node`, `helix edge`: one part of the platform in this
//! process.
//!
//! How a role is played is the binary's business ([`Roles`]); here are its
//! arguments, what a person sees of it, and how it is stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use helix_model::{Name, Problem};
use serde_json::{Map, Value};

use super::acme_options::{AcmeArgs, AcmeOptions};
use super::disk::{DiskArgs, DiskLimits};
use super::domain_options::{DomainArgs, DomainOptions};
use super::front::{FrontArgs, FrontOptions};
use super::registry_options::{RegistryArgs, RegistryLoginArgs, RegistryOptions};
use super::up::{Isolation, StopSignals, Up};
use crate::failure::{Failure, Result};
use crate::output::pairs;
use crate::ready::Part;
use crate::secrets;
use crate::session::Session;
use crate::settings::{self, TOKEN_FILE};

/// Plays one role inside this process.
#[async_trait]
pub trait Roles: Up {
    /// Returns once the API answers.
    async fn server(&self, options: ServerOptions) -> Result<Box<dyn Role>, Problem>;

    /// Returns once the agent has taken up its last plan; the link to a server
    /// comes when one answers.
    async fn node(&self, options: NodeOptions) -> Result<Box<dyn Role>, Problem>;

    /// Returns once the edge accepts; the link to a server comes when one answers.
    async fn edge(&self, options: EdgeOptions) -> Result<Box<dyn Role>, Problem>;
}

/// A role that is being played.
#[async_trait]
pub trait Role: Send {
    /// What to tell about it, by name.
    fn facts(&self) -> Vec<(&'static str, String)>;

    /// What happens next.
    async fn next(&mut self) -> Happening;

    /// Ends it in good order.
    async fn stop(self: Box<Self>) -> Result<(), Problem>;
}

/// What a role tells about itself.
#[derive(Clone, Debug)]
pub enum Happening {
    /// Worth a line.
    Note(String),
    /// It has done what it was there for.
    Over(String),
    /// It has ended by itself.
    Ended(Box<Problem>),
}

/// How to start a server.
#[derive(Clone)]
pub struct ServerOptions {
    /// A PostgreSQL database that replicas share; files in `data_dir` when `None`.
    pub database_url: Option<String>,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// Where other replicas reach this one.
    pub advertise: Option<String>,
    /// The token that may do everything.
    pub token: Option<String>,
    /// How long events stay in the database; for ever when `None`.
    pub keep_events: Option<Duration>,
    /// The same for the audit log.
    pub keep_audit: Option<Duration>,
    /// Where older history goes: a directory or `s3://BUCKET/PREFIX`; below the
    /// data directory when `None`.
    pub archive: Option<PathBuf>,
    /// How other people's registries are reached.
    pub registries: RegistryOptions,
    /// A Docker config whose logins every org may pull with.
    pub registry_logins: Option<PathBuf>,
    /// Where backups of volumes go: a directory or `s3://BUCKET/PREFIX`.
    pub backups: Option<PathBuf>,
    /// How domains are looked up.
    pub domains: DomainOptions,
    /// Which authority issues certificates, if one does.
    pub acme: Option<AcmeOptions>,
}

/// How to start a node.
#[derive(Clone)]
pub struct NodeOptions {
    pub servers: Vec<String>,
    pub data_dir: PathBuf,
    /// The host's name when `None`.
    pub name: Option<Name>,
    pub token: String,
    pub isolation: Option<Isolation>,
    pub disk: DiskLimits,
    /// The thin pool of LVM that volumes are kept in; in files when `None`.
    pub volume_pool: Option<String>,
    pub registries: RegistryOptions,
}

/// How to start an edge.
#[derive(Clone)]
pub struct EdgeOptions {
    pub servers: Vec<String>,
    pub data_dir: PathBuf,
    /// The host's name when `None`.
    pub name: Option<Name>,
    pub token: String,
    pub front: FrontOptions,
    /// Take over the edge that runs with the same data directory.
    pub takeover: bool,
    /// Told when it has a plan to serve by.
    pub ready: Part,
}

/// Run a control plane replica: the API, decisions, and links to nodes and edges
///
/// Keeps everything in --data-dir, or in a PostgreSQL database that any number
/// of replicas share. The token that may do everything comes from --token-file or
/// HELIX_TOKEN and must be the same for all of them; without a database one is
/// made in the data directory. Stays in the foreground; Ctrl-C or SIGTERM stops
/// it, and nodes and edges go on with what they were told last.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix server\n  HELIX_DATABASE_URL=postgres://helix@db/helix helix server --listen 0.0.0.0:7420 --advertise http://10.0.0.1:7420 --token-file /etc/helix/token"
)]
pub(crate) struct ServerArgs {
    /// PostgreSQL database to share with other replicas (HELIX_DATABASE_URL, where a password belongs)
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Where to keep everything (HELIX_DATA_DIR)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
    /// Where other replicas reach this one; http:// and the listening address when absent
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// Archive events older than this, such as 90d (HELIX_KEEP_EVENTS)
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    keep_events: Option<Duration>,
    /// Archive entries of the audit log older than this (HELIX_KEEP_AUDIT)
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    keep_audit: Option<Duration>,
    /// Where to archive, the same for all servers: s3://BUCKET/PREFIX, or a
    /// directory they share (HELIX_ARCHIVE)
    #[arg(long, value_name = "PLACE")]
    archive: Option<String>,
    /// Where backups of volumes go, the same for all servers: s3://BUCKET/PREFIX, or
    /// a directory they share (HELIX_BACKUPS)
    #[arg(long, value_name = "PLACE")]
    backups: Option<String>,
    #[command(flatten)]
    domains: DomainArgs,
    #[command(flatten)]
    acme: AcmeArgs,
    #[command(flatten)]
    registries: RegistryArgs,
    #[command(flatten)]
    logins: RegistryLoginArgs,
    #[command(flatten)]
    token: TokenArgs,
}

/// Run the agent of a machine: instances, as the control plane wants them
///
/// Links to the first server that answers and moves to the next when it is lost;
/// until then, and without any, it goes on with the last plan on disk. Stays in
/// the foreground; Ctrl-C or SIGTERM stops the agent and leaves the instances
/// running, and the next start takes them up again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix node --server http://10.0.0.1:7420,http://10.0.0.2:7420 --token-file /etc/helix/token"
)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// Isolation to demand; the strongest there is when absent
    #[arg(long, value_name = "LEVEL", value_enum)]
    isolation: Option<Isolation>,
    #[command(flatten)]
    disk: DiskArgs,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// Run an edge: user traffic, as the control plane routes it
///
/// Links to the first server that answers and moves to the next when it is lost;
/// until then, and without any, it serves the last plan on disk. Stays in the
/// foreground; Ctrl-C or SIGTERM lets requests end and stops.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix edge --server http://10.0.0.1:7420,http://10.0.0.2:7420 --http-port 80 --https-port 443 --token-file /etc/helix/token"
)]
pub(crate) struct EdgeArgs {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    front: FrontArgs,
    /// Take over the listening sockets of the edge that runs with the same --data-dir, which
    /// then ends once nothing is open there; start as usual when none runs
    #[arg(long)]
    takeover: bool,
}

#[derive(Debug, Args)]
struct MachineArgs {
    /// Servers to link to, tried in turn
    #[arg(long, value_name = "URL,…", value_delimiter = ',', required = true)]
    server: Vec<String>,
    /// Where to keep the last plan and all else (HELIX_DATA_DIR)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What this machine is called; its host name when absent
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    #[command(flatten)]
    token: TokenArgs,
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// File that holds the token (or HELIX_TOKEN, HELIX_TOKEN_FILE)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Which role, with its arguments.
pub(crate) enum RoleArgs {
    Server(Box<ServerArgs>),
    Node(NodeArgs),
    Edge(EdgeArgs),
}

pub(crate) async fn run(
    session: &mut Session<'_>,
    args: RoleArgs,
    roles: &dyn Roles,
) -> Result<u8> {
    let mut stop = StopSignals::new()?;
    let name = args.name();
    session.ui.step(&format!("starting the {name}"));
    let part = session.readiness.part();
    let by_itself = matches!(args, RoleArgs::Edge(_));
    let starting = start(session, args, roles, &part);
    let mut role = tokio::select! {
        started = starting => started?,
        () = stop.wait() => return Ok(0),
    };
    announce(session, name, role.as_ref())?;
    if !by_itself {
        part.set(true);
    }
    session.ui.note("Ctrl-C stops it");
    let outcome = loop {
        tokio::select! {
            happening = role.next() => match happening {
                Happening::Note(note) => session.ui.note(&note),
                Happening::Over(note) => {
                    session.ui.note(&note);
                    break Ok(0);
                }
                Happening::Ended(problem) => break Err(Failure::from(*problem)),
            },
            () = stop.wait() => break Ok(0),
        }
    };
    part.set(false);
    session.ui.step("stopping");
    tokio::select! {
        stopped = role.stop() => match stopped {
            Err(problem) => outcome.and(Err(problem.into())),
            Ok(()) => outcome,
        },
        () = stop.wait() => outcome,
    }
}

async fn start(
    session: &Session<'_>,
    args: RoleArgs,
    roles: &dyn Roles,
    part: &Part,
) -> Result<Box<dyn Role>> {
    let started = match args {
        RoleArgs::Server(args) => roles.server(server(session, *args)?).await,
        RoleArgs::Node(args) => {
            let (token, machine) = (required_token(session, &args.machine.token)?, args.machine);
            let options = NodeOptions {
                servers: machine.server,
                data_dir: data_dir(session, machine.data_dir.as_deref())?,
                name: machine.name,
                token,
                isolation: args.isolation,
                disk: args.disk.limits(&session.environment)?,
                volume_pool: args.disk.volume_pool(&session.environment)?,
                registries: args.registries.options(&session.environment),
            };
            roles.node(options).await
        }
        RoleArgs::Edge(args) => {
            let (token, machine) = (required_token(session, &args.machine.token)?, args.machine);
            let data_dir = data_dir(session, machine.data_dir.as_deref())?;
            let (servers, name) = (machine.server, machine.name);
            let (front, takeover) = (args.front.options(&session.environment)?, args.takeover);
            let ready = part.clone();
            roles.edge(EdgeOptions { servers, data_dir, name, token, front, takeover, ready }).await
        }
    };
    Ok(started?)
}

fn server(session: &Session<'_>, args: ServerArgs) -> Result<ServerOptions> {
    let variable = || session.environment.get("HELIX_DATABASE_URL").map(str::to_owned);
    let database_url = args.database_url.or_else(variable);
    let token = token(session, &args.token)?;
    if token.is_none() && database_url.is_some() {
        return Err(no_token("replicas that share a database"));
    }
    let data_dir = data_dir(session, args.data_dir.as_deref())?;
    let keep_events = settings::keep(args.keep_events, "HELIX_KEEP_EVENTS", &session.environment)?;
    let keep_audit = settings::keep(args.keep_audit, "HELIX_KEEP_AUDIT", &session.environment)?;
    let archive = session.archive(args.archive.as_deref());
    let moves_history = keep_events.is_some() || keep_audit.is_some();
    if database_url.is_some() && archive.is_none() && moves_history {
        return Err(Failure::usage(
            "servers that share a database would archive where the others cannot read it",
            "add `--archive s3://BUCKET/PREFIX`, or `--archive DIR` with a directory they share",
        ));
    }
    let (listen, advertise) = (args.listen, args.advertise);
    Ok(ServerOptions {
        database_url,
        data_dir,
        listen,
        advertise,
        token,
        keep_events,
        keep_audit,
        archive,
        registries: args.registries.options(&session.environment),
        registry_logins: args.logins.file(&session.environment),
        backups: session.backups(args.backups.as_deref()),
        domains: args.domains.options(&session.environment)?,
        acme: args.acme.options(&session.environment)?,
    })
}

impl RoleArgs {
    fn name(&self) -> &'static str {
        match self {
            RoleArgs::Server(_) => "server",
            RoleArgs::Node(_) => "node",
            RoleArgs::Edge(_) => "edge",
        }
    }
}

fn announce(session: &mut Session<'_>, name: &'static str, role: &dyn Role) -> Result<()> {
    let facts = role.facts();
    let mut document = Map::from_iter([("role".to_owned(), Value::from(name))]);
    document.extend(facts.iter().map(|(name, fact)| ((*name).to_owned(), fact.clone().into())));
    session.ui.result(&document, |style| {
        let headline = style.bold(&format!("the {name} is up"));
        format!("{} {headline}\n{}", style.tick(), pairs(&facts, 2, style))
    })
}

fn data_dir(session: &Session<'_>, flag: Option<&Path>) -> Result<PathBuf> {
    let chosen = settings::data_dir(flag, &session.environment)?;
    Ok(session.settings.directory.join(chosen))
}

fn required_token(session: &Session<'_>, args: &TokenArgs) -> Result<String> {
    token(session, args)?.ok_or_else(|| no_token("a machine that links to a server"))
}

fn no_token(who: &str) -> Failure {
    Failure::usage(
        format!("{who} must be given the token"),
        "add `--token-file FILE` or set HELIX_TOKEN or HELIX_TOKEN_FILE",
    )
}

/// The token, which is never an argument: those are seen by all.
fn token(session: &Session<'_>, args: &TokenArgs) -> Result<Option<String>> {
    let environment = &session.environment;
    let in_file = |path: &Path| secrets::token_in(&session.settings.directory.join(path)).map(Some);
    match (&args.token_file, environment.get("HELIX_TOKEN"), environment.get(TOKEN_FILE)) {
        (Some(path), _, _) => in_file(path),
        (None, Some(token), _) => Ok(Some(token.to_owned())),
        (None, None, Some(path)) => in_file(Path::new(path)),
        (None, None, None) => Ok(None),
    }
}
