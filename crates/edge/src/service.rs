//! One endpoint's backends and the order in which they are tried.
//!
//! Round-robin; a backend that was unreachable a moment ago is tried only when
//! no other is left; a draining one is not tried at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use helix_model::manifest::ProxyProtocol;

use crate::upstream::Upstream;
use crate::work::OpenWork;

/// One endpoint's backends.
#[derive(Debug)]
pub(crate) struct Service {
    upstreams: Box<[Arc<Upstream>]>,
    proxy_protocol: Option<ProxyProtocol>,
    cursor: AtomicUsize,
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
        proxy_protocol: Option<ProxyProtocol>,
    ) -> Service {
        let (upstreams, cursor) = (upstreams.into_boxed_slice(), AtomicUsize::new(0));
        Service { upstreams, proxy_protocol, cursor }
    }

    /// Whether what a client sends is preceded by where it comes from.
    pub(crate) fn sends_proxy_header(&self) -> bool {
        self.proxy_protocol == Some(ProxyProtocol::V2)
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
        (0..upstreams.len()).map(|offset| self.start.wrapping_add(offset) % upstreams.len()).find(
            |index| {
                !(self.tried.contains(index) || reachable_only && upstreams[*index].is_ejected())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use helix_model::{Id, Timestamp};
    use tokio::sync::Notify;

    use super::*;
    use crate::work::Work;

    fn service(backends: u16) -> (Arc<Service>, Vec<Arc<Work>>) {
        let drained = Arc::new(Notify::new());
        let works: Vec<_> =
            (0..backends).map(|_| Arc::new(Work::new(Arc::clone(&drained)))).collect();
        let upstreams = works.iter().zip(1..).map(|(work, number)| {
            // Port 1 on loopback answers nobody, so connecting fails at once.
            let address = ([127, 0, 0, 1], 1).into();
            let instance = Id::new(Timestamp(1), number);
            Arc::new(Upstream::new(instance, address, Arc::clone(work)))
        });
        (Arc::new(Service::new(upstreams.collect(), None)), works)
    }

    fn order(service: &Arc<Service>) -> Vec<String> {
        let mut attempts = service.attempts();
        let mut order = Vec::new();
        while let Some((upstream, _work)) = attempts.next() {
            let id = upstream.instance.to_string();
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
