//! Learning of appends made elsewhere.
//!
//! Start at [`listen`] and [`poll`]. The one is fast and may miss any number of
//! notifications, over a lost connection for one; the other makes up for it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};

use super::rows;
use super::server::Server;
use crate::entry::Position;
use crate::newest::Newest;

/// How late a missed notification may be noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Publishes what other replicas notify of, connecting again for ever.
pub(super) async fn listen(connections: PgPool, newest: Arc<Newest>) {
    let mut pause = BACK_OFF_MIN;
    loop {
        let Err(error) = listen_once(&connections, &newest, &mut pause).await;
        tracing::debug!(%error, ?pause, "listening for appends was interrupted");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACK_OFF_MAX);
    }
}

async fn listen_once(
    connections: &PgPool,
    newest: &Newest,
    pause: &mut Duration,
) -> Result<std::convert::Infallible, sqlx::Error> {
    let mut listener = PgListener::connect_with(connections).await?;
    listener.listen(rows::CHANNEL).await?;
    *pause = BACK_OFF_MIN;
    loop {
        if let Ok(position) = listener.recv().await?.payload().parse() {
            newest.publish(Position(position));
        }
    }
}

/// Publishes the head, again and again.
pub(super) async fn poll(server: Arc<Server>, newest: Arc<Newest>) {
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match server.run("read the head", |it| Box::pin(rows::head(it))).await {
            Ok((position, _)) => newest.publish(position),
            Err(error) => tracing::warn!(%error, "the event log cannot be followed"),
        }
    }
}
