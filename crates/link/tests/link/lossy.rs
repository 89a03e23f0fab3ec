//! A network that loses packets, the same ones each time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Passes on what one client and one server send each other.
pub(crate) struct Lossy {
    pub(crate) at: SocketAddr,
    percent: Arc<AtomicU64>,
    _passing: JoinSet<()>,
}

impl Lossy {
    /// To a server there. Loses nothing yet.
    pub(crate) async fn start(to: SocketAddr) -> Lossy {
        let near = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        far.connect(to).await.unwrap();
        let at = near.local_addr().unwrap();
        let percent = Arc::new(AtomicU64::new(0));
        let client = Arc::new(std::sync::OnceLock::new());
        let mut passing = JoinSet::new();
        let (own_near, own_far, own) = (near.clone(), far.clone(), client.clone());
        let mut loss = Loss { seed: 0x9e37_79b9, percent: percent.clone() };
        passing.spawn(async move {
            let mut packet = vec![0; 65_535];
            while let Ok((length, from)) = own_near.recv_from(&mut packet).await {
                own.get_or_init(|| from);
                if !loss.next() {
                    let _ = own_far.send(&packet[..length]).await;
                }
            }
        });
        let mut loss = Loss { seed: 0x7f4a_7c15, percent: percent.clone() };
        passing.spawn(async move {
            let mut packet = vec![0; 65_535];
            while let Ok(length) = far.recv(&mut packet).await {
                let client: Option<&SocketAddr> = client.get();
                if let Some(client) = client.filter(|_| !loss.next()) {
                    let _ = near.send_to(&packet[..length], client).await;
                }
            }
        });
        Lossy { at, percent, _passing: passing }
    }

    /// Loses so many packets in a hundred from now on.
    pub(crate) fn lose(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
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
