//! One backend as the edge sees it: its address, its open work, whether it was
//! unreachable a moment ago, and its idle HTTP connections.
//!
//! Lives as long as any table names it; tables share it across generations.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use helix_model::{Id, Instance};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::config::{CONNECT_TIMEOUT, EJECTION};
use crate::http::{IdleConnections, Multiplexed};
use crate::sockets;
use crate::work::{OpenWork, Work};

/// Ejection times are kept as milliseconds since this moment, in an atomic.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One backend.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) instance: Id<Instance>,
    address: SocketAddr,
    work: Arc<Work>,
    /// When the backend may be chosen again; 0 when it never failed.
    ejected_until_ms: AtomicU64,
    pub(crate) idle: IdleConnections,
    pub(crate) multiplexed: Multiplexed,
}

impl Upstream {
    pub(crate) fn new(instance: Id<Instance>, address: SocketAddr, work: Arc<Work>) -> Upstream {
        LazyLock::force(&EPOCH);
        Upstream {
            instance,
            address,
            work,
            ejected_until_ms: AtomicU64::new(0),
            idle: IdleConnections::default(),
            multiplexed: Multiplexed::default(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How much is open on it.
    pub(crate) fn open(&self) -> u64 {
        self.work.count()
    }

    /// Opens work on the backend, unless it is draining.
    pub(crate) fn open_work(&self) -> Option<OpenWork> {
        self.work.open()
    }

    pub(crate) fn is_ejected(&self) -> bool {
        let until = self.ejected_until_ms.load(Ordering::Relaxed);
        until != 0 && now_ms() < until
    }

    /// A fresh connection. Failure ejects the backend for a moment.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let outcome = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match outcome {
            Ok(stream) => {
                self.ejected_until_ms.store(0, Ordering::Relaxed);
                sockets::prepare_stream(&stream);
                Ok(stream)
            }
            Err(error) => {
                let until = now_ms() + u64::try_from(EJECTION.as_millis()).unwrap_or(u64::MAX);
                self.ejected_until_ms.store(until, Ordering::Relaxed);
                tracing::debug!(instance = %self.instance, address = %self.address, %error, "backend unreachable");
                Err(error)
            }
        }
    }
}

fn now_ms() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
}
