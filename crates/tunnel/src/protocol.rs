//! What an agent and an edge say to each other.
//!
//! An agent asks an edge for [`PATH`] over HTTPS, upgrades the connection to a WebSocket
//! (RFC 6455) and runs a [link](helix_link) over it. The first stream, which the agent
//! opens, is for both to speak of the tunnel: it begins with a [`Hello`], and
//! [`FromEdge`] comes back, one JSON document a message. Every other stream the edge
//! opens, one for each visitor's connection; it begins with an [`Opening`]. From then on
//! the messages of a stream of bytes are pieces of what is sent, and those of one of
//! datagrams are datagrams.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Where an edge takes agents.
pub const PATH: &str = "/.helix/tunnel";

/// What a WebSocket of an agent speaks (RFC 6455 §1.9).
pub const SUBPROTOCOL: &str = "helix-tunnel.v1";

/// A token in the list of subprotocols, for those who cannot set other headers.
pub const TOKEN_SUBPROTOCOL: &str = "nb_token|";

/// A token in the query, for those who cannot set headers at all.
pub const TOKEN_QUERY: &str = "nb_token";

/// The version of all of this. An edge refuses an agent that speaks a later one.
pub const PROTOCOL: u32 = 1;

/// The longest version an agent may claim to be.
pub const VERSION_BYTES_MAX: usize = 64;

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
