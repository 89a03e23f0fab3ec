//! A network between an agent and an edge that is slow.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a slow network carries at a time, and how long it takes for that.
const PIECE_BYTES: usize = 1024;
const PIECE_TIME: Duration = Duration::from_millis(5);

/// Passes connections on, a fifth of a megabyte a second: less than a way without this between
/// carries when all cores are busy with something else.
pub(crate) struct Slow {
    pub(crate) at: SocketAddr,
    _passing: JoinSet<()>,
}

impl Slow {
    /// To a server there.
    pub(crate) async fn start(to: SocketAddr) -> Slow {
        let near = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let at = near.local_addr().unwrap();
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = near.accept().await {
                open.spawn(async move {
                    let (from_client, to_client) = client.into_split();
                    let (from_far, to_far) = TcpStream::connect(to).await.unwrap().into_split();
                    tokio::join!(slowly(from_client, to_far), slowly(from_far, to_client));
                });
            }
        });
        Slow { at, _passing: passing }
    }
}

async fn slowly(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
    let mut piece = [0; PIECE_BYTES];
    while let Ok(length) = from.read(&mut piece).await {
        if length == 0 || to.write_all(&piece[..length]).await.is_err() {
            break;
        }
        tokio::time::sleep(PIECE_TIME).await;
    }
    let _ = to.shutdown().await;
}
