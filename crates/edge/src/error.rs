//! Why an edge could not start.

use std::io;
use std::net::SocketAddr;

/// Why an edge could not start. Anything that concerns one endpoint is not an
/// error but part of the report.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The shared HTTP listener has nowhere to accept.
    #[error("cannot accept HTTP on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

impl EdgeError {
    /// What to try.
    pub fn hint(&self) -> String {
        let EdgeError::Listen { address, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "another program uses port {}: stop it or choose another port",
                    address.port()
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("port {} needs privileges: choose one from 1024 up", address.port())
            }
            _ => "check that the address is one of this machine's".to_owned(),
        }
    }
}
