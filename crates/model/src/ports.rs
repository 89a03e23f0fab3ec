//! Ports that no endpoint may listen on: a list of the installation.
//!
//! Those that networks filter anyway, and those where a program would be taken for a
//! service of the machine. An operator replaces the list with
//! `--deny-ports`; what an endpoint has it keeps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::event::Apply;
use crate::state::{Change, State};

/// Telnet, mail between servers, and NetBIOS: filtered by providers, and what makes
/// a network's reputation worse when it answers.
const DENIED_BY_DEFAULT: [(u16, u16); 3] = [(23, 23), (25, 25), (137, 139)];

/// Ranges in one list: nobody writes more by hand.
const RANGES_MAX: usize = 64;

/// Ports, as ranges: `23,25,137-139`, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }
}

impl Default for Ports {
    fn default() -> Ports {
        Ports(DENIED_BY_DEFAULT.to_vec())
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        if text == "none" {
            return Ok(Ports(Vec::new()));
        }
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
            let range = port(first).zip(port(last)).filter(|(first, last)| first <= last);
            range.ok_or_else(|| format!("`{part}` is no port and no range such as 137-139"))
        };
        let ranges: Vec<_> = text.split(',').map(str::trim).map(range).collect::<Result<_, _>>()?;
        match ranges.len() > RANGES_MAX {
            true => Err(format!("more than {RANGES_MAX} ranges")),
            false => Ok(Ports(ranges)),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ports, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Command: no new endpoint may listen on these, instead of those before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deny {
    pub ports: Ports,
}

/// Event: the list was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    pub ports: Ports,
}

impl Apply for Denied {
    fn apply(&self, state: &mut State, _change: Change) {
        state.denied_ports = self.ports.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        for text in ["none", "25", "23,25,137-139", "1-65535"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        let ports: Ports = " 80 , 137-139".replace(" 80", "80").parse().unwrap();
        assert!(ports.contains(138) && ports.contains(80) && !ports.contains(140));
        for bad in ["", "0", "65536", "9-8", "a", "1-2-3", "1,,2"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
        assert_eq!(Ports::default().to_string(), "23,25,137-139");
    }
}
