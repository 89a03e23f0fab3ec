//! Where user traffic comes in: what `helix up` and `helix edge` have alike.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use helix_model::address::parse_prefix;
use ipnet::IpNet;

use crate::failure::{Failure, Result};
use crate::io::Environment;

/// What user traffic comes in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontOptions {
    /// The shared HTTP listener's port.
    pub http_port: u16,
    /// The same for HTTPS.
    pub https_port: u16,
    /// Load balancers that say whose a connection is.
    pub balancers: Vec<IpNet>,
    /// Prefixes routed to this machine, for addresses of envs.
    pub addresses: Vec<IpNet>,
    /// Where Prometheus is told what goes through.
    pub metrics: Option<SocketAddr>,
    /// Where a line is written for all that has ended; `-` is standard output.
    pub access_log: Option<PathBuf>,
    /// Whether clients' whole addresses are in it.
    pub access_log_addresses: bool,
    /// Where agents of tunnels reach this edge, if it is said.
    pub tunnel_urls: Vec<String>,
    /// The UDP port they come to, if it is said.
    pub tunnel_quic: Option<QuicOption>,
    /// Where it is, in the operator's words.
    pub region: Option<String>,
}

/// Whether and where agents of tunnels come over QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicOption {
    Port(u16),
    Off,
}

