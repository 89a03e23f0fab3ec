//! What a server is told when it starts: [`Options`], and its limits.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::access::AccessLog;

/// Long enough for a slow mobile network, short enough that clients which send
/// a byte now and then cannot collect connections.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// A phone that passes through a tunnel comes back within this.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Shorter than the time after which supervisors commonly kill, 30 s.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Half of the usual limit of 1,024 descriptors: a connection may also hold a
/// file open.
pub(crate) const MAX_CONNECTIONS: usize = 500;

/// What to serve, where, and within which limits.
#[derive(Debug)]
pub struct Options {
    /// The folder whose content is public.
    pub root: PathBuf,
    /// Port 0 lets the system choose. `[::]` means IPv4 as well, and falls back
    /// to `0.0.0.0` where the system has no IPv6.
    pub listen: Vec<SocketAddr>,
    /// Where a line for each request goes.
    pub access_log: AccessLog,
    /// From an idle connection to a whole request header; thereby also how long
    /// a connection is kept alive between requests.
    pub header_timeout: Duration,
    /// How long a client may leave sent data unacknowledged or its window closed.
    pub stall_timeout: Duration,
    /// How long requests under way have to finish after the stop.
    pub drain_timeout: Duration,
    /// Further clients wait in the listen queue.
    pub max_connections: usize,
}

impl Options {
    /// Serves `root` on `port` of every address, logging to stdout.
    pub fn new(root: impl Into<PathBuf>, port: u16) -> Options {
        Options {
            root: root.into(),
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))],
            access_log: AccessLog::Stdout,
            header_timeout: HEADER_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
            drain_timeout: DRAIN_TIMEOUT,
            max_connections: MAX_CONNECTIONS,
        }
    }
}
