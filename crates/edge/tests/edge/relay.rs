//! Networks between an agent and an edge: one that loses packets, one that is slow.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// All of them.
pub(crate) const ALL: u64 = 100;

/// Passes packets on, and loses so many in a hundred: the same ones each time.
pub(crate) struct Lossy {
    pub(crate) at: SocketAddr,
    percent: Arc<AtomicU64>,
    _passing: JoinSet<()>,
}

impl Lossy {
    /// To a server there. Loses nothing yet.
    pub(crate) async fn start(to: SocketAddr) -> Lossy {
        let near = Arc::new(UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap());
        let at = near.local_addr().unwrap();
        let percent = Arc::new(AtomicU64::new(0));
        let mut passing = JoinSet::new();
        passing.spawn(pass(near, to, Arc::clone(&percent)));
        Lossy { at, percent, _passing: passing }
    }

    pub(crate) fn lose(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }
}

async fn pass(near: Arc<UdpSocket>, to: SocketAddr, percent: Arc<AtomicU64>) {
    let (mut clients, mut back) = (HashMap::new(), JoinSet::new());
    let mut loss = Loss { seed: 0x9e37_79b9, percent: Arc::clone(&percent) };
    let mut packet = vec![0; 65_535];
    while let Ok((length, from)) = near.recv_from(&mut packet).await {
        if let Entry::Vacant(fresh) = clients.entry(from) {
            let far = Arc::new(UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap());
            far.connect(to).await.unwrap();
            let loss = Loss { seed: 0x7f4a_7c15, percent: Arc::clone(&percent) };
            back.spawn(pass_back(Arc::clone(&far), Arc::clone(&near), from, loss));
            fresh.insert(far);
        }
        if !loss.next() {
            let _ = clients[&from].send(&packet[..length]).await;
        }
    }
}

async fn pass_back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, to: SocketAddr, mut loss: Loss) {
    let mut packet = vec![0; 65_535];
    while let Ok(length) = far.recv(&mut packet).await {
        if !loss.next() {
            let _ = near.send_to(&packet[..length], to).await;
        }
    }
}

/// Which packets are lost (xorshift).
struct Loss {
    seed: u64,
    percent: Arc<AtomicU64>,
}

impl Loss {
    fn next(&mut self) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % 100 < self.percent.load(Ordering::Relaxed)
    }
}

/// What a slow network carries at a time, and how long it takes for that.
const PIECE_BYTES: usize = 1024;
const PIECE_TIME: Duration = Duration::from_millis(2);

/// Passes connections on, half a megabyte a second.
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
