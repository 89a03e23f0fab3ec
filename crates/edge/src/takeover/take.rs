//! The side that comes: takes the sockets of the one that runs.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use super::{ACKNOWLEDGED, MESSAGE_BYTES_MAX, Named, READY, WORD_WAIT};
use crate::table::PortKey;

/// Sockets that were taken and are not in use yet, and who gave them.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    sockets: BTreeMap<Named, OwnedFd>,
    giver: Option<UnixStream>,
}

impl Taken {
    /// What the process that offers at `path` has; nothing when there is none.
    pub(crate) fn from(path: &Path) -> io::Result<Taken> {
        let mut giver = match UnixStream::connect(path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                tracing::info!("there is no edge to take over");
                return Ok(Taken::default());
            }
            outcome => outcome?,
        };
        giver.set_read_timeout(Some(WORD_WAIT))?;
        giver.set_write_timeout(Some(WORD_WAIT))?;
        let mut sockets = BTreeMap::new();
        loop {
            let (named, socket) = receive(&giver)?;
            giver.write_all(&[ACKNOWLEDGED])?;
            match (named, socket) {
                (Some(Named::End), _) => break,
                (Some(named), Some(socket)) => drop(sockets.insert(named, socket)),
                // Of a version that has more to give.
                _ => {}
            }
        }
        tracing::info!(sockets = sockets.len(), "taking an edge over");
        Ok(Taken { sockets, giver: Some(giver) })
    }

    /// The shared listener that was asked for with this address.
    pub(crate) fn front(
        &mut self,
        what: &str,
        asked: SocketAddr,
    ) -> io::Result<Option<TcpListener>> {
        let named = Named::Front { what: what.to_owned(), asked };
        self.sockets.remove(&named).map(listener).transpose()
    }

    /// The listener of a port.
    pub(crate) fn listener(&mut self, key: PortKey) -> io::Result<Option<TcpListener>> {
        self.sockets.remove(&Named::port(key)).map(listener).transpose()
    }

    /// What takes datagrams on one.
    pub(crate) fn datagrams(&mut self, key: PortKey) -> io::Result<Option<UdpSocket>> {
        let datagrams = |socket| {
            let socket = UdpSocket::from(socket);
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        self.sockets.remove(&Named::port(key)).map(datagrams).transpose()
    }

    /// Says that all is served. What was not needed is closed.
    pub(crate) fn served(self) {
        if let Some(mut giver) = self.giver
            && let Err(error) = giver.write_all(&[READY])
        {
            tracing::warn!(%error, "the process before cannot be told that it is done");
        }
    }
}

fn listener(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A message and what comes with it; no name for one that is not understood. There is one
/// under way at a time, so that what is read is one whole message.
fn receive(giver: &UnixStream) -> io::Result<(Option<Named>, Option<OwnedFd>)> {
    let mut message = [0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut message)];
    let received = recvmsg(giver, slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    Ok((serde_json::from_slice(&message[..received.bytes]).ok(), socket))
}
