//! Where user traffic comes in: what `helix up` and `helix edge` have alike.

use std::net::IpAddr;

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
}

impl FrontArgs {
    pub(crate) fn options(self, environment: &Environment) -> Result<FrontOptions> {
        let (http_port, https_port) = (self.http_port, self.https_port);
        let balancers = listed(self.accept_proxy_from, BALANCERS, network, environment)?;
        let addresses = listed(self.addresses, ADDRESSES, parse_prefix, environment)?;
        Ok(FrontOptions { http_port, https_port, balancers, addresses })
    }
}

const BALANCERS: &str = "HELIX_ACCEPT_PROXY_FROM";

const ADDRESSES: &str = "HELIX_ADDRESSES";

/// What was given as a flag, or else in a variable with commas between.
fn listed(
    given: Vec<IpNet>,
    variable: &str,
    parse: fn(&str) -> std::result::Result<IpNet, String>,
    environment: &Environment,
) -> Result<Vec<IpNet>> {
    let Some(text) = environment.get(variable).filter(|_| given.is_empty()) else {
        return Ok(given);
    };
    let parts = text.split(',').map(|part| parse(part.trim()));
    parts.collect::<std::result::Result<_, _>>().map_err(|why| {
        Failure::usage(format!("{variable}: {why}"), "list them with commas between")
    })
}

/// A network, or one address.
fn network(text: &str) -> std::result::Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let wrong = |_| format!("`{text}` is neither an address nor a network such as 10.0.0.0/8");
    text.parse().or_else(|_| address()).map_err(wrong)
}
