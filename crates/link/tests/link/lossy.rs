//! A network that loses packets, the same ones each time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Passes packets on, and loses so many in a hundred: the same ones each time.
pub(crate) struct Lossy {
    pub(crate) at: SocketAddr,
    percent: Arc<AtomicU64>,
    _passing: JoinSet<()>,
}

impl Lossy {
    /// To a server there. Loses nothing yet.
    pub(crate) async fn start(to: SocketAddr) -> Lossy {
        let near = Arc::new(beside(to).await.unwrap());
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

/// On the loopback that is this address's.
async fn beside(address: SocketAddr) -> std::io::Result<UdpSocket> {
    UdpSocket::bind((address.ip(), 0)).await
}

async fn pass(near: Arc<UdpSocket>, to: SocketAddr, percent: Arc<AtomicU64>) {
    let (mut clients, mut back) = (HashMap::new(), JoinSet::new());
    let mut loss = Loss { seed: 0x9e37_79b9, percent: Arc::clone(&percent) };
    let mut packet = vec![0; 65_535];
    while let Ok((length, from)) = near.recv_from(&mut packet).await {
        if let Entry::Vacant(fresh) = clients.entry(from) {
            let far = Arc::new(beside(to).await.unwrap());
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
