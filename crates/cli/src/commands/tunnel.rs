//! `helix http`, `helix tcp`, `helix udp` and `helix tls`: the agent of a tunnel.

mod file;
mod http;
mod offer;
pub(super) mod run;
mod target;

use std::time::Duration;

use clap::Args;
use helix_model::api::CreateTunnel;
use helix_model::reference::Scope;
use helix_model::tunnel::Protocol;
use helix_model::{Code, Name};
use helix_tunnel::{Choice, Phase, Proxy, Transport};
use serde_json::json;
use tokio::net::TcpStream;

use self::http::HttpOptionArgs;
use self::offer::{Offer, Offered, Origin};
use self::target::Target;
use super::up::StopSignals;
use crate::failure::{Failure, Result};
use crate::session::Session;

/// How long a program that is to be offered may take to accept, before it is said that
/// it does not.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Give a program on this machine a public URL
///
/// Requests for the URL are passed on to the program for as long as this runs, and shown at
/// http://127.0.0.1:4040. With a name the URL is the same next time; nobody else gets the
/// name meanwhile. Ctrl-C ends it. docs/tunnels-agent.md has all of it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix http 3000\n  helix http 3000 --name demo\n  helix http 192.168.1.20:8080 --hostname shop.example.com\n  helix http 3000 --allow 192.0.2.0/24 --basic-auth-file password\n  helix http 3000 --json"
)]
pub(crate) struct HttpArgs {
    /// Where the program listens: a port of this machine, or an address with one
    #[arg(value_name = "PORT|ADDRESS")]
    target: Target,
    /// A host of your own below a proven domain, such as shop.example.com
    #[arg(long, value_name = "HOST", value_parser = host_of)]
    hostname: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    options: HttpOptionArgs,
}

/// Give a TLS server on this machine a public name
///
/// Connections are passed on as they come, by the name their clients ask for: the program
/// has the certificate, and nobody in between reads along. Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix tls 8443 --name vault\n  helix tls 8443 --hostname vault.example.com"
)]
pub(crate) struct TlsArgs {
    /// Where the program listens: a port of this machine, or an address with one
    #[arg(value_name = "PORT|ADDRESS")]
    target: Target,
    /// A host of your own below a proven domain, such as vault.example.com
    #[arg(long, value_name = "HOST", value_parser = host_of)]
    hostname: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    stream: StreamArgs,
}

/// Give a TCP port on this machine a public one
///
/// The public port stays the same with a name. Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix tcp 22 --name laptop-ssh\n  helix tcp 5432 --remote-port 20001\n  helix tcp 25565 --proxy-protocol"
)]
pub(crate) struct TcpArgs {
    /// Where the program listens: a port of this machine, or an address with one
    #[arg(value_name = "PORT|ADDRESS")]
    target: Target,
    #[command(flatten)]
    port: PortArgs,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    stream: StreamArgs,
}

/// Give a UDP port on this machine a public one
///
/// The public port stays the same with a name. Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix udp 5353 --name dns\n  helix udp 27015 --remote-port 20015"
)]
pub(crate) struct UdpArgs {
    /// Where the program listens: a port of this machine, or an address with one
    #[arg(value_name = "PORT|ADDRESS")]
    target: Target,
    #[command(flatten)]
    port: PortArgs,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    stream: StreamArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// What the tunnel is called; a random name when absent
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// Prefer edges of this region
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Keep the name for so long after the last agent has gone, such as 30d
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    keep: Option<Duration>,
    /// Reach the edge over this only: wss or quic; auto takes what carries more
    #[arg(long, value_name = "TRANSPORT", default_value = "auto")]
    transport: Choice,
}

#[derive(Debug, Args)]
struct PortArgs {
    /// The public port; a free one of the installation's range when absent
    #[arg(long, value_name = "PORT")]
    remote_port: Option<u16>,
}

#[derive(Debug, Args)]
struct StreamArgs {
    /// Begin each connection with a header of the PROXY protocol v2 that says where it comes from
    #[arg(long)]
    proxy_protocol: bool,
}

