//! The routing table: an immutable answer to "which service is this for?".
//!
//! The director builds a new one for each plan and swaps it in whole; traffic
//! only reads it. The roster keeps what outlives a table: backends, their open
//! work and their idle connections.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use helix_model::certificate::Pin;
use helix_model::plan::{EdgePlan, EndpointPlan, Route};
use helix_model::{Id, Instance};
use tokio::sync::Notify;

use crate::service::Service;
use crate::upstream::Upstream;
use crate::work::Work;

/// Where TCP connections for an endpoint arrive. Tables and listeners are keyed
/// by it rather than by endpoint, so an address passes from one endpoint to
/// another without its listener closing.
pub(crate) type TcpKey = (Ipv6Addr, u16);

/// Which service traffic is for.
#[derive(Debug, Default)]
pub(crate) struct Table {
    http: HashMap<Box<str>, Arc<Service>>,
    /// Hosts that have a certificate of their own.
    secured: HashMap<Box<str>, Pin>,
    tcp: HashMap<TcpKey, Arc<Service>>,
}

/// Backends and open work, kept across tables.
#[derive(Debug)]
pub(crate) struct Roster {
    upstreams: BTreeMap<(Id<Instance>, SocketAddr), Arc<Upstream>>,
    works: BTreeMap<Id<Instance>, Arc<Work>>,
    drained: Arc<Notify>,
}

impl Table {
    /// The service of a host name in lower case without port.
    pub(crate) fn http(&self, host: &str) -> Option<&Arc<Service>> {
        self.http.get(host)
    }

    /// The certificate somebody brought for a host.
    pub(crate) fn certificate(&self, host: &str) -> Option<Pin> {
        self.secured.get(host).copied()
    }

    pub(crate) fn tcp(&self, key: TcpKey) -> Option<&Arc<Service>> {
        self.tcp.get(&key)
    }
}

impl Roster {
    /// `drained` is told when a draining instance's last work ends.
    pub(crate) fn new(drained: Arc<Notify>) -> Roster {
        Roster { upstreams: BTreeMap::new(), works: BTreeMap::new(), drained }
    }

    /// The table of a plan. Once it is in force, [`Roster::settle`] must follow.
    pub(crate) fn table(&mut self, plan: &EdgePlan) -> Table {
        let draining: BTreeSet<_> = plan.draining.iter().copied().collect();
        for (instance, work) in &self.works {
            if !draining.contains(instance) {
                work.set_draining(false);
            }
        }
        let mut table = Table::default();
        for endpoint in &plan.endpoints {
            let service = Arc::new(self.service(endpoint, &draining));
            match &endpoint.route {
                Route::Http { hosts } => {
                    for host in hosts {
                        let Entry::Vacant(place) = table.http.entry(host.as_str().into()) else {
                            continue;
                        };
                        place.insert(Arc::clone(&service));
                        if let Some(pin) = endpoint.certificate {
                            table.secured.insert(host.as_str().into(), pin);
                        }
                    }
                }
                Route::Tcp { address, port } => {
                    table.tcp.entry((*address, *port)).or_insert(service);
                }
            }
        }
        table
    }

    /// Stops new work on draining instances and lets go of what the plan, whose
    /// table is now in force, does not name.
    ///
    /// Only now: work refused because of the draining mark looks for the newer
    /// table, so that must be there first.
    pub(crate) fn settle(&mut self, plan: &EdgePlan) {
        let draining: BTreeSet<_> = plan.draining.iter().copied().collect();
        for (instance, work) in &self.works {
            if draining.contains(instance) {
                work.set_draining(true);
            }
        }
        let backends = plan.endpoints.iter().flat_map(|endpoint| &endpoint.backends);
        let serving: BTreeSet<_> = backends
            .filter(|it| !draining.contains(&it.instance))
            .map(|it| (it.instance, it.address))
            .collect();
        self.upstreams.retain(|key, upstream| {
            let stays = serving.contains(key);
            if !stays {
                upstream.idle.close();
            }
            stays
        });
        let serving: BTreeSet<_> = serving.iter().map(|(instance, _)| *instance).collect();
        self.works.retain(|instance, work| {
            // Work that is still open is remembered until it ends.
            serving.contains(instance) || draining.contains(instance) || !work.is_idle()
        });
    }

    /// Of these instances, those without open work.
    pub(crate) fn idle(&self, instances: &[Id<Instance>]) -> Vec<Id<Instance>> {
        let is_idle = |id: &Id<Instance>| self.works.get(id).is_none_or(|work| work.is_idle());
        instances.iter().copied().filter(is_idle).collect()
    }

    /// Closes connections that have idled too long or were closed by the backend.
    pub(crate) fn sweep(&self) {
        for upstream in self.upstreams.values() {
            upstream.idle.sweep();
        }
    }

    fn service(&mut self, endpoint: &EndpointPlan, draining: &BTreeSet<Id<Instance>>) -> Service {
        let ready = endpoint.backends.iter().filter(|it| !draining.contains(&it.instance));
        let upstreams = ready.map(|backend| {
            let key = (backend.instance, backend.address);
            let upstream = self.upstreams.entry(key).or_insert_with(|| {
                let fresh = || Arc::new(Work::new(Arc::clone(&self.drained)));
                let work = self.works.entry(backend.instance).or_insert_with(fresh);
                Arc::new(Upstream::new(backend.instance, backend.address, Arc::clone(work)))
            });
            Arc::clone(upstream)
        });
        Service::new(upstreams.collect())
    }
}
