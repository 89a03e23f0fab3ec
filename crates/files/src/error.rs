//! Why the server could not start. Once it runs, a failure concerns one request
//! and becomes its status.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

/// A server that could not start.
#[derive(Debug, Error)]
pub enum FilesError {
    #[error("could not open the folder {}", .path.display())]
    Root {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("could not listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },

    #[error("no address to listen on was given")]
    NoAddress,

    #[error("could not start the thread that writes the access log")]
    AccessLog(#[source] io::Error),
}
