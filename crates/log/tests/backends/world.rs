//! Databases of the tests' own.
//!
//! Start at [`database`] for an empty database on a server that tests share, or
//! at [`Cluster::start`] for a server to be killed.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use helix_log::{Batch, NewEntry, NewReceipt, Position};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

pub(crate) use crate::cluster::Cluster;

/// An empty database; keeps its server alive.
pub(crate) struct Database {
    pub(crate) url: String,
    _cluster: Arc<Cluster>,
}

/// A database on the shared server; `None`, having said so, without PostgreSQL.
pub(crate) async fn database() -> Option<Database> {
    let cluster = shared()?;
    let url = cluster.create_database();
    Some(Database { url, _cluster: cluster })
}

/// The server all tests of this run use at a time; ends with the last of them.
fn shared() -> Option<Arc<Cluster>> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = shared.upgrade() {
        return Some(cluster);
    }
    let cluster = Arc::new(Cluster::start()?);
    *shared = Arc::downgrade(&cluster);
    Some(cluster)
}

/// Somebody at a psql prompt.
pub(crate) async fn prompt(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

pub(crate) async fn meddle(url: &str, statements: &str) -> Result<(), sqlx::Error> {
    let mut prompt = prompt(url).await;
    let done = prompt.execute(statements).await.map(drop);
    let _ = prompt.close().await;
    done
}

pub(crate) fn events(payloads: &[&str]) -> Vec<NewEntry> {
    let entry = |(at, it): (usize, &&str)| NewEntry {
        at_ms: 1_000 + at as i64,
        payload: it.as_bytes().to_vec(),
    };
    payloads.iter().enumerate().map(entry).collect()
}

pub(crate) fn receipt(key: &str, at_ms: i64) -> NewReceipt {
    NewReceipt { key: key.to_owned(), request_hash: [7; 32], body: b"answer".to_vec(), at_ms }
}

/// A batch of `count` events of `log`'s that follow `expected`.
pub(crate) fn batch_of(expected: u64, count: u64) -> Batch {
    let entry = |at: u64| NewEntry {
        at_ms: i64::try_from(at).unwrap(),
        payload: format!("event {at}").into_bytes(),
    };
    Batch::of_entries(Position(expected), (expected + 1..=expected + count).map(entry).collect())
}
