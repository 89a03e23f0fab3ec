//! Listening sockets: both address families through one where the system can.
//!
//! Start at [`listen`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

use crate::error::FilesError;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A listener for each of `addresses`.
pub(crate) fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, FilesError> {
    if addresses.is_empty() {
        return Err(FilesError::NoAddress);
    }
    let has_ipv4 = |port| addresses.iter().any(|it| it.is_ipv4() && it.port() == port);
    let listen_on = |&address: &SocketAddr| {
        listen_on(address, has_ipv4(address.port()))
            .map_err(|source| FilesError::Listen { address, source })
    };
    addresses.iter().map(listen_on).collect()
}

fn listen_on(address: SocketAddr, ipv6_only: bool) -> io::Result<TcpListener> {
    let outcome = bind(address, ipv6_only);
    let is_any = address.is_ipv6() && address.ip().is_unspecified();
    match outcome {
        Err(error) if is_any && !ipv6_only && is_without_ipv6(&error) => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), false)
        }
        outcome => outcome,
    }
}

fn bind(address: SocketAddr, ipv6_only: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // The system's default for this is a setting somebody may change.
            setsockopt(&socket, sockopt::Ipv6V6Only, &ipv6_only)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}
