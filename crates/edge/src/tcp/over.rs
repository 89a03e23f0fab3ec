//! Carrying a connection whose backend is behind an agent: bytes of the client become
//! messages of a stream, and the other way round.

use std::io;

use bytes::BytesMut;
use helix_link::{Receiver, Sender, Stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::pump::Passing;

/// What is read of a client at a time: a frame of the link.
const READ_BYTES: usize = 32 * 1024;

/// Carries both directions to their end. `first` precedes what the client sends.
pub(super) async fn carry(
    client: &mut TcpStream,
    stream: Stream,
    first: Vec<u8>,
    (received, sent): (Passing<'_>, Passing<'_>),
) -> io::Result<((), ())> {
    let (from_client, to_client) = client.split();
    let Stream { sender, receiver } = stream;
    let up = up(from_client, sender, first, received);
    tokio::try_join!(up, down(receiver, to_client, sent))
}

async fn up(
    from: ReadHalf<'_>,
    mut to: Sender,
    first: Vec<u8>,
    passing: Passing<'_>,
) -> io::Result<()> {
    let mut buffer = BytesMut::from(&*first);
    drop(first);
    loop {
        if !buffer.is_empty() {
            let length = buffer.len();
            to.send(buffer.split().freeze()).await.map_err(io::Error::other)?;
            passing.add(length);
        }
        // A connection that waits for its client holds no buffer.
        from.readable().await?;
        buffer.reserve(READ_BYTES);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => buffer = BytesMut::new(),
            Err(error) => {
                to.reset("the visitor broke the connection off");
                return Err(error);
            }
        }
    }
    to.close();
    Ok(())
}

async fn down(mut from: Receiver, mut to: WriteHalf<'_>, passing: Passing<'_>) -> io::Result<()> {
    while let Some(piece) = from.next().await.map_err(io::Error::other)? {
        to.write_all(&piece).await?;
        passing.add(piece.len());
    }
    to.shutdown().await
}
