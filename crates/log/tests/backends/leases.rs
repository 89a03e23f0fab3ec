//! Leases: one holder at a time, another within the time to live, and an epoch
//! that tells them apart.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use helix_log::{Clock, Leases, MemoryLeases, PostgresLog, SqliteLog};

use crate::world;

const LONG: Duration = Duration::from_secs(30);

/// Leases, and a way to let time go by for them.
struct World {
    leases: Arc<dyn Leases>,
    time: Time,
}

enum Time {
    /// Milliseconds since the Unix epoch, moved by hand.
    Ours(Arc<AtomicI64>),
    /// The server's, which can only be waited for; where its database is.
    Servers(String),
}

impl World {
    async fn wait_out(&self, name: &str) {
        match &self.time {
            Time::Ours(now) => {
                if let Some(lease) = self.leases.current(name).await.unwrap() {
                    now.store(lease.expires_at_ms, Ordering::Relaxed);
                }
            }
            Time::Servers(_) => {
                let deadline = Instant::now() + LONG;
                while self.leases.current(name).await.unwrap().is_some() {
                    assert!(Instant::now() < deadline, "the lease does not run out");
                }
            }
        }
    }

    /// An hour less is on the clock. That a server's is cannot be had: what it has of
    /// leases is moved instead.
    async fn set_back(&self) {
        match &self.time {
            Time::Ours(now) => {
                now.fetch_sub(3_600_000, Ordering::Relaxed);
            }
            Time::Servers(url) => {
                let moved = "UPDATE leases SET expires_at = expires_at + interval '1 hour'";
                world::meddle(url, moved).await.unwrap();
            }
        }
    }

    /// Short where the test has to wait for it.
    fn ttl(&self) -> Duration {
        match self.time {
            Time::Ours(_) => LONG,
            Time::Servers(_) => Duration::from_millis(300),
        }
    }
}

async fn for_each_backend<F: Future<Output = ()>>(body: impl Fn(World) -> F) {
    let clock = || {
        let now = Arc::new(AtomicI64::new(1_000_000));
        let read = Arc::clone(&now);
        let clock: Clock = Arc::new(move || read.load(Ordering::Relaxed));
        (clock, Time::Ours(now))
    };
    let (ours, time) = clock();
    body(World { leases: Arc::new(MemoryLeases::new(ours)), time }).await;

    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(directory.path()).await.unwrap();
    let (ours, time) = clock();
    body(World { leases: Arc::new(log.leases(ours)), time }).await;

    if let Some(database) = world::database().await {
        let log = PostgresLog::connect(&database.url).await.unwrap();
        let time = Time::Servers(database.url.clone());
        body(World { leases: Arc::new(log.leases()), time }).await;
    }
}

#[tokio::test]
async fn one_holds_it_and_the_others_do_not() {
    for_each_backend(|world| async move {
        let leases = &world.leases;
        assert_eq!(leases.current("reconcile").await.unwrap(), None);
        let lease = leases.acquire("reconcile", "a", LONG).await.unwrap().unwrap();
        assert_eq!((lease.holder.as_str(), lease.epoch), ("a", 1));
        assert_eq!(leases.acquire("reconcile", "b", LONG).await.unwrap(), None);
        assert_eq!(leases.current("reconcile").await.unwrap(), Some(lease.clone()));
        assert_eq!(leases.acquire("other", "b", LONG).await.unwrap().unwrap().epoch, 1);

        let renewed = leases.renew(&lease, 2 * LONG).await.unwrap().unwrap();
        assert_eq!(renewed.epoch, lease.epoch);
        assert!(renewed.expires_at_ms > lease.expires_at_ms);
    })
    .await;
}

