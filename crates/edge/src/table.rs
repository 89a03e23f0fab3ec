//! The routing table: an immutable answer to "which service is this for?".
//!
//! The director builds a new one for each plan and swaps it in whole; traffic
//! only reads it. The roster keeps what outlives a table: backends, their open
//! work and their idle connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use helix_model::acme::{self, Challenge};
use helix_model::certificate::Pin;
use helix_model::endpoint::OwnPort;
use helix_model::manifest::{Handling, Transport};
use helix_model::plan::{EdgePlan, EndpointPlan, Route, TunnelPlan};
use helix_model::tunnel::Exposure;
use helix_model::{AnyId, Id, Instance, Tunnel};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use crate::admission::Admission;
use crate::hosts::Hosts;
use crate::meters::Meters;
use crate::service::Service;
use crate::shared::Shared;
use crate::upstream::{Upstream, Way};
use crate::work::Work;

/// A port of an endpoint's own. Tables and listeners are keyed by it rather than
/// by endpoint, so an address passes from one endpoint to another without its
/// listener closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortKey {
    pub(crate) transport: Transport,
    pub(crate) own: OwnPort,
}

impl PortKey {
    /// Those of an endpoint, unless it shares one: the same port of each address it
    /// listens at here.
    pub(crate) fn all_of(endpoint: &EndpointPlan) -> Vec<PortKey> {
        let Some(key) = PortKey::of(&endpoint.route) else { return Vec::new() };
        if endpoint.addresses.is_empty() {
            return vec![key];
        }
        let own = endpoint.addresses.iter();
        let own = own.map(|it| OwnPort { address: in_ipv6(*it), ..key.own });
        own.map(|own| PortKey { own, ..key }).collect()
    }

    /// Those of a tunnel, unless it shares one: its port of the shared listeners' addresses.
    pub(crate) fn all_of_tunnel(tunnel: &TunnelPlan, fronts: &[SocketAddr]) -> Vec<PortKey> {
        let (transport, listen_port) = match tunnel.exposure {
            Exposure::Http { .. } | Exposure::Tls { .. } => return Vec::new(),
            Exposure::Tcp { port } => (Transport::Tcp, port),
            Exposure::Udp { port } => (Transport::Udp, port),
        };
        let addresses: BTreeSet<_> = fronts.iter().map(|front| in_ipv6(front.ip())).collect();
        let own = addresses.into_iter().map(|address| OwnPort { address, listen_port });
        own.map(|own| PortKey { transport, own }).collect()
    }

    /// That of a route at its own address.
    fn of(route: &Route) -> Option<PortKey> {
        let (transport, own) = match route {
            Route::Http { .. } | Route::Tls { own: None, .. } => return None,
            Route::Tcp { address, port } => {
                (Transport::Tcp, OwnPort { address: *address, listen_port: *port })
            }
            Route::Tls { own: Some(own), .. } => (Transport::Tcp, *own),
            Route::Udp { address, port } => {
                (Transport::Udp, OwnPort { address: *address, listen_port: *port })
            }
        };
        Some(PortKey { transport, own })
    }
}

/// An IPv4 address is one of IPv6 here (RFC 4291 §2.5.5.2).
fn in_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(it) => it.to_ipv6_mapped(),
        IpAddr::V6(it) => it,
    }
}

/// What is on a port that takes connections.
#[derive(Debug)]
pub(crate) enum OnPort {
    /// One endpoint has all of it.
    Whole(Arc<Service>),
    /// By the host a TLS client asks for.
    Named(Hosts<Arc<Service>>),
}

impl OnPort {
    /// What everything goes to.
    pub(crate) fn whole(&self) -> Option<&Arc<Service>> {
        match self {
            OnPort::Whole(service) => Some(service),
            OnPort::Named(_) => None,
        }
    }

    /// What is for a host; what is for none goes to what is there alone.
    pub(crate) fn named(&self, host: Option<&str>) -> Option<&Arc<Service>> {
        match (self, host) {
            (OnPort::Whole(service), _) => Some(service),
            (OnPort::Named(services), Some(host)) => services.get(host),
            (OnPort::Named(services), None) => services.only(),
        }
    }
}

/// Which service traffic is for.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// On the shared ports.
    hosts: Hosts<OnHost>,
    ports: HashMap<PortKey, OnPort>,
    datagrams: HashMap<PortKey, Arc<Service>>,
    /// What authorities are answered over HTTP, by token.
    challenges: HashMap<Box<str>, Challenge>,
    /// What they are shown in a handshake, by host.
    shown: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// Of every endpoint, for metrics.
    services: Vec<Arc<Service>>,
    version: u64,
}

/// What a host of the shared ports leads to.
#[derive(Debug)]
enum OnHost {
    /// Its connections are decrypted and its requests routed.
    Decrypted(Site),
    /// Its TLS connections are passed on.
    PassedOn(Arc<Service>),
}

