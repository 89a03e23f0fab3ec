//! One endpoint's backends, the order in which they are tried, and how much may be open.
//!
//! One after the other, or the one with the least open first; a backend that was
//! unreachable a moment ago is tried only when no other is left; a draining one is not
//! tried at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use helix_model::manifest::{BackendProtocol, Balance, Handling, ProxyProtocol};

use crate::admission::{Admission, Admitted};
use crate::meter::{Meter, Span, Why};
use crate::upstream::Upstream;
use crate::work::OpenWork;

/// One endpoint's backends.
#[derive(Debug)]
pub(crate) struct Service {
    upstreams: Box<[Arc<Upstream>]>,
    handling: Handling,
    cursor: AtomicUsize,
    admission: Arc<Admission>,
    meter: Arc<Meter>,
}

/// The backends of one service in the order one request or connection tries
/// them, each at most once.
#[derive(Debug)]
pub(crate) struct Attempts {
    service: Arc<Service>,
    start: usize,
    /// Indices already handed out; allocates nothing unless something failed.
    tried: Vec<usize>,
}

impl Service {
    pub(crate) fn new(
        upstreams: Vec<Arc<Upstream>>,
        handling: Handling,
        admission: Arc<Admission>,
        meter: Arc<Meter>,
    ) -> Service {
        let (upstreams, cursor) = (upstreams.into_boxed_slice(), AtomicUsize::new(0));
        Service { upstreams, handling, cursor, admission, meter }
    }

    /// Counts what goes through.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Begins to count something.
    pub(crate) fn span(&self) -> Span {
        Span::begin(&self.meter)
    }

    /// How many backends there are.
    pub(crate) fn backends(&self) -> usize {
        self.upstreams.len()
    }

    /// The thread that what goes to the backend goes through, if that is only one.
    pub(crate) fn thread(&self) -> Option<usize> {
        match &*self.upstreams {
            [only] => only.seat()?.agent()?.thread,
            _ => None,
        }
    }

    /// Lets one more in, or says why not.
    pub(crate) fn admit(&self) -> Result<Admitted, Why> {
        self.admission.admit(&self.handling)
    }

    /// What the backends speak.
    pub(crate) fn backend_protocol(&self) -> BackendProtocol {
        self.handling.backend_protocol
    }

    /// The largest body of a request.
    pub(crate) fn body_bytes_max(&self) -> Option<u64> {
        self.handling.max_body_bytes
    }

    /// The largest head of one.
    pub(crate) fn head_bytes_max(&self) -> Option<usize> {
        self.handling.max_header_bytes.and_then(|max| usize::try_from(max).ok())
    }

    /// Whether what a client sends is preceded by where it comes from.
    pub(crate) fn sends_proxy_header(&self) -> bool {
        self.handling.proxy_protocol == Some(ProxyProtocol::V2)
    }

    pub(crate) fn attempts(self: &Arc<Service>) -> Attempts {
        let start = self.cursor.fetch_add(1, Ordering::Relaxed);
        Attempts { service: Arc::clone(self), start, tried: Vec::new() }
    }
}

impl Attempts {
    /// The backend to try next, with the work opened on it.
    pub(crate) fn next(&mut self) -> Option<(Arc<Upstream>, OpenWork)> {
        loop {
            let index = self.choose(true).or_else(|| self.choose(false))?;
            self.tried.push(index);
            let upstream = &self.service.upstreams[index];
            if let Some(work) = upstream.open_work() {
                return Some((Arc::clone(upstream), work));
            }
        }
    }

    fn choose(&self, reachable_only: bool) -> Option<usize> {
        let upstreams = &self.service.upstreams;
        let in_turn = (0..upstreams.len()).map(|offset| self.start.wrapping_add(offset));
        let mut candidates = in_turn.map(|index| index % upstreams.len()).filter(|index| {
            !(self.tried.contains(index) || reachable_only && upstreams[*index].is_ejected())
        });
        match self.service.handling.balance {
            Balance::RoundRobin => candidates.next(),
            // Of those with as little, the first in turn.
            Balance::LeastConnections => candidates.min_by_key(|index| upstreams[*index].open()),
        }
    }
}

#[cfg(test)]
mod tests {
    use helix_model::plan::{EndpointPlan, Route};
    use helix_model::{Id, Instance, Timestamp};
    use tokio::sync::Notify;

    use super::*;
    use crate::meter::Metered;
    use crate::upstream::Way;
    use crate::work::Work;

    fn service(backends: u16) -> (Arc<Service>, Vec<Arc<Work>>) {
        handled(backends, Handling::default())
    }

    fn handled(backends: u16, handling: Handling) -> (Arc<Service>, Vec<Arc<Work>>) {
        let drained = Arc::new(Notify::new());
        let works: Vec<_> =
            (0..backends).map(|_| Arc::new(Work::new(Arc::clone(&drained)))).collect();
        let upstreams = works.iter().zip(1..).map(|(work, number)| {
            // Port 1 on loopback answers nobody, so connecting fails at once.
            let address = ([127, 0, 0, 1], 1).into();
            let instance = Id::<Instance>::new(Timestamp(1), number);
            Arc::new(Upstream::new(instance.any(), Way::Address(address), Arc::clone(work)))
        });
        let endpoint = EndpointPlan {
            id: Id::new(Timestamp(1), 1),
            route: Route::Http { hosts: Vec::new() },
            addresses: Vec::new(),
            certificate: None,
            handling,
            backends: Vec::new(),
            label: None,
        };
        let meter = Arc::new(Meter::new(Metered::from(&endpoint), true));
        (Arc::new(Service::new(upstreams.collect(), handling, Arc::default(), meter)), works)
    }

    fn order(service: &Arc<Service>) -> Vec<String> {
        let mut attempts = service.attempts();
        let mut order = Vec::new();
        while let Some((upstream, _work)) = attempts.next() {
            let id = upstream.id.to_string();
            order.push(id[id.len() - 1..].to_owned());
        }
        order
    }

    #[test]
    fn every_backend_is_tried_once_from_another_start_each_time() {
        let (service, _works) = service(3);
        assert_eq!(order(&service), ["1", "2", "3"]);
        assert_eq!(order(&service), ["2", "3", "1"]);
        assert_eq!(order(&service), ["3", "1", "2"]);
    }

    #[test]
    fn the_one_with_the_least_open_comes_first() {
        let balance = Balance::LeastConnections;
        let (service, works) = handled(3, Handling { balance, ..Handling::default() });
        let (_first, _second, _third) = (works[0].open(), works[0].open(), works[1].open());
        assert_eq!(order(&service), ["3", "2", "1"]);
        assert_eq!(order(&service), ["3", "2", "1"]);
    }

    #[test]
    fn a_draining_backend_is_not_tried() {
        let (service, works) = service(3);
        works[1].set_draining(true);
        assert_eq!(order(&service), ["1", "3"]);
        assert!(works[1].is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_backend_comes_last_for_a_second() {
        let (service, _works) = service(2);
        let (first, _work) = service.attempts().next().unwrap();
        assert!(first.connect().await.is_err());
        assert_eq!(order(&service), ["2", "1"]);
        assert_eq!(order(&service), ["2", "1"]);
        tokio::time::advance(std::time::Duration::from_millis(1_001)).await;
        assert_eq!(order(&service), ["2", "1"]);
        assert_eq!(order(&service), ["1", "2"]);
    }
}
