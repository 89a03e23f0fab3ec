//! Why an edge could not start.

use std::io;
use std::net::SocketAddr;

/// Why an edge could not start. Anything that concerns one endpoint is not an
/// error but part of the report.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A shared listener has nowhere to accept.
    #[error("cannot accept {what} on {address}")]
    Listen {
        /// What is spoken there.
        what: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The edge that runs cannot be taken over.
    #[error("the edge that runs cannot be taken over")]
    Takeover(#[source] io::Error),
    /// The access log cannot be written.
    #[error("cannot write the access log to {to}")]
    AccessLog {
        /// The file.
        to: String,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The threads that carry connections cannot be started.
    #[error("the threads that carry connections cannot be started")]
    Threads(#[source] io::Error),
    /// TLS cannot be spoken at all.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

impl EdgeError {
    /// What to try.
    pub fn hint(&self) -> String {
        let EdgeError::Listen { what, address, source } = self else {
            return match self {
                EdgeError::Takeover(_) => "it goes on; stop it, or try again",
                EdgeError::AccessLog { .. } => "choose another file with `--access-log`",
                _ => "`helix doctor` checks the machine",
            }
            .to_owned();
        };
        let flag = match *what {
            "metrics" => "--edge-metrics".to_owned(),
            what => format!("--{}-port", what.to_ascii_lowercase()),
        };
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "another program uses port {}: stop it or choose another with `{flag}`",
                    address.port()
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!(
                    "port {} needs privileges: choose one from 1024 up with `{flag}`",
                    address.port()
                )
            }
            _ => "check that the address is one of this machine's".to_owned(),
        }
    }
}
