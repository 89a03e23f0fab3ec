//! The replicas of one installation: each lets the others know that it is there
//! and where it is reached, by a lease.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use helix_log::{Lease, Leases};
use helix_model::{AnyId, Command, edge, node};
use tokio::time::{Instant, timeout, timeout_at};

use crate::engine::Engine;
use crate::observe;

/// What the leases of replicas are called: this and the URL.
const PREFIX: &str = "replica/";

/// A replica that has not been heard of for this long is gone.
const TTL: Duration = Duration::from_secs(6);

/// How often a replica lets the others know, and looks who is there.
const INTERVAL: Duration = Duration::from_secs(2);

/// The lease of the one that reconciles.
const LEADER: &str = "reconciler";

/// Without its holder renewing it, another takes over within this and
/// [`LEADER_RETRY`], well below the promised five seconds.
const LEADER_TTL: Duration = Duration::from_secs(3);
const LEADER_RENEW: Duration = Duration::from_millis(750);
const LEADER_RETRY: Duration = Duration::from_millis(500);

/// A node whose replica has not been there for this long is not connected: its
/// replica died, and it has found no other.
const ORPHANED_AFTER: Duration = Duration::from_secs(15);

/// How often that is looked at.
const ORPHANS_INTERVAL: Duration = Duration::from_secs(3);

/// This replica among the others.
pub(crate) struct Replicas {
    /// Where the others reach it.
    pub url: String,
    /// Tells it from its former self.
    id: String,
    leases: Arc<dyn Leases>,
    known: ArcSwap<BTreeMap<String, String>>,
}

impl Replicas {
    pub(crate) fn new(url: String, leases: Arc<dyn Leases>) -> Replicas {
        let id = ulid::Ulid::from(crate::entropy::fresh()).to_string();
        Replicas { url, id, leases, known: ArcSwap::default() }
    }

    /// The others, as far as is known.
    pub(crate) fn others(&self) -> Vec<String> {
        self.known.load().keys().filter(|url| **url != self.url).cloned().collect()
    }

    /// All that are there, and which of them reconciles.
    pub(crate) async fn list(&self) -> Result<(Vec<String>, Option<String>), helix_log::LogError> {
        let held = by_url(self.leases.held(PREFIX).await?);
        let leader = self.leases.current(LEADER).await?.map(|lease| lease.holder);
        let leads = held.iter().find(|(_, id)| Some(*id) == leader.as_ref());
        let leads = leads.map(|(url, _)| url.clone());
        Ok((held.into_keys().collect(), leads))
    }

    /// Is there, for the others, until dropped.
    pub(crate) async fn attend(&self) {
        let name = format!("{PREFIX}{}", self.url);
        let mut lease: Option<Lease> = None;
        loop {
            let renewed = match &lease {
                Some(held) => timeout(TTL, self.leases.renew(held, TTL)).await,
                None => timeout(TTL, self.leases.acquire(&name, &self.id, TTL)).await,
            };
            match renewed {
                Ok(Ok(None)) if lease.is_none() => tracing::warn!(
                    url = self.url,
                    "another replica says that it is reached there; is it this one's former self?"
                ),
                Ok(Ok(held)) => lease = held,
                Ok(Err(error)) => tracing::warn!(%error, "the other replicas cannot be told"),
                Err(_) => lease = None,
            }
            if let Ok(Ok(held)) = timeout(TTL, self.leases.held(PREFIX)).await {
                self.known.store(Arc::new(by_url(held)));
            }
            tokio::time::sleep(if lease.is_some() { INTERVAL } else { LEADER_RETRY }).await;
        }
    }

