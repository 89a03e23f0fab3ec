//! The ports of edges that tunnels get: a range of the installation.
//!
//! An operator replaces it with `--tunnel-ports`; what a tunnel has it keeps.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::event::Apply;
use crate::state::{Change, State};

/// Above what services are usually on, below where clients' own ports begin (32768 on
/// Linux), and easy to open in a firewall.
const FIRST_BY_DEFAULT: u16 = 20_000;
const LAST_BY_DEFAULT: u16 = 20_999;

/// Ports from one to another, both included: `20000-20999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    pub fn contains(self, port: u16) -> bool {
        self.all().contains(&port)
    }

    /// Each of them, the lowest first.
    pub fn all(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl Default for PortRange {
    fn default() -> PortRange {
        PortRange { first: FIRST_BY_DEFAULT, last: LAST_BY_DEFAULT }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<PortRange, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let range = text.split_once('-').and_then(|(first, last)| port(first).zip(port(last)));
        let range = range.filter(|(first, last)| first <= last);
        let (first, last) =
            range.ok_or_else(|| format!("`{text}` is no range of ports such as 20000-20999"))?;
        Ok(PortRange { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PortRange, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Command: tunnels get ports of this range from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPorts {
    pub ports: PortRange,
}

/// Event: the range was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsSet {
    pub ports: PortRange,
}

impl Apply for PortsSet {
    fn apply(&self, state: &mut State, _change: Change) {
        state.tunnel_ports = self.ports;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for text in ["1-1", "20000-20999", "1-65535"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for bad in ["", "80", "0-9", "9-8", "1-65536", "1-2-3", " 1-2", "a-b"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
        let usual = PortRange::default();
        assert!(usual.contains(20_000) && usual.contains(20_999) && !usual.contains(21_000));
    }
}
