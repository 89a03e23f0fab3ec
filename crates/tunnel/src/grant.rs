//! What an agent is let in by, and who gives it.

use std::fmt;

use async_trait::async_trait;

use crate::transport::Transport;

/// Leave to attach, once at each edge over each transport, for some minutes.
#[derive(Clone)]
pub struct Grant {
    /// The tunnel's id, for people.
    pub tunnel: String,
    /// Where visitors find it.
    pub public_url: String,
    /// Where to attach, the best first.
    pub candidates: Vec<Candidate>,
    /// Shown to the edge. Never in a log.
    pub token: String,
    /// When the token ends, seconds since the epoch.
    pub expires_at_s: u64,
    /// Who vouches for edges, in PEM.
    pub edge_roots: String,
}

/// One edge and one way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What people call the edge.
    pub edge: String,
    /// `wss://host:port/path`, or `quic://host:port`.
    pub url: String,
}

impl Candidate {
    /// What the way is over; `None` where this is older than the edge.
    pub fn transport(&self) -> Option<Transport> {
        Transport::of(&self.url)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("tunnel", &self.tunnel)
            .field("candidates", &self.candidates)
            .field("expires_at_s", &self.expires_at_s)
            .finish_non_exhaustive()
    }
}

/// Why there is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Asking again comes to the same.
    #[error("{0}")]
    Refused(String),
    /// It may be there in a moment.
    #[error("{0}")]
    Later(String),
}

/// Gives grants: a control plane, asked in whatever way.
#[async_trait]
pub trait Grants: Send + Sync + 'static {
    /// Another grant for the same tunnel.
    async fn grant(&self) -> Result<Grant, GrantError>;
}