/// Where requests for a host go.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// As the plan has it: the host itself, or the wildcard that stands for it.
    pub(crate) host: Arc<str>,
    pub(crate) service: Arc<Service>,
    /// The certificate somebody brought for it.
    pub(crate) certificate: Option<Pin>,
}

/// Backends and open work, kept across tables.
#[derive(Debug)]
pub(crate) struct Roster {
    upstreams: BTreeMap<(Id<Instance>, SocketAddr), Arc<Upstream>>,
    works: BTreeMap<Id<Instance>, Arc<Work>>,
    /// What is behind agents.
    tunnels: BTreeMap<Id<Tunnel>, Arc<Upstream>>,
    /// What is let in at each endpoint, whatever table it came by.
    admitted: BTreeMap<AnyId, Arc<Admission>>,
    meters: Meters,
    drained: Arc<Notify>,
    shared: Arc<Shared>,
}

impl Table {
    /// Where requests for a host name in lower case without port go.
    pub(crate) fn http(&self, host: &str) -> Option<&Site> {
        match self.hosts.get(host)? {
            OnHost::Decrypted(site) => Some(site),
            OnHost::PassedOn(_) => None,
        }
    }

    /// The service of every endpoint.
    pub(crate) fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// That of the plan.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What an authority is shown in a handshake for a host in lower case.
    pub(crate) fn shown(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        self.shown.get(host)
    }

    fn challenge_with(&mut self, challenge: &Challenge) {
        if challenge.way == acme::Way::Http {
            self.challenges.insert(challenge.token.as_str().into(), challenge.clone());
            return;
        }
        match helix_certificate::challenge(&challenge.host, &challenge.answer) {
            Ok(key) => drop(self.shown.insert(challenge.host.as_str().into(), key)),
            Err(error) => tracing::warn!(%error, "an authority cannot be answered"),
        }
    }

    /// What an authority that asks a host for a token is answered.
    pub(crate) fn challenge(&self, host: &str, token: &str) -> Option<&str> {
        let found = self.challenges.get(token).filter(|challenge| challenge.host == host);
        found.map(|challenge| challenge.answer.as_str())
    }

    /// The service of a host in lower case that is not decrypted here.
    pub(crate) fn passed_on(&self, host: &str) -> Option<&Arc<Service>> {
        match self.hosts.get(host)? {
            OnHost::PassedOn(service) => Some(service),
            OnHost::Decrypted(_) => None,
        }
    }

    /// What takes connections on a port.
    pub(crate) fn port(&self, key: PortKey) -> Option<&OnPort> {
        self.ports.get(&key)
    }

    /// What takes datagrams on one.
    pub(crate) fn datagrams(&self, key: PortKey) -> Option<&Arc<Service>> {
        self.datagrams.get(&key)
    }

    fn add(&mut self, endpoint: &EndpointPlan, service: &Arc<Service>) {
        match &endpoint.route {
            Route::Http { hosts } => {
                for host in hosts {
                    let (service, certificate) = (Arc::clone(service), endpoint.certificate);
                    let site = Site { host: host.as_str().into(), service, certificate };
                    self.hosts.add(host, OnHost::Decrypted(site));
                }
            }
            Route::Tls { host, own: None } => {
                self.hosts.add(host, OnHost::PassedOn(Arc::clone(service)));
            }
            Route::Tls { own: Some(_), .. } | Route::Tcp { .. } | Route::Udp { .. } => {
                for key in PortKey::all_of(endpoint) {
                    self.add_at(key, &endpoint.route, Arc::clone(service));
                }
            }
        }
    }

    fn add_tunnel(&mut self, tunnel: &TunnelPlan, fronts: &[SocketAddr], service: &Arc<Service>) {
        match &tunnel.exposure {
            Exposure::Http { host } => {
                let (service, certificate) = (Arc::clone(service), tunnel.certificate);
                let site = Site { host: host.as_str().into(), service, certificate };
                self.hosts.add(host, OnHost::Decrypted(site));
            }
            Exposure::Tls { host } => self.hosts.add(host, OnHost::PassedOn(Arc::clone(service))),
            Exposure::Tcp { .. } => {
                for key in PortKey::all_of_tunnel(tunnel, fronts) {
                    self.ports.entry(key).or_insert(OnPort::Whole(Arc::clone(service)));
                }
            }
            Exposure::Udp { .. } => {
                for key in PortKey::all_of_tunnel(tunnel, fronts) {
                    self.datagrams.entry(key).or_insert(Arc::clone(service));
                }
            }
        }
    }

