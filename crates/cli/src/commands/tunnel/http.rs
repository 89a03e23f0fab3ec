//! What `helix http` does with requests: where they are shown, who may come in, and what
//! the program is told.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use helix_tunnel::inspect::{AllowList, BasicAuth, HeaderValue, Policy};
use ipnet::IpNet;

use crate::failure::{Failure, Result};
use crate::io::Environment;
use crate::secrets::read_file;

/// Longer than any user and password.
const BASIC_AUTH_BYTES_MAX: usize = 1024;

/// Networks of one list. Longer ones belong in a firewall.
const ALLOW_MAX: usize = 100;

/// Where the variable with a user and a password is.
const BASIC_AUTH_VARIABLE: &str = "HELIX_BASIC_AUTH";

#[derive(Debug, Args)]
pub(super) struct HttpOptionArgs {
    /// Where requests are shown on this machine; 127.0.0.1:4040 or the next free port
    #[arg(long, value_name = "ADDRESS|off")]
    inspect: Option<Inspect>,
    /// What the program is told as Host, in place of the public one
    #[arg(long, value_name = "VALUE", value_parser = host_header)]
    host_header: Option<HeaderValue>,
    /// Let in only who comes from these networks, such as 192.0.2.0/24
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    allow: Vec<IpNet>,
    /// Ask visitors for the user and the password in this file, USER:PASSWORD (or HELIX_BASIC_AUTH)
    #[arg(long, value_name = "FILE")]
    basic_auth_file: Option<PathBuf>,
}

/// Where requests are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Inspect {
    /// At the usual port, or the next free one.
    #[default]
    Usual,
    At(SocketAddr),
    Off,
}

impl FromStr for Inspect {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Inspect, String> {
        if text == "off" {
            return Ok(Inspect::Off);
        }
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("`{text}` is no address: it looks like 127.0.0.1:4040"))?;
        match address.ip().is_loopback() {
            true => Ok(Inspect::At(address)),
            false => Err(format!(
                "{address} is not of this machine alone, and everybody there could see the \
                 requests: take one of 127.0.0.1 or [::1]"
            )),
        }
    }
}

/// What is done with requests.
pub(super) struct HttpOptions {
    pub(super) inspect: Inspect,
    pub(super) host_header: Option<HeaderValue>,
    pub(super) policies: Vec<Box<dyn Policy>>,
}

impl HttpOptions {
    /// Whether requests are only passed on.
    pub(super) fn is_plain(&self) -> bool {
        self.inspect == Inspect::Off && self.host_header.is_none() && self.policies.is_empty()
    }
}

impl HttpOptionArgs {
    pub(super) fn read(self, environment: &Environment) -> Result<HttpOptions> {
        if self.allow.len() > ALLOW_MAX {
            let detail = format!("--allow takes at most {ALLOW_MAX} networks");
            return Err(Failure::usage(detail, "a firewall takes more"));
        }
        let basic_auth = match (&self.basic_auth_file, environment.get(BASIC_AUTH_VARIABLE)) {
            (Some(file), _) => Some(basic_auth_of(file)?),
            (None, Some(text)) => Some(basic_auth(text, BASIC_AUTH_VARIABLE)?),
            (None, None) => None,
        };
        Ok(HttpOptions {
            inspect: self.inspect.unwrap_or_default(),
            host_header: self.host_header,
            policies: policies(self.allow, basic_auth),
        })
    }
}

/// The network is looked at first: who may not come in at all is not asked for a password.
pub(super) fn policies(
    networks: Vec<IpNet>,
    basic_auth: Option<BasicAuth>,
) -> Vec<Box<dyn Policy>> {
    let mut policies: Vec<Box<dyn Policy>> = Vec::new();
    if !networks.is_empty() {
        policies.push(Box::new(AllowList { networks }));
    }
    if let Some(basic_auth) = basic_auth {
        policies.push(Box::new(basic_auth));
    }
    policies
}

/// The user and the password in a file; a line break at its end is not theirs.
pub(super) fn basic_auth_of(file: &Path) -> Result<BasicAuth> {
    let bytes = read_file(file, BASIC_AUTH_BYTES_MAX)?;
    let shown = file.display().to_string();
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::usage(format!("{shown}: it is not text"), "write USER:PASSWORD"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    basic_auth(text.strip_suffix('\r').unwrap_or(text), &shown)
}

fn basic_auth(text: &str, place: &str) -> Result<BasicAuth> {
    BasicAuth::new(text).map_err(|error| {
        Failure::usage(format!("{place}: {error}"), "it looks like ada:correct-horse")
    })
}

/// A host, with a port or without one.
pub(super) fn host_header(text: &str) -> std::result::Result<HeaderValue, String> {
    let is_host = |it: char| it.is_ascii_alphanumeric() || ".-_:[]%".contains(it);
    let value = HeaderValue::from_str(text).ok();
    value
        .filter(|_| !text.is_empty() && text.chars().all(is_host))
        .ok_or_else(|| format!("`{text}` is no host: it looks like localhost:3000"))
}

/// A network, or one address.
pub(super) fn network(text: &str) -> std::result::Result<IpNet, String> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    single
        .or_else(|_| text.parse::<IpNet>().map(|network| network.trunc()))
        .map_err(|_| format!("`{text}` is no network: it looks like 192.0.2.0/24"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_shown_on_this_machine_or_nowhere() {
        assert_eq!("off".parse(), Ok(Inspect::Off));
        assert_eq!("localhost:1".parse(), Ok(Inspect::At(([127, 0, 0, 1], 1).into())));
        assert!("[::1]:1".parse::<Inspect>().is_ok());
        for everybody in ["0.0.0.0:4040", "[::]:4040", "192.168.1.2:4040"] {
            let refused = everybody.parse::<Inspect>().unwrap_err();
            assert!(refused.contains("not of this machine alone"), "{refused}");
        }
        for other in ["", "4040", "127.0.0.1", "example.com:4040", "on"] {
            assert!(other.parse::<Inspect>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_network_may_be_one_address_and_hosts_are_hosts() {
        assert_eq!(network("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(network("2001:db8::7/32").unwrap().to_string(), "2001:db8::/32");
        assert!(network("192.0.2.0/33").is_err());
        assert!(host_header("localhost:3000").is_ok());
        for other in ["", "a b", "a/b", "a\r\nx: y"] {
            assert!(host_header(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_password_file_may_end_its_line_and_is_not_repeated_when_it_is_wrong() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "ada:lovelace\r\n").unwrap();
        assert!(basic_auth_of(file.path()).is_ok());
        std::fs::write(file.path(), "hunter2").unwrap();
        let refused = basic_auth_of(file.path()).unwrap_err().document().to_string();
        assert!(!refused.contains("hunter2") && refused.contains("USER:PASSWORD"), "{refused}");
    }
}