impl FromStr for QuicOption {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<QuicOption, String> {
        let wrong = |_| format!("`{text}` is neither a port nor `off`");
        match text {
            "off" => Ok(QuicOption::Off),
            port => port.parse().map(QuicOption::Port).map_err(wrong),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FrontArgs {
    /// Port of the shared HTTP listener
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,
    /// Port of the shared HTTPS listener
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    https_port: u16,
    /// Load balancers that send the PROXY protocol: addresses or networks (HELIX_ACCEPT_PROXY_FROM)
    #[arg(long, value_name = "NETWORK,…", value_delimiter = ',', value_parser = network)]
    accept_proxy_from: Vec<IpNet>,
    /// IPv4 and IPv6 addresses routed to this machine, to be given to envs (HELIX_ADDRESSES)
    #[arg(long, value_name = "PREFIX,…", value_delimiter = ',', value_parser = parse_prefix)]
    addresses: Vec<IpNet>,
    /// Answer Prometheus there, without a login: a port of 127.0.0.1, or an address with a port (HELIX_EDGE_METRICS)
    #[arg(long, value_name = "ADDRESS", value_parser = metrics_address)]
    edge_metrics: Option<SocketAddr>,
    /// Write a line of JSON for each request, connection and session that has ended; - for standard output (HELIX_ACCESS_LOG)
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Write clients' whole addresses there, not just their networks
    #[arg(long)]
    access_log_addresses: bool,
    /// Where agents of tunnels reach this edge from the internet, the HTTPS port unless it says another (HELIX_TUNNEL_URL)
    #[arg(long, value_name = "URL,…", value_delimiter = ',', value_parser = tunnel_url)]
    tunnel_url: Vec<String>,
    /// UDP port for agents of tunnels over QUIC, that of HTTPS when absent; off for none (HELIX_TUNNEL_QUIC_PORT)
    #[arg(long, value_name = "PORT|off")]
    tunnel_quic_port: Option<QuicOption>,
    /// Where this edge is, in your words: agents may prefer it (HELIX_REGION)
    #[arg(long, value_name = "REGION", value_parser = region)]
    region: Option<String>,
}

impl FrontArgs {
    pub(crate) fn options(self, environment: &Environment) -> Result<FrontOptions> {
        let (http_port, https_port) = (self.http_port, self.https_port);
        let balancers = listed(self.accept_proxy_from, BALANCERS, network, environment)?;
        let addresses = listed(self.addresses, ADDRESSES, parse_prefix, environment)?;
        let refused = |why| Failure::usage(format!("{METRICS}: {why}"), "say a port such as 9420");
        let said = || environment.get(METRICS).map(metrics_address).transpose();
        let metrics = match self.edge_metrics {
            Some(address) => Some(address),
            None => said().map_err(refused)?,
        };
        let tunnel_urls = listed(self.tunnel_url, TUNNEL_URL, tunnel_url, environment)?;
        let wrong = |why| Failure::usage(format!("{REGION}: {why}"), "say it as `eu-west`");
        let region = match (self.region, environment.get(REGION)) {
            (None, Some(text)) => Some(region(text).map_err(wrong)?),
            (given, _) => given,
        };
        let wrong = |why| Failure::usage(format!("{TUNNEL_QUIC_PORT}: {why}"), "say a port or off");
        let tunnel_quic = match (self.tunnel_quic_port, environment.get(TUNNEL_QUIC_PORT)) {
            (None, Some(text)) => Some(text.parse().map_err(wrong)?),
            (given, _) => given,
        };
        let access_log =
            self.access_log.or_else(|| environment.get("HELIX_ACCESS_LOG").map(PathBuf::from));
        Ok(FrontOptions {
            http_port,
            https_port,
            balancers,
            addresses,
            metrics,
            access_log,
            access_log_addresses: self.access_log_addresses,
            tunnel_urls,
            tunnel_quic,
            region,
        })
    }
}

const BALANCERS: &str = "HELIX_ACCEPT_PROXY_FROM";

const ADDRESSES: &str = "HELIX_ADDRESSES";

const TUNNEL_URL: &str = "HELIX_TUNNEL_URL";

const TUNNEL_QUIC_PORT: &str = "HELIX_TUNNEL_QUIC_PORT";

const REGION: &str = "HELIX_REGION";

/// Characters of a region: enough for what clouds call theirs.
const REGION_CHARS_MAX: usize = 32;

const METRICS: &str = "HELIX_EDGE_METRICS";

/// What was given as a flag, or else in a variable with commas between.
fn listed<T>(
    given: Vec<T>,
    variable: &str,
    parse: fn(&str) -> std::result::Result<T, String>,
    environment: &Environment,
) -> Result<Vec<T>> {
    let Some(text) = environment.get(variable).filter(|_| given.is_empty()) else {
        return Ok(given);
    };
    let parts = text.split(',').map(|part| parse(part.trim()));
    parts.collect::<std::result::Result<_, _>>().map_err(|why| {
        Failure::usage(format!("{variable}: {why}"), "list them with commas between")
    })
}

/// Nobody is asked who he is, so that a port alone is this machine's: whoever wants others
/// to read says on which address.
fn metrics_address(text: &str) -> std::result::Result<SocketAddr, String> {
    let port = || text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let wrong = |_| format!("`{text}` is neither a port nor an address with one");
    text.parse().or_else(|_| port()).map_err(wrong)
}

/// `wss://` or `quic://` and a host, perhaps with a port; what comes behind is not the
/// operator's.
fn tunnel_url(text: &str) -> std::result::Result<String, String> {
    let wrong = || format!("`{text}` is not where agents reach an edge: wss://edge.example.com");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let rest = rest.trim_end_matches('/');
    if !["wss", "quic"].contains(&scheme) {
        return Err(wrong());
    }
    match rest.is_empty() || rest.contains(['/', '@', '?', '#']) {
        true => Err(wrong()),
        false => Ok(format!("{scheme}://{}", rest.to_ascii_lowercase())),
    }
}

fn region(text: &str) -> std::result::Result<String, String> {
    let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    match !text.is_empty() && text.len() <= REGION_CHARS_MAX && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no region: lower-case letters, digits and `-`, at most {REGION_CHARS_MAX}"
        )),
    }
}

/// A network, or one address.
fn network(text: &str) -> std::result::Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let wrong = |_| format!("`{text}` is neither an address nor a network such as 10.0.0.0/8");
    text.parse().or_else(|_| address()).map_err(wrong)
}