impl StreamArgs {
    fn offer(self, target: Target, transport: Choice, ask: CreateTunnel) -> Offer {
        Offer { target, ask, proxy_protocol: self.proxy_protocol, transport, http: None }
    }
}

impl CommonArgs {
    fn ask(self, protocol: Protocol) -> CreateTunnel {
        CreateTunnel {
            protocol,
            requested_name: self.name,
            region_hint: self.region,
            recreate_token_ttl_seconds: self.keep.map(|keep| keep.as_secs()),
            ..CreateTunnel::default()
        }
    }
}

pub(crate) async fn http(session: &mut Session<'_>, args: HttpArgs) -> Result<u8> {
    let transport = args.common.transport;
    let ask = CreateTunnel { hostname: args.hostname, ..args.common.ask(Protocol::Http) };
    let http = Some(args.options.read(&session.environment)?);
    run(session, Offer { target: args.target, ask, proxy_protocol: false, transport, http }).await
}

pub(crate) async fn tls(session: &mut Session<'_>, args: TlsArgs) -> Result<u8> {
    let transport = args.common.transport;
    let ask = CreateTunnel { hostname: args.hostname, ..args.common.ask(Protocol::Tls) };
    run(session, args.stream.offer(args.target, transport, ask)).await
}

pub(crate) async fn tcp(session: &mut Session<'_>, args: TcpArgs) -> Result<u8> {
    let transport = args.common.transport;
    let ask = CreateTunnel { port: args.port.remote_port, ..args.common.ask(Protocol::Tcp) };
    run(session, args.stream.offer(args.target, transport, ask)).await
}

pub(crate) async fn udp(session: &mut Session<'_>, args: UdpArgs) -> Result<u8> {
    let transport = args.common.transport;
    let ask = CreateTunnel { port: args.port.remote_port, ..args.common.ask(Protocol::Udp) };
    run(session, args.stream.offer(args.target, transport, ask)).await
}

/// Offers it until stopped.
async fn run(session: &mut Session<'_>, offer: Offer) -> Result<u8> {
    let mut stop = StopSignals::new()?;
    let is_udp = offer.ask.protocol == Protocol::Udp;
    session.ui.step("asking for the tunnel");
    let offered = offer.start(&origin(session)?).await?;
    session.ui.warn(&offered.warnings);
    let target = &offered.target;
    if !is_udp && !answers(target).await {
        session.ui.note(&format!("nothing answers at {target} yet"));
    }
    let outcome = tokio::select! {
        outcome = tell(session, &offered) => outcome,
        () = stop.wait() => Ok(0),
    };
    offered.agent.stop().await;
    outcome
}

/// Whom tunnels are had from, by the settings.
fn origin(session: &Session<'_>) -> Result<Origin> {
    Ok(Origin {
        client: session.client()?,
        scope: scope(session)?,
        proxy: proxy(session)?,
        readiness: session.readiness.clone(),
    })
}

/// The org of who has a login. Without one there is none to name.
fn scope(session: &Session<'_>) -> Result<Scope> {
    let is_known = session.settings.token()?.is_some() || session.settings.org_given;
    Ok(if is_known { session.settings.org_scope() } else { Scope::default() })
}

/// Says how things stand, until that is the end.
async fn tell(session: &mut Session<'_>, offered: &Offered) -> Result<u8> {
    let mut phases = offered.agent.phases();
    session.ui.step("attaching to an edge");
    let mut was_attached = false;
    loop {
        let phase = phases.borrow_and_update().clone();
        match phase {
            Phase::Starting => {}
            Phase::Attached { edge, reachable, transport } => {
                let place = Place { edge: &edge, reachable: &reachable, transport };
                attached(session, offered, place, was_attached)?;
                was_attached = true;
            }
            Phase::Waiting { why, pause } => {
                let document = json!({
                    "type": "waiting", "why": why, "pause_ms": pause.as_millis(),
                });
                let seconds = pause.as_secs_f32();
                waiting(session, &document, &format!("{why}; trying again in {seconds:.0} s"))?;
            }
            Phase::Ended { why } => {
                let failure = Failure::new(Code::Conflict, format!("the tunnel has ended: {why}"));
                return Err(failure.hint("to see who has it: helix tunnels list"));
            }
        }
        if phases.changed().await.is_err() {
            return Ok(0);
        }
    }
}

