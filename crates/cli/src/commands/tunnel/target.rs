//! Where a program listens that is to be offered.

use std::fmt;
use std::str::FromStr;

/// A host and a port. A port alone is one of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    host: String,
    port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let wrong = || format!("`{text}` is neither a port nor an address with one");
        let (host, port) = match text.rsplit_once(':') {
            None => ("127.0.0.1", text),
            Some((host, port)) => (host, port),
        };
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let is_host = |it: char| it.is_ascii_alphanumeric() || ".-_:%".contains(it);
        match !host.is_empty() && host.chars().all(is_host) {
            true => Ok(Target { host: host.to_owned(), port }),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_of_this_machine_and_an_address_is_what_it_is() {
        let read = |text: &str| text.parse().map(|target: Target| target.to_string());
        assert_eq!(read("3000").as_deref(), Ok("127.0.0.1:3000"));
        assert_eq!(read("localhost:3000").as_deref(), Ok("localhost:3000"));
        assert_eq!(read("[::1]:3000").as_deref(), Ok("[::1]:3000"));
        assert_eq!(read("192.168.1.20:80").as_deref(), Ok("192.168.1.20:80"));
        for other in ["", "0", "70000", "::1", "::1:80", "a b:80", "http://x:80", ":80", "[::1:80"]
        {
            assert!(read(other).is_err(), "{other}");
        }
    }
}