#[tokio::test]
async fn what_is_released_is_free_at_once_under_a_new_epoch() {
    for_each_backend(|world| async move {
        let leases = &world.leases;
        let first = leases.acquire("job", "a", LONG).await.unwrap().unwrap();
        leases.release(&first).await.unwrap();
        assert_eq!(leases.current("job").await.unwrap(), None);
        assert_eq!(leases.renew(&first, LONG).await.unwrap(), None);
        let second = leases.acquire("job", "b", LONG).await.unwrap().unwrap();
        assert_eq!(second.epoch, 2);
        // A release that arrives late is not the successor's.
        leases.release(&first).await.unwrap();
        assert_eq!(leases.current("job").await.unwrap(), Some(second));
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_was_cut_off_is_replaced_and_finds_its_epoch_stale() {
    for_each_backend(|world| async move {
        let leases = &world.leases;
        let cut_off = leases.acquire("job", "a", world.ttl()).await.unwrap().unwrap();
        world.wait_out("job").await;
        let successor = leases.acquire("job", "b", LONG).await.unwrap().unwrap();
        assert!(successor.epoch > cut_off.epoch);

        // It comes back, and believes in its lease still.
        assert_eq!(leases.renew(&cut_off, LONG).await.unwrap(), None);
        leases.release(&cut_off).await.unwrap();
        assert_eq!(leases.acquire("job", "a", LONG).await.unwrap(), None);
        assert_eq!(leases.current("job").await.unwrap(), Some(successor));
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_ran_out_cannot_be_renewed_even_if_nobody_took_it() {
    for_each_backend(|world| async move {
        let leases = &world.leases;
        let lease = leases.acquire("job", "a", world.ttl()).await.unwrap().unwrap();
        world.wait_out("job").await;
        assert_eq!(leases.renew(&lease, LONG).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_restarted_fences_off_its_former_self() {
    for_each_backend(|world| async move {
        let leases = &world.leases;
        let before = leases.acquire("job", "a", LONG).await.unwrap().unwrap();
        let after = leases.acquire("job", "a", LONG).await.unwrap().unwrap();
        assert_eq!(after.epoch, before.epoch + 1);
        assert_eq!(leases.renew(&before, LONG).await.unwrap(), None);
        assert!(leases.renew(&after, LONG).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn of_many_that_ask_at_once_one_gets_it() {
    for_each_backend(|world| async move {
        let mut asking = tokio::task::JoinSet::new();
        for holder in 0..8 {
            let leases = Arc::clone(&world.leases);
            asking.spawn(async move { leases.acquire("job", &holder.to_string(), LONG).await });
        }
        let got = asking.join_all().await.into_iter().filter_map(Result::unwrap).count();
        assert_eq!(got, 1);
    })
    .await;
}

#[tokio::test]
async fn the_leases_in_force_are_listed_by_the_beginning_of_their_names() {
    for_each_backend(|world| async move {
        for (name, ttl) in [("replica/b", LONG), ("replica/a", LONG), ("replicas", LONG)] {
            world.leases.acquire(name, "somebody", ttl).await.unwrap().unwrap();
        }
        let gone = world.leases.acquire("replica/c", "somebody", LONG).await.unwrap().unwrap();
        world.leases.release(&gone).await.unwrap();
        world.leases.acquire("replica/d", "somebody", world.ttl()).await.unwrap().unwrap();
        if let Time::Servers(_) = world.time {
            world.wait_out("replica/d").await;
            let held = world.leases.held("replica/").await.unwrap();
            let names: Vec<&str> = held.iter().map(|it| it.name.as_str()).collect();
            assert_eq!(names, ["replica/a", "replica/b"]);
        }
        let held = world.leases.held("replica/a").await.unwrap();
        assert_eq!((held.len(), held[0].holder.as_str()), (1, "somebody"));
        assert_eq!(world.leases.held("other").await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn what_was_held_when_the_clock_was_set_back_is_free() {
    for_each_backend(|world| async move {
        let stale = world.leases.acquire("job", "a", LONG).await.unwrap().unwrap();
        world.set_back().await;
        assert_eq!(world.leases.current("job").await.unwrap(), None);
        assert_eq!(world.leases.held("").await.unwrap(), []);
        let successor = world.leases.acquire("job", "b", LONG).await.unwrap().unwrap();
        assert_eq!(successor.epoch, stale.epoch + 1);
        assert_eq!(world.leases.renew(&stale, LONG).await.unwrap(), None);

        // Who is still there goes on.
        world.set_back().await;
        assert!(world.leases.renew(&successor, LONG).await.unwrap().is_some());
        assert_eq!(world.leases.acquire("job", "a", LONG).await.unwrap(), None);
    })
    .await;
}