    /// Does a job for as long as this replica is the one to do it, again and
    /// again; until dropped.
    pub(crate) async fn lead<F: Future<Output = ()>>(&self, job: impl Fn() -> F) {
        loop {
            let began = Instant::now();
            let acquired = self.leases.acquire(LEADER, &self.id, LEADER_TTL);
            match timeout(LEADER_TTL, acquired).await {
                Ok(Ok(Some(lease))) => {
                    tracing::info!(epoch = lease.epoch, "this replica reconciles from now on");
                    tokio::select! {
                        () = job() => {}
                        () = self.keep(&lease, began + LEADER_TTL) => {}
                    }
                    tracing::info!("this replica does not reconcile any more");
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the lease cannot be asked for"),
                Err(_) => {}
            }
            tokio::time::sleep(LEADER_RETRY).await;
        }
    }

    /// Renews until the lease is lost or may be: by this machine's own clock,
    /// counted from before each question.
    async fn keep(&self, lease: &Lease, mut until: Instant) {
        loop {
            tokio::time::sleep(LEADER_RENEW).await;
            let began = Instant::now();
            match timeout_at(until, self.leases.renew(lease, LEADER_TTL)).await {
                Ok(Ok(Some(_))) => until = began + LEADER_TTL,
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the lease cannot be renewed yet"),
            }
        }
    }

    /// Gives up what this replica holds, so that others need not wait.
    pub(crate) async fn leave(&self) {
        for name in [LEADER.to_owned(), format!("{PREFIX}{}", self.url)] {
            let leaving = async {
                let held = self.leases.current(&name).await?;
                match held.filter(|lease| lease.holder == self.id) {
                    Some(lease) => self.leases.release(&lease).await,
                    None => Ok(()),
                }
            };
            // They run out by themselves.
            let _ = timeout(LEADER_TTL, leaving).await;
        }
    }

    /// Notes of nodes and edges whose replica is gone that they are not connected; a
    /// job for the one that reconciles.
    pub(crate) async fn tend_orphans(&self, engine: &Engine) {
        let mut missing: HashMap<(AnyId, u64), Instant> = HashMap::new();
        loop {
            tokio::time::sleep(ORPHANS_INTERVAL).await;
            let Ok(Ok(held)) = timeout(TTL, self.leases.held(PREFIX)).await else { continue };
            let there = by_url(held);
            let state = engine.state();
            let is_gone = |connected: bool, replica: &Option<String>| {
                connected && replica.as_ref().is_some_and(|url| !there.contains_key(url))
            };
            let nodes = state.nodes.iter().map(|it| (it.id.any(), &it.status));
            let nodes = nodes.map(|(id, it)| (id, it.link, it.connected, &it.replica));
            let edges = state.edges.iter().map(|it| (it.id.any(), &it.status));
            let edges = edges.map(|(id, it)| (id, it.link, it.connected, &it.replica));
            let orphans: Vec<(AnyId, u64)> = nodes
                .chain(edges)
                .filter(|(_, _, connected, replica)| is_gone(*connected, replica))
                .map(|(id, link, ..)| (id, link))
                .collect();
            drop(state);
            missing.retain(|orphan, _| orphans.contains(orphan));
            for orphan in orphans {
                let since = *missing.entry(orphan).or_insert_with(Instant::now);
                if since.elapsed() >= ORPHANED_AFTER {
                    let Some(command) = disconnect(orphan) else { continue };
                    observe::report_once(engine, "replicas", command).await;
                }
            }
        }
    }
}

/// The command by which a machine is no longer connected.
fn disconnect((id, link): (AnyId, u64)) -> Option<Command> {
    let node = id.typed().map(|node| Command::DisconnectNode(node::Disconnect { node, link }));
    let edge = || {
        let edge = id.typed()?;
        Some(Command::DisconnectEdge(edge::Disconnect { edge, link }))
    };
    node.or_else(edge)
}

/// Ids of replicas by URL.
fn by_url(held: Vec<Lease>) -> BTreeMap<String, String> {
    let url = |lease: Lease| Some((lease.name.strip_prefix(PREFIX)?.to_owned(), lease.holder));
    held.into_iter().filter_map(url).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use helix_log::MemoryLeases;

    use super::*;

    /// Replicas whose leases go by the paused clock of the test.
    fn replicas(count: usize) -> Vec<Arc<Replicas>> {
        let began = Instant::now();
        let clock: helix_log::Clock = Arc::new(move || began.elapsed().as_millis() as i64);
        let leases: Arc<dyn Leases> = Arc::new(MemoryLeases::new(clock));
        let url = |number| format!("http://replica-{number}");
        let new = |number| Arc::new(Replicas::new(url(number), Arc::clone(&leases)));
        (0..count).map(new).collect()
    }

    fn leading(replica: &Arc<Replicas>, at_work: &Arc<AtomicUsize>) -> tokio::task::JoinHandle<()> {
        let (replica, at_work) = (Arc::clone(replica), Arc::clone(at_work));
        tokio::spawn(async move {
            replica
                .lead(|| async {
                    let _busy = Busy::new(&at_work);
                    std::future::pending::<()>().await;
                })
                .await;
        })
    }

    struct Busy<'a>(&'a AtomicUsize);

    impl Busy<'_> {
        fn new(count: &AtomicUsize) -> Busy<'_> {
            count.fetch_add(1, Ordering::Relaxed);
            Busy(count)
        }
    }

    impl Drop for Busy<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_replica_leads_and_another_takes_over_within_five_seconds() {
        let replicas = replicas(3);
        let at_work = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = replicas.iter().map(|it| leading(it, &at_work)).collect();
        let attending = replicas.clone().into_iter().map(|it| async move { it.attend().await });
        for it in attending {
            tokio::spawn(it);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(at_work.load(Ordering::Relaxed), 1);
        let (all, leader) = replicas[0].list().await.unwrap();
        assert_eq!(all, ["http://replica-0", "http://replica-1", "http://replica-2"]);
        assert_eq!(replicas[0].others(), all[1..]);
        let leader = leader.unwrap();
        let index = all.iter().position(|url| *url == leader).unwrap();
        // As a kill would: nothing is released.
        tasks[index].abort();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(at_work.load(Ordering::Relaxed), 1);
        let (_, next) = replicas[0].list().await.unwrap();
        assert_ne!(next.unwrap(), leader);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_is_replaced_at_once() {
        let replicas = replicas(2);
        let at_work = Arc::new(AtomicUsize::new(0));
        let first = leading(&replicas[0], &at_work);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _second = leading(&replicas[1], &at_work);
        tokio::time::sleep(Duration::from_secs(10)).await;
        first.abort();
        replicas[0].leave().await;
        tokio::time::sleep(LEADER_RETRY * 2).await;
        assert_eq!(at_work.load(Ordering::Relaxed), 1);
    }
}
