//! A new process takes the listening sockets of the one that runs, so that a new binary
//! replaces the old without a refused connection.
//!
//! They meet at a Unix socket in the data directory. The old one (`give`) sends its sockets
//! one by one (`SCM_RIGHTS`), each with what it is; the new one (`take`) acknowledges each,
//! serves them all, and says so. Only then does the old one stop to accept; what is open
//! there goes on. Until that word nothing has changed for the old one, whatever becomes of
//! the new. A listening socket that two processes hold is one queue, which either may take
//! from: nothing is refused and nothing is lost in between.

mod give;
mod take;

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use give::{Fronts, listen, offer};
pub(crate) use take::Taken;

use crate::table::PortKey;
use helix_model::manifest::Transport;

/// Longest message: what a socket is, as JSON.
const MESSAGE_BYTES_MAX: usize = 512;

/// How long one waits for the other's next word.
const WORD_WAIT: Duration = Duration::from_secs(5);

/// How long the new one may take to serve what it was given: it applies its whole plan.
const READY_WAIT: Duration = Duration::from_secs(60);

/// A message was received.
const ACKNOWLEDGED: u8 = b'A';

/// All is served.
const READY: u8 = b'R';

/// Which socket it is. Also a contract between versions: what one does not know it lets
/// close, and opens its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "socket", rename_all = "snake_case")]
pub(crate) enum Named {
    /// A shared listener, by what is spoken there and the address that was asked for.
    Front { what: String, asked: SocketAddr },
    /// That of a port of an endpoint's own.
    Port { udp: bool, address: Ipv6Addr, port: u16 },
    /// No socket: that was all.
    End,
}

impl Named {
    pub(crate) fn port(key: PortKey) -> Named {
        let udp = key.transport == Transport::Udp;
        Named::Port { udp, address: key.own.address, port: key.own.listen_port }
    }
}