    fn add_at(&mut self, key: PortKey, route: &Route, service: Arc<Service>) {
        match route {
            Route::Tls { host, .. } => {
                let fresh = || OnPort::Named(Hosts::default());
                if let OnPort::Named(hosts) = self.ports.entry(key).or_insert_with(fresh) {
                    hosts.add(host, service);
                }
            }
            Route::Udp { .. } => {
                self.datagrams.entry(key).or_insert(service);
            }
            Route::Tcp { .. } | Route::Http { .. } => {
                self.ports.entry(key).or_insert(OnPort::Whole(service));
            }
        }
    }
}

impl Roster {
    /// `drained` is told when a draining instance's last work ends.
    pub(crate) fn new(drained: Arc<Notify>, shared: Arc<Shared>) -> Roster {
        Roster {
            upstreams: BTreeMap::new(),
            works: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            admitted: BTreeMap::new(),
            meters: Meters::new(Arc::clone(&shared.others)),
            drained,
            shared,
        }
    }

    /// The table of a plan. Once it is in force, [`Roster::settle`] must follow.
    pub(crate) fn table(&mut self, plan: &EdgePlan, fronts: &[SocketAddr]) -> Table {
        let draining: BTreeSet<_> = plan.draining.iter().copied().collect();
        for (instance, work) in &self.works {
            if !draining.contains(instance) {
                work.set_draining(false);
            }
        }
        let mut table = Table { version: plan.version, ..Table::default() };
        for challenge in &plan.challenges {
            table.challenge_with(challenge);
        }
        for endpoint in &plan.endpoints {
            let service = Arc::new(self.service(endpoint, &draining));
            table.services.push(Arc::clone(&service));
            table.add(endpoint, &service);
        }
        for tunnel in &plan.tunnels {
            let service = Arc::new(self.tunnel_service(tunnel));
            table.services.push(Arc::clone(&service));
            table.add_tunnel(tunnel, fronts, &service);
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
        let tunnels: BTreeSet<_> = plan.tunnels.iter().map(|tunnel| tunnel.id).collect();
        let endpoints = plan.endpoints.iter().map(|endpoint| endpoint.id.any());
        let served = endpoints.chain(tunnels.iter().map(|id| id.any())).collect();
        self.admitted.retain(|id, _| BTreeSet::contains(&served, id));
        self.meters.settle(&served);
        self.tunnels.retain(|id, upstream| tunnels.contains(id) || close_idle(upstream));
        let backends = plan.endpoints.iter().flat_map(|endpoint| &endpoint.backends);
        let serving: BTreeSet<_> = backends
            .filter(|it| !draining.contains(&it.instance))
            .map(|it| (it.instance, it.address))
            .collect();
        self.upstreams.retain(|key, upstream| {
            let stays = serving.contains(key);
            stays || close_idle(upstream)
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
    pub(crate) fn sweep(&mut self) {
        self.meters.sweep();
        for upstream in self.upstreams.values().chain(self.tunnels.values()) {
            upstream.idle.sweep();
        }
    }

    fn service(&mut self, endpoint: &EndpointPlan, draining: &BTreeSet<Id<Instance>>) -> Service {
        let meter = self.meters.of(endpoint.into());
        let admitted = self.admitted.entry(endpoint.id.any()).or_default();
        let ready = endpoint.backends.iter().filter(|it| !draining.contains(&it.instance));
        let upstreams = ready.map(|backend| {
            let key = (backend.instance, backend.address);
            let upstream = self.upstreams.entry(key).or_insert_with(|| {
                let fresh = || Arc::new(Work::new(Arc::clone(&self.drained)));
                let work = self.works.entry(backend.instance).or_insert_with(fresh);
                let way = Way::Address(backend.address);
                Arc::new(Upstream::new(backend.instance.any(), way, Arc::clone(work)))
            });
            Arc::clone(upstream)
        });
        Service::new(upstreams.collect(), endpoint.handling, Arc::clone(admitted), meter)
    }

    fn tunnel_service(&mut self, tunnel: &TunnelPlan) -> Service {
        let meter = self.meters.of(tunnel.into());
        let admitted = self.admitted.entry(tunnel.id.any()).or_default();
        let seat = self.shared.agents.seat(tunnel.id);
        let upstream = seat.map(|seat| {
            let upstream = self.tunnels.entry(tunnel.id).or_insert_with(|| {
                let work = Arc::new(Work::new(Arc::clone(&self.drained)));
                Arc::new(Upstream::new(tunnel.id.any(), Way::Agent(seat), work))
            });
            Arc::clone(upstream)
        });
        let upstreams = upstream.into_iter().collect();
        Service::new(upstreams, Handling::default(), Arc::clone(admitted), meter)
    }
}

/// Closes what idles on a backend that is gone. It does not stay.
fn close_idle(upstream: &Upstream) -> bool {
    upstream.idle.close();
    upstream.multiplexed.close();
    false
}
