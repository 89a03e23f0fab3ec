//! `helix endpoints`: how apps are reached, and what of them is exposed.

use std::time::Duration;

use clap::{Args, Subcommand};
use helix_client::Seen;
use helix_model::api::ExposeRequest;
use helix_model::endpoint::Reach;
use helix_model::manifest::AskedEndpoint;
use helix_model::view::ResourceView;
use helix_model::{Endpoint, Kind, Name};
use serde_json::json;

use super::kinds::{self, DescribeOne, EventsOf, ListArgs, Verb};
use crate::duration::now;
use crate::failure::Result;
use crate::render::list;
use crate::session::Session;

/// How long an edge may take to listen. It does within moments where it can.
const TAKEN_UP: Duration = Duration::from_secs(10);

/// What can be done with endpoints.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix endpoints list\n  helix endpoints list --public\n  helix endpoints expose --listen-port 5432 --process db"
)]
pub(crate) struct EndpointsArgs {
    #[command(subcommand)]
    verb: EndpointsVerb,
}

#[derive(Debug, Subcommand)]
enum EndpointsVerb {
    List(EndpointsListArgs),
    Describe(DescribeOne),
    Events(EventsOf),
    Expose(ExposeArgs),
    Update(UpdateArgs),
    Unexpose(UnexposeArgs),
}

/// Make a port of what runs reachable, apart from helix.toml
///
/// No deploy changes or removes it. What belongs to the app for good is better in
/// `[[endpoints]]`, where every env gets it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix endpoints expose --listen-port 5432 --process db\n  helix endpoints expose debug --port admin --listen-port 9000\n  helix endpoints expose new --protocol http --host new.example.com"
)]
struct ExposeArgs {
    /// What to call it; after its protocol and port when absent
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    #[command(flatten)]
    how: HowArgs,
}

/// Change how one is reached that was exposed apart from helix.toml
///
/// All of it is said anew: what is left out has its default.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix endpoints update debug --port admin --listen-port 9001\n  helix endpoints update tcp-5432 --process db --listen-port 5432 --max-connections 20"
)]
struct UpdateArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: Name,
    #[command(flatten)]
    how: HowArgs,
}

/// Take one back that was exposed apart from helix.toml
///
/// Open connections go on, new ones are refused.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix endpoints unexpose debug\n  helix endpoints unexpose tcp-5432 --app web --env production --json"
)]
struct UnexposeArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: Name,
}

#[derive(Debug, Args)]
struct HowArgs {
    /// The process it leads to [default: web]
    #[arg(long, value_name = "NAME")]
    process: Option<String>,
    /// The name of the process's port; the first that fits when absent
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// http, tcp, tls or udp [default: tcp]
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// With http and tls: the host name that clients ask for
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// With tcp, udp and tls: the port of the env's address
    #[arg(long, value_name = "PORT")]
    listen_port: Option<u16>,
    /// Tell the program whose a connection is: off or v2
    #[arg(long, value_name = "VERSION")]
    proxy_protocol: Option<String>,
    /// The program expects that header
    #[arg(long)]
    backend_expects_proxy_protocol: bool,
    /// round_robin or least_connections
    #[arg(long, value_name = "HOW")]
    balance: Option<String>,
    /// Connections at a time at each edge
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<u32>,
    /// Requests, connections or sessions that may begin in a second at each edge
    #[arg(long, value_name = "COUNT")]
    max_per_second: Option<u32>,
    /// With http: the largest body of a request, such as 10Mi
    #[arg(long, value_name = "SIZE")]
    max_body: Option<String>,
    /// With http: the largest head of a request
    #[arg(long, value_name = "BYTES")]
    max_header_bytes: Option<u32>,
    /// With http: what the program speaks, http1 or h2c [default: http1]
    #[arg(long, value_name = "PROTOCOL")]
    backend_protocol: Option<String>,
    /// Listen on the env's IPv4 address, too; see `helix env ipv4`
    #[arg(long)]
    ipv4: bool,
}

