//! Leases: who of several replicas does a job that only one may do.
//!
//! Start at [`Leases`]. A lease runs out by itself, so a holder that died or was
//! cut off is replaced within its time to live. A holder that is only slow may
//! still believe in a lease it has lost; the epoch, which grows with each
//! acquisition, tells its late work from its successor's.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::LogError;

/// No lease is for longer. One that ends later than this from now was taken before the
/// clock was set back, and is not in force: what its holder left would stay in the way
/// for as long as the clock was wrong.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(60);

/// Milliseconds since the Unix epoch, for leases that have no database server
/// to ask for the time.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A job held by somebody for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    pub holder: String,
    /// Larger than that of every earlier lease of this name: a fencing token.
    pub epoch: u64,
    /// By the clock that the leases go by, in milliseconds since the Unix epoch.
    pub expires_at_ms: i64,
}

/// Hands out leases by name.
#[async_trait]
pub trait Leases: Send + Sync + 'static {
    /// Takes the lease if it is free, has run out, or is `holder`'s already; the
    /// epoch is a new one in each case, so that a holder that restarted fences
    /// off its former self. `None` when somebody else has it. A `ttl` above
    /// a minute is cut to that.
    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, LogError>;

    /// Extends `lease` to `ttl` from now. `None` when it ran out or has gone to
    /// another epoch: the holder must stop and acquire again.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Option<Lease>, LogError>;

    /// Gives `lease` up, so that another need not wait for it to run out. Does
    /// nothing when it is lost already.
    async fn release(&self, lease: &Lease) -> Result<(), LogError>;

    /// The lease of this name that is in force, whoever holds it.
    async fn current(&self, name: &str) -> Result<Option<Lease>, LogError>;

    /// The leases in force whose names begin with `prefix`, in the order of their
    /// names, at most [`HELD_MAX`].
    async fn held(&self, prefix: &str) -> Result<Vec<Lease>, LogError>;
}

/// Most leases that one question returns.
pub const HELD_MAX: usize = 1000;

/// [`Leases`] that are gone when dropped, for tests and the simulator.
pub struct MemoryLeases {
    leases: Mutex<HashMap<String, Lease>>,
    clock: Clock,
}

impl MemoryLeases {
    /// No lease is held yet.
    #[must_use]
    pub fn new(clock: Clock) -> MemoryLeases {
        MemoryLeases { leases: Mutex::default(), clock }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLeases").field("leases", &self.leases()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Leases for MemoryLeases {
    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, LogError> {
        let now = (self.clock)();
        let mut leases = self.leases();
        let last = leases.get(name);
        if last.is_some_and(|it| is_in_force(it, now) && it.holder != holder) {
            return Ok(None);
        }
        let lease = Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            epoch: last.map_or(1, |it| it.epoch + 1),
            expires_at_ms: expiry(now, ttl),
        };
        leases.insert(name.to_owned(), lease.clone());
        Ok(Some(lease))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Option<Lease>, LogError> {
        let now = (self.clock)();
        let mut leases = self.leases();
        let held = leases.get_mut(&lease.name).filter(|it| it.epoch == lease.epoch);
        Ok(held.filter(|it| it.expires_at_ms > now).map(|held| {
            held.expires_at_ms = expiry(now, ttl);
            held.clone()
        }))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LogError> {
        let mut leases = self.leases();
        if let Some(held) = leases.get_mut(&lease.name).filter(|it| it.epoch == lease.epoch) {
            held.expires_at_ms = i64::MIN;
        }
        Ok(())
    }

    async fn current(&self, name: &str) -> Result<Option<Lease>, LogError> {
        let now = (self.clock)();
        Ok(self.leases().get(name).filter(|it| is_in_force(it, now)).cloned())
    }

    async fn held(&self, prefix: &str) -> Result<Vec<Lease>, LogError> {
        let now = (self.clock)();
        let leases = self.leases();
        let named = leases.values().filter(|it| it.name.starts_with(prefix));
        let mut held: Vec<Lease> = named.filter(|it| is_in_force(it, now)).cloned().collect();
        held.sort_by(|one, other| one.name.cmp(&other.name));
        held.truncate(HELD_MAX);
        Ok(held)
    }
}

fn is_in_force(lease: &Lease, now_ms: i64) -> bool {
    lease.expires_at_ms > now_ms && lease.expires_at_ms <= expiry(now_ms, TTL_MAX)
}

pub(crate) fn expiry(now_ms: i64, ttl: Duration) -> i64 {
    now_ms.saturating_add(milliseconds(ttl))
}

pub(crate) fn milliseconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.min(TTL_MAX).as_millis()).unwrap_or(i64::MAX)
}