/// Where an agent is attached.
#[derive(Clone, Copy)]
struct Place<'a> {
    edge: &'a str,
    reachable: &'a [String],
    transport: Transport,
}

fn attached(
    session: &mut Session<'_>,
    offered: &Offered,
    place: Place<'_>,
    again: bool,
) -> Result<()> {
    let Offered { granted, target, page, .. } = offered;
    let Place { edge, reachable, transport } = place;
    let document = describe(offered, place);
    if again && !session.ui.json() {
        session.ui.step(&format!("attached to {edge} over {transport}"));
        return Ok(());
    }
    session.ui.item(&document, |style| {
        let mut urls: Vec<&str> = vec![&granted.public_url];
        urls.extend(reachable.iter().map(String::as_str).filter(|it| **it != granted.public_url));
        let urls = urls.iter().map(|url| style.cyan(url)).collect::<Vec<_>>().join("\n");
        format!("{urls}\n")
    })?;
    if let Some(page) = page {
        session.ui.note(&format!("requests are shown at http://{page}"));
    }
    session.ui.note(&format!("{} leads to {target}; Ctrl-C ends it", granted.name));
    Ok(())
}

/// The line of a tunnel that visitors come through.
fn describe(offered: &Offered, place: Place<'_>) -> serde_json::Value {
    let Offered { granted, target, page, .. } = offered;
    json!({
        "type": "attached",
        "tunnel": granted.tunnel_id,
        "name": granted.name,
        "url": granted.public_url,
        "reachable": place.reachable,
        "edge": place.edge,
        "transport": place.transport.as_str(),
        "to": target.to_string(),
        "inspector": page.map(|address| format!("http://{address}")),
    })
}

fn waiting(session: &mut Session<'_>, document: &serde_json::Value, text: &str) -> Result<()> {
    if session.ui.json() {
        return session.ui.item(document, |_| String::new());
    }
    session.ui.step(text);
    Ok(())
}

async fn answers(target: &Target) -> bool {
    let connecting = TcpStream::connect(target.to_string());
    matches!(tokio::time::timeout(LOCAL_TIMEOUT, connecting).await, Ok(Ok(_)))
}

/// The proxy that leads out of this network, if one is named.
pub(super) fn proxy(session: &Session<'_>) -> Result<Option<Proxy>> {
    let named = ["HTTPS_PROXY", "https_proxy"];
    let Some(text) = named.iter().find_map(|name| session.environment.get(name)) else {
        return Ok(None);
    };
    let refuse = || {
        let detail = format!("HTTPS_PROXY: `{text}` is not the URL of a proxy");
        Failure::usage(detail, "it looks like http://proxy.example:3128, without a password")
    };
    let rest = text.strip_prefix("http://").ok_or_else(refuse)?.trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').ok_or_else(refuse)?;
    let port = port.parse().map_err(|_| refuse())?;
    if host.is_empty() || host.contains('@') || host.contains('/') {
        return Err(refuse());
    }
    Ok(Some(Proxy { host: host.trim_matches(['[', ']']).to_owned(), port }))
}

/// The host of a URL, or a host.
fn host_of(text: &str) -> std::result::Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.unwrap_or(text).trim_end_matches('/');
    match host.is_empty() || host.contains(['/', ':', '@', '?', '#']) {
        true => Err(format!("`{text}` is no host: it looks like https://shop.example.com")),
        false => Ok(host.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_taken_out_of_a_url_that_is_nothing_more() {
        assert_eq!(host_of("https://Shop.example.com/").as_deref(), Ok("shop.example.com"));
        assert_eq!(host_of("shop.example.com").as_deref(), Ok("shop.example.com"));
        for other in ["", "https://", "https://a.example/x", "https://a.example:1", "u@a.example"] {
            assert!(host_of(other).is_err(), "{other}");
        }
    }
}
