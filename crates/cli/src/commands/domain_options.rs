//! What the installation settles for endpoints and tunnels: how domains are looked up,
//! which is its own, which ports are denied, which are for tunnels, and who may have one. Flags that `up`
//! and `server` share.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use helix_model::ports::Ports;
use helix_model::tunnel::PortRange;

use crate::failure::{Failure, Result};
use crate::io::Environment;

/// The port of DNS.
const PORT: u16 = 53;

/// What was demanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainOptions {
    /// Whom to ask for proofs of domains; those of /etc/resolv.conf when `None`.
    pub dns: Option<SocketAddr>,
    /// Where endpoints without a host get theirs; as before when `None`.
    pub app_domain: Option<String>,
    /// Where no new endpoint may listen; as before when `None`.
    pub deny_ports: Option<Ports>,
    /// Which ports tunnels get; as before when `None`.
    pub tunnel_ports: Option<PortRange>,
    /// Whether tunnels are had without a login; as before when `None`.
    pub anonymous_tunnels: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct DomainArgs {
    /// DNS server to ask for proofs of domains, as IP or IP:PORT; those of
    /// /etc/resolv.conf when absent (HELIX_DNS)
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    dns: Option<SocketAddr>,
    /// Domain below which endpoints without a host get theirs, and names are free to
    /// all orgs; kept until another is named, localhost at first (HELIX_APP_DOMAIN)
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    app_domain: Option<String>,
    /// Ports no endpoint may listen on, or `none`; kept until others are named,
    /// 23,25,137-139 at first (HELIX_DENY_PORTS)
    #[arg(long, value_name = "PORTS", value_parser = ports)]
    deny_ports: Option<Ports>,
    /// Ports of edges that tcp and udp tunnels get, as FIRST-LAST; kept until others are
    /// named, 20000-20999 at first (HELIX_TUNNEL_PORTS)
    #[arg(long, value_name = "PORTS", value_parser = port_range)]
    tunnel_ports: Option<PortRange>,
    /// Whether a tunnel may be had without a login, by a random name, `on` or `off`; kept
    /// until it is said again, off at first (HELIX_ANONYMOUS_TUNNELS)
    #[arg(long, value_name = "on|off", value_parser = switch)]
    anonymous_tunnels: Option<bool>,
}

impl DomainArgs {
    pub(crate) fn options(self, environment: &Environment) -> Result<DomainOptions> {
        Ok(DomainOptions {
            dns: variable(self.dns, "HELIX_DNS", address, environment)?,
            app_domain: variable(self.app_domain, "HELIX_APP_DOMAIN", domain, environment)?,
            deny_ports: variable(self.deny_ports, "HELIX_DENY_PORTS", ports, environment)?,
            tunnel_ports: variable(
                self.tunnel_ports,
                "HELIX_TUNNEL_PORTS",
                port_range,
                environment,
            )?,
            anonymous_tunnels: variable(
                self.anonymous_tunnels,
                "HELIX_ANONYMOUS_TUNNELS",
                switch,
                environment,
            )?,
        })
    }
}

fn variable<T>(
    flag: Option<T>,
    name: &str,
    parse: fn(&str) -> std::result::Result<T, String>,
    environment: &Environment,
) -> Result<Option<T>> {
    let Some(text) = environment.get(name).filter(|_| flag.is_none()) else {
        return Ok(flag);
    };
    let refused = |hint| Failure::usage(format!("{name} cannot be used: `{text}`"), hint);
    parse(text).map(Some).map_err(refused)
}

fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    let alone = || text.parse::<IpAddr>().map(|address| (address, PORT).into());
    text.parse()
        .or_else(|_| alone())
        .map_err(|_| "write it as 192.0.2.1 or [fd00::1]:53".to_owned())
}

fn ports(text: &str) -> std::result::Result<Ports, String> {
    text.parse()
}

fn port_range(text: &str) -> std::result::Result<PortRange, String> {
    text.parse()
}

fn switch(text: &str) -> std::result::Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("say `on` or `off`".to_owned()),
    }
}

fn domain(text: &str) -> std::result::Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    match helix_model::host::is_exact(&name) {
        true => Ok(name),
        false => Err("write it in ASCII, such as apps.example.com".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_port_and_a_domain_is_written_one_way() {
        assert_eq!(address("192.0.2.1"), Ok("192.0.2.1:53".parse().unwrap()));
        assert_eq!(address("fd00::1"), Ok("[fd00::1]:53".parse().unwrap()));
        assert_eq!(address("[fd00::1]:5353"), Ok("[fd00::1]:5353".parse().unwrap()));
        assert!(address("ns.example.com").is_err());
        assert_eq!(domain("Apps.Example.NET."), Ok("apps.example.net".to_owned()));
        assert!(domain("*.example.net").is_err() && domain("").is_err());
        let environment: Environment = [("HELIX_DNS", "nowhere")].into();
        let args = |tunnel_ports| DomainArgs {
            dns: None,
            app_domain: None,
            deny_ports: None,
            tunnel_ports,
            anonymous_tunnels: None,
        };
        let refused = args(None).options(&environment).unwrap_err();
        assert!(refused.problem.detail.contains("HELIX_DNS"), "{}", refused.problem.detail);
    }
}
