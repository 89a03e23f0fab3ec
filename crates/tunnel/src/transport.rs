//! What an agent may reach an edge over, and which of it it does.

use std::fmt;
use std::str::FromStr;

/// What the link to an edge runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// WebSockets over TLS: passes wherever HTTPS does.
    Wss,
    /// UDP: a lost packet holds up one connection of a visitor, not all.
    Quic,
}

/// Which of them an agent uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// What answers first, and then what carries more.
    #[default]
    Auto,
    Only(Transport),
}

impl Transport {
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::Wss => "wss",
            Transport::Quic => "quic",
        }
    }

    /// Of a URL of an edge, by its scheme.
    pub(crate) fn of(url: &str) -> Option<Transport> {
        let (scheme, _) = url.split_once("://")?;
        [Transport::Wss, Transport::Quic].into_iter().find(|it| it.as_str() == scheme)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Choice {
    pub(crate) fn takes(self, transport: Transport) -> bool {
        match self {
            Choice::Auto => true,
            Choice::Only(only) => only == transport,
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        match text {
            "auto" => Ok(Choice::Auto),
            "wss" => Ok(Choice::Only(Transport::Wss)),
            "quic" => Ok(Choice::Only(Transport::Quic)),
            other => Err(format!("`{other}` is no transport: take auto, wss or quic")),
        }
    }
}
