//! One TCP connection: find a backend, carry both directions, end as they end.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::pump::pump;
use crate::service::Service;
use crate::shared::Shared;
use crate::sockets;
use crate::stats::{Gauge, count};
use crate::table::TcpKey;
use crate::work::OpenWork;

/// How often a client may be sent to the backends of a newer table because
/// those of the one it started with have all gone.
const TABLES: usize = 3;

/// Carries one client's connection to its end.
pub(crate) async fn carry(shared: Arc<Shared>, key: TcpKey, mut client: TcpStream) {
    count(&shared.counters.tcp_connections);
    let _open = Gauge::open(&shared.counters.tcp_connections_open);
    let Some((mut backend, _work)) = connect(&shared, key).await else {
        count(&shared.counters.tcp_refused);
        sockets::reset(client);
        return;
    };
    let bytes = &shared.counters.tcp_bytes;
    let (from_client, to_client) = client.split();
    let (from_backend, to_backend) = backend.split();
    let both = async {
        tokio::try_join!(pump(from_client, to_backend, bytes), pump(from_backend, to_client, bytes),)
    };
    let outcome = shared.closing.interrupts(both).await;
    if !matches!(outcome, Some(Ok(_))) {
        // Each side learns that it was broken off, not brought to an end.
        tracing::debug!(?outcome, "connection broken off");
        sockets::reset_on_close(&client);
        sockets::reset_on_close(&backend);
    }
}

async fn connect(shared: &Shared, key: TcpKey) -> Option<(TcpStream, OpenWork)> {
    let mut service: Option<Arc<Service>> = None;
    for _ in 0..TABLES {
        let current = shared.table.load().tcp(key).cloned()?;
        if service.is_some_and(|tried| Arc::ptr_eq(&tried, &current)) {
            return None;
        }
        let mut attempts = current.attempts();
        while let Some((upstream, work)) = attempts.next() {
            if let Ok(stream) = upstream.connect().await {
                return Some((stream, work));
            }
        }
        service = Some(current);
    }
    None
}
