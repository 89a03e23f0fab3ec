//! Where visitors go: to a program that listens on this machine, or to what embeds the
//! agent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use helix_link::{Receiver, Sender, Stream};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::protocol::{Carries, Opening};

/// The program is on this machine, or near: one that takes longer is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is read of it at a time.
const READ_BYTES: usize = 32 * 1024;

/// No datagram is longer (RFC 768).
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// One visitor's connection.
#[derive(Debug)]
pub struct Visitor {
    pub opening: Opening,
    pub stream: Stream,
}

/// Takes visitors.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Carries one to its end. A stream that is dropped ends as a connection would.
    async fn carry(&self, visitor: Visitor);
}

/// Passes visitors on to a program that listens.
#[derive(Clone, Debug)]
pub struct Forward {
    /// `127.0.0.1:3000`, or a name and a port.
    pub to: String,
}

#[async_trait]
impl Service for Forward {
    async fn carry(&self, visitor: Visitor) {
        let Visitor { opening, stream } = visitor;
        let outcome = match opening.carries {
            Carries::Bytes => self.connection(stream).await,
            Carries::Datagrams => self.datagrams(stream).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(to = self.to, %error, "a visitor was not served to the end");
        }
    }
}

impl Forward {
    async fn connection(&self, stream: Stream) -> io::Result<()> {
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.to)).await;
        let local = match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(local) => local,
            Err(error) => {
                stream.sender.reset(&format!("{} does not answer: {error}", self.to));
                return Err(error);
            }
        };
        let _ = local.set_nodelay(true);
        let (from_local, to_local) = local.into_split();
        let Stream { sender, receiver } = stream;
        let up = up(from_local, sender);
        let down = down(receiver, to_local);
        tokio::try_join!(up, down).map(|_| ())
    }

    async fn datagrams(&self, stream: Stream) -> io::Result<()> {
        let Stream { sender, mut receiver } = stream;
        let to = tokio::net::lookup_host(&self.to).await?.next();
        let to = to.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let local = UdpSocket::bind(any).await?;
        local.connect(to).await?;
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            tokio::select! {
                sent = receiver.next() => match sent.map_err(io::Error::other)? {
                    // What the program does not take is lost, as it would be without us.
                    Some(datagram) => drop(local.send(&datagram).await),
                    None => return Ok(()),
                },
                received = local.recv(&mut buffer) => if let Ok(length) = received {
                    sender.try_send(&buffer[..length]);
                },
            }
        }
    }
}

/// What the program says, to the visitor.
async fn up(from: OwnedReadHalf, mut to: Sender) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        // An idle connection holds no buffer.
        from.readable().await?;
        buffer.reserve(READ_BYTES);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => break,
            Ok(_) => to.send(buffer.split().freeze()).await.map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                to.reset("the program broke the connection off");
                return Err(error);
            }
        }
    }
    to.close();
    Ok(())
}

/// What the visitor says, to the program.
async fn down(mut from: Receiver, mut to: OwnedWriteHalf) -> io::Result<()> {
    loop {
        match from.next().await {
            Ok(Some(piece)) => to.write_all(&piece).await?,
            Ok(None) => return to.shutdown().await,
            Err(error) => {
                // The program sees that it was broken off, not brought to an end.
                let _ = socket2::SockRef::from(to.as_ref()).set_linger(Some(Duration::ZERO));
                return Err(io::Error::other(error));
            }
        }
    }
}
