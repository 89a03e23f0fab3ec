//! What an agent and an edge say to each other.
//!
//! An agent asks an edge for [`PATH`] over HTTPS, upgrades the connection to a WebSocket
//! (RFC 6455) and runs a [link](helix_link) over it. Or it connects over QUIC, begins its
//! first stream with an [`Entry`], hears [`Admitted`] on it, and runs the link over that.
//!
//! The link's first stream, which the agent opens, is for both to speak of the tunnel: it
//! begins with a [`Hello`]; [`FromEdge`] comes back and [`FromAgent`] may follow, one JSON
//! document a message. The agent opens others only to measure the way, with a [`Probe`].
//! All the rest the edge opens, one for each visitor's connection; it begins with an
//! [`Opening`]. From then on the messages of a stream of bytes are pieces of what is sent,
//! and those of one of datagrams are datagrams.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Where an edge takes agents.
pub const PATH: &str = "/.helix/tunnel";

/// What a WebSocket of an agent speaks (RFC 6455 §1.9), and a connection of QUIC (RFC 7301).
pub const SUBPROTOCOL: &str = "helix-tunnel.v1";

/// A token in the list of subprotocols, for those who cannot set other headers.
pub const TOKEN_SUBPROTOCOL: &str = "nb_token|";

/// A token in the query, for those who cannot set headers at all.
pub const TOKEN_QUERY: &str = "nb_token";

/// The version of all of this. An edge refuses an agent that speaks a later one.
pub const PROTOCOL: u32 = 1;

/// The longest version an agent may claim to be.
pub const VERSION_BYTES_MAX: usize = 64;

/// The longest name an agent may give itself to be known by.
pub const INSTANCE_BYTES_MAX: usize = 64;

/// The longest [`Entry`]: a token and what is around it.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024;

/// The longest message of [`FromAgent`].
pub const FROM_AGENT_BYTES_MAX: usize = 1024;

/// What one probe may move: enough for a way to show what it carries, little enough that
/// nobody minds.
pub const PROBE_BYTES_MAX: u32 = 1024 * 1024;

/// How an agent asks to be let in over QUIC, before there is a link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub token: String,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

/// That it is. One that is not sees the connection closed: the code is what the status of
/// an answer over HTTPS would be, the reason a word for programs, a blank, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    pub protocol: u32,
}

/// An agent's first words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    /// Of the agent, for people.
    pub version: String,
    /// Every visitor's connection is to begin with a header of the PROXY protocol,
    /// version 2, that says where it comes from.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The same in all sessions of one agent, and in no other's: one that follows another
    /// of its own does not send it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// To be welcomed only, until it says [`FromAgent::Take`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standby: bool,
}

/// What an agent says of the tunnel later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// Visitors are to come this way from now on.
    Take,
}

/// What a stream of an agent's begins with that measures the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "probe", rename_all = "snake_case")]
pub enum Probe {
    /// The agent sends what it likes and closes; [`Probed`] comes back.
    Up,
    /// So many bytes are wanted, in messages of any length.
    Down { bytes: u32 },
}

/// What came of a [`Probe::Up`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    pub bytes: u64,
}

/// What an edge says of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromEdge {
    /// Visitors come this way now.
    Welcome {
        /// As a person would type it, the best first.
        reachable: Vec<String>,
    },
    /// No more visitors come; those that are there may stay until they have finished.
    Leave { why: Leave },
}

/// Why an edge sends an agent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// Another agent of the same owner has the tunnel now.
    Replaced,
    /// The edge is going to stop: another has room.
    Draining,
    /// The tunnel is no more, or its tokens have been taken back.
    Revoked,
    /// Another session of the same agent has the tunnel now; what is open here may stay.
    Moved,
    /// To one that would stand by: as many as may measure their ways at a time do.
    Busy,
}

/// What a visitor's stream begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    pub carries: Carries,
    /// Where the visitor comes from; absent where requests of several share the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddr>,
}

/// What the messages of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carries {
    Bytes,
    Datagrams,
}

/// Reads what the other side said.
///
/// # Errors
/// When it is not what the type is.
pub fn read<T: for<'d> Deserialize<'d>>(message: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(message)
}

/// As it goes over the link.
pub fn write<T: Serialize>(said: &T) -> bytes::Bytes {
    // Plain data with names for keys: nothing of it can fail.
    serde_json::to_vec(said).unwrap_or_default().into()
}
