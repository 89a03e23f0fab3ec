//! Fetches the certificates the plan wants, and again what nears its end.
//!
//! What is in use stays in use until its successor is here. Keys are in memory and
//! nowhere else: this process's, and where the machine has such a place (`kept`) the
//! machine's, for the time when this process is gone and no server is in reach.

use std::net::Ipv6Addr;
use std::pin::Pin as Pinned;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use helix_model::certificate::Pin;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::certificates::{Held, Missing, Order, Wanted};
use super::kept::Kept;
use crate::shared::Shared;

/// How long a server may take to answer.
const FETCH_WAIT: Duration = Duration::from_secs(10);

/// Questions under way at a time: as many as a server answers at once.
const FETCHES_MAX: usize = 16;

/// Pauses before what failed is tried again, at first and at most.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How often it is looked for what nears its end.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// A key and a chain in PEM; the error is for people.
pub type Fetched =
    Pinned<Box<dyn Future<Output = Result<Zeroizing<Vec<u8>>, String>> + Send + 'static>>;

/// Where certificates come from: the server this edge is linked to.
pub trait CertificateSource: Send + Sync + 'static {
    /// What a host is served with: of this certificate, or else made for it.
    fn fetch(&self, host: &str, pin: Option<Pin>) -> Fetched;
}

/// The present source, while there is a link.
pub(crate) type Source = Option<Arc<dyn CertificateSource>>;

/// Runs until nobody says any more what is wanted. `changed` is told when there is
/// something to report.
pub(crate) async fn keep(
    shared: Arc<Shared>,
    mut wanted: watch::Receiver<Arc<Order>>,
    mut source: watch::Receiver<Source>,
    changed: Arc<Notify>,
    kept: Kept,
) {
    let (mut pause, mut of) = (RETRY_MIN, Of::default());
    loop {
        let order = Arc::clone(&wanted.borrow_and_update());
        let now_wanted = &order.hosts;
        let from = source.borrow_and_update().clone();
        if order.installation.is_some_and(|it| of.is(it, &kept)) {
            // Who believes this installation believes nothing of another's.
            shared.certificates.keep_only(&Wanted::new());
        }
        shared.certificates.keep_only(now_wanted);
        if !now_wanted.is_empty() {
            // Nothing is wanted before the first plan, for which all of it was kept.
            kept.keep_only(now_wanted);
        }
        if take_kept(&shared, &kept, now_wanted) {
            changed.notify_one();
        }
        let missing = shared.certificates.missing(now_wanted, SystemTime::now());
        let mut is_complete = missing.is_empty();
        if let (Some(from), false) = (from, is_complete) {
            is_complete = true;
            for batch in missing.chunks(FETCHES_MAX) {
                let fetched = fetch(&from, batch, &kept).await;
                is_complete &= fetched.iter().all(|(_, outcome)| outcome.is_ok());
                if shared.certificates.take(fetched) {
                    changed.notify_one();
                }
                if wanted.has_changed().unwrap_or(true) || source.has_changed().unwrap_or(true) {
                    break;
                }
            }
        }
        let wait = if is_complete { LOOK_EVERY } else { pause };
        pause = if is_complete { RETRY_MIN } else { (pause * 2).min(RETRY_MAX) };
        let goes_on = tokio::select! {
            more = wanted.changed() => more.is_ok(),
            more = source.changed() => more.is_ok(),
            () = tokio::time::sleep(wait) => true,
        };
        if !goes_on {
            return;
        }
    }
}

/// The installation that what is here is of, once it is known.
#[derive(Default)]
struct Of(Option<Ipv6Addr>);

impl Of {
    /// It is this one; whether what is here, or was kept here, is of another.
    fn is(&mut self, installation: Ipv6Addr, kept: &Kept) -> bool {
        let before = self.0.replace(installation);
        if before == Some(installation) {
            return false;
        }
        let was_kept = kept.is_of(installation);
        let is_other = was_kept || before.is_some();
        if is_other {
            tracing::warn!(
                %installation,
                "this edge serves another installation now: certificates it had are let go of"
            );
        }
        is_other
    }
}

/// Takes what an edge before this one has kept for hosts that have nothing yet.
fn take_kept(shared: &Shared, kept: &Kept, wanted: &Wanted) -> bool {
    let now = SystemTime::now();
    let mut missing = shared.certificates.missing(wanted, now);
    missing.retain(|it| it.hosts.iter().all(|host| shared.certificates.host(host).is_none()));
    let found = missing.into_iter().filter_map(|it| Some((it.clone(), Ok(kept.load(&it, now)?))));
    let found: Vec<_> = found.collect();
    !found.is_empty() && shared.certificates.take(found)
}

async fn fetch(
    from: &Arc<dyn CertificateSource>,
    batch: &[Missing],
    kept: &Kept,
) -> Vec<(Missing, Result<Held, String>)> {
    let mut fetching = JoinSet::new();
    for missing in batch {
        let (from, missing, kept) = (Arc::clone(from), missing.clone(), kept.clone());
        fetching.spawn(async move {
            let outcome = fetch_one(&from, &missing, &kept).await;
            (missing, outcome)
        });
    }
    fetching.join_all().await
}

async fn fetch_one(
    from: &Arc<dyn CertificateSource>,
    missing: &Missing,
    kept: &Kept,
) -> Result<Held, String> {
    let Some(host) = missing.hosts.first() else { return Err("it is for no host".to_owned()) };
    let outcome = match timeout(FETCH_WAIT, from.fetch(host, missing.pin)).await {
        Ok(Ok(pem)) => {
            let held = Held::read(&pem, missing.pin, SystemTime::now());
            if held.is_ok() {
                kept.keep(missing, &pem);
            }
            held.map_err(|error| error.to_string())
        }
        Ok(Err(why)) => Err(why),
        Err(_) => Err("the server does not answer".to_owned()),
    };
    outcome.inspect_err(|error| tracing::warn!(%host, error, "a certificate cannot be fetched"))
}
