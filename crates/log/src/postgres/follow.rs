//! Learning of appends made elsewhere.
//!
//! Start at [`listen`] and [`poll`]. The one is fast and may miss any number of
//! notifications, over a lost connection for one; the other makes up for it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;

use super::rows;
use super::server::Server;
use crate::entry::Position;
use crate::newest::Newest;

/// How late a missed notification may be noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A connection that a broken network has cut off is as quiet as one on which
/// nothing happens: after this long it is replaced.
const QUIET_MAX: Duration = Duration::from_secs(60);

const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Publishes what other replicas notify of, connecting again for ever.
pub(super) async fn listen(server: Arc<Server>, newest: Arc<Newest>) {
    let mut pause = BACK_OFF_MIN;
    loop {
        if let Err(error) = listen_once(&server, &newest, &mut pause).await {
            tracing::debug!(%error, ?pause, "listening for appends was interrupted");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF_MAX);
        }
    }
}

/// Until the connection fails, or is quiet for so long that it may have.
async fn listen_once(
    server: &Server,
    newest: &Newest,
    pause: &mut Duration,
) -> Result<(), sqlx::Error> {
    // Not shared with the last attempt, whose connection may hang in its pool.
    let mut listener = PgListener::connect_with(&server.listener_pool()).await?;
    listener.listen(&server.schema.channel()).await?;
    *pause = BACK_OFF_MIN;
    // What was appended while nobody listened.
    publish_head(server, newest).await;
    while let Ok(notification) = tokio::time::timeout(QUIET_MAX, listener.recv()).await {
        if let Ok(position) = notification?.payload().parse() {
            newest.publish(Position(position));
        }
    }
    Ok(())
}

/// Publishes the head, again and again.
pub(super) async fn poll(server: Arc<Server>, newest: Arc<Newest>) {
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        publish_head(&server, &newest).await;
    }
}

async fn publish_head(server: &Server, newest: &Newest) {
    match server.run("read the head", |it| Box::pin(rows::head(it))).await {
        Ok((position, _)) => newest.publish(position),
        Err(error) => tracing::warn!(%error, "the event log cannot be followed"),
    }
}