impl HowArgs {
    fn asked(self, name: Option<&Name>) -> AskedEndpoint {
        AskedEndpoint {
            name: name.map(Name::to_string),
            process: self.process,
            port: self.port,
            protocol: self.protocol,
            host: self.host,
            listen_port: self.listen_port,
            proxy_protocol: self.proxy_protocol,
            backend_expects_proxy_protocol: self.backend_expects_proxy_protocol.then_some(true),
            balance: self.balance,
            max_connections: self.max_connections,
            max_per_second: self.max_per_second,
            max_body: self.max_body,
            max_header_bytes: self.max_header_bytes,
            backend_protocol: self.backend_protocol,
            ipv4: self.ipv4.then_some(true),
        }
    }
}

/// List what there is
///
/// Narrowed to the app and env that flags, variables or the helix.toml here name;
/// with --public over the whole org.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix endpoints list\n  helix endpoints list --public\n  helix endpoints list --public --json"
)]
struct EndpointsListArgs {
    #[command(flatten)]
    list: ListArgs,
    /// All of the org that the internet can reach, as far as addresses tell
    #[arg(long, conflicts_with_all = ["all", "limit", "cursor"])]
    public: bool,
}

impl EndpointsArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, EndpointsVerb::Events(events) if events.follows())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: EndpointsArgs) -> Result<u8> {
    let verb = match args.verb {
        EndpointsVerb::List(args) if args.public => return public(session).await,
        EndpointsVerb::List(args) => Verb::List(args.list),
        EndpointsVerb::Describe(args) => Verb::Describe(args),
        EndpointsVerb::Events(args) => Verb::Events(args),
        EndpointsVerb::Expose(args) => {
            let endpoint = args.how.asked(args.name.as_ref());
            return expose(session, endpoint, false).await;
        }
        EndpointsVerb::Update(args) => {
            return expose(session, args.how.asked(Some(&args.name)), true).await;
        }
        EndpointsVerb::Unexpose(args) => return unexpose(session, &args.name).await,
    };
    kinds::run_verb(session, Kind::Endpoint, verb).await
}

/// What of the org is exposed to the internet.
async fn public(session: &mut Session<'_>) -> Result<u8> {
    let client = session.client()?;
    let scope = session.settings.org_scope();
    let mut exposed: Vec<ResourceView> = Vec::new();
    for view in client.list_all(Kind::Endpoint, &scope).await? {
        let seen = Seen::<Endpoint>::new(view.clone())?;
        if seen.current.seen.reach == Some(Reach::Internet) {
            exposed.push(view);
        }
    }
    let document = json!({ "items": exposed });
    session.ui.result(&document, |style| list::public(&exposed, now(), style))?;
    Ok(0)
}

async fn expose(session: &mut Session<'_>, endpoint: AskedEndpoint, replace: bool) -> Result<u8> {
    let target = session.settings.target()?;
    let client = session.client()?;
    let request = ExposeRequest { endpoint, replace, expected_version: None };
    let receipt = client.expose(target.env.as_str(), &request, &target.scope()).await?;
    session.ui.warn(&receipt.warnings);
    let id = receipt.subject.as_ref().map(|subject| subject.id.to_string()).unwrap_or_default();
    let waited = client.wait(Kind::Endpoint, &id, TAKEN_UP, &target.scope()).await?;
    let seen = Seen::<Endpoint>::new(waited.resource.clone())?;
    let document =
        json!({ "target": target.to_string(), "receipt": receipt, "endpoint": waited.resource });
    session.ui.result(&document, |style| {
        let mut lines = vec![format!("{} {} leads to {target}", style.tick(), seen.view.name)];
        lines.extend(seen.current.seen.reachable.iter().map(|place| format!("  {place}")));
        lines.extend(seen.current.seen.problem.iter().map(|problem| format!("  {problem}")));
        lines.join("\n")
    })?;
    Ok(0)
}

async fn unexpose(session: &mut Session<'_>, name: &Name) -> Result<u8> {
    let target = session.settings.target()?;
    let client = session.client()?;
    let receipt = client.unexpose(target.env.as_str(), name.as_str(), &target.scope()).await?;
    let document = json!({ "target": target.to_string(), "receipt": receipt });
    session.ui.result(&document, |style| {
        format!("{} {name} of {target} is not reachable any more", style.tick())
    })?;
    Ok(0)
}
