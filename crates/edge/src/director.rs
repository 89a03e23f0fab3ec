//! The one loop that owns what plans change: listeners, routes of addresses,
//! backends, and the report.
//!
//! Everything that happens to it is an [`Event`], taken one at a time, so
//! nothing here is locked. Traffic never waits for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use helix_model::plan::{EdgePlan, EdgeReport, Route, TunnelPlan, TunnelReport};
use helix_model::tunnel::Exposure;
use ipnet::IpNet;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::config::{AnyIp, TICK};
use crate::ports::Listeners;
use crate::report::{self, Fronts};
use crate::saved_plan::SavedPlan;
use crate::shared::Shared;
use crate::table::{PortKey, Roster};
use crate::takeover::{Named, Taken};
use crate::tls::{Order, Wanted};

/// A request to the director.
#[derive(Debug)]
pub(crate) enum Request {
    /// Serve this plan, unless a newer one is in force.
    Apply { plan: Arc<EdgePlan>, reply: oneshot::Sender<EdgeReport> },
    /// What another process is to have: the sockets of ports.
    Sockets { reply: oneshot::Sender<Vec<(Named, OwnedFd)>> },
    /// All listeners serve: tell who gave them.
    Serving,
    /// Close the listeners and undo every trace on the machine.
    Stop,
}

/// How the director and the keeper of certificates speak.
#[derive(Debug)]
pub(crate) struct Certified {
    pub(crate) wanted: watch::Sender<Arc<Order>>,
    /// Told when there is another certificate, or another reason for none.
    pub(crate) changed: Arc<Notify>,
}

#[derive(Debug)]
enum Event {
    Asked(Request),
    /// A draining instance's last work ended, or certificates came.
    Reportable,
    /// Time to try again what failed and to sweep what idled.
    Tick,
}

/// The owner of all that plans change.
#[derive(Debug)]
pub(crate) struct Director {
    shared: Arc<Shared>,
    plan: Arc<EdgePlan>,
    roster: Roster,
    drained: Arc<Notify>,
    /// Told when an agent has come or gone.
    agents: Arc<Notify>,
    listeners: Listeners,
    http_addresses: Vec<SocketAddr>,
    https_addresses: Vec<SocketAddr>,
    saved: Option<SavedPlan>,
    certified: Certified,
    reports: watch::Sender<EdgeReport>,
    /// When agents and certificates may be told of again.
    told_again_from: Instant,
}

impl Director {
    pub(crate) fn new(
        shared: Arc<Shared>,
        (http_addresses, https_addresses): (Vec<SocketAddr>, Vec<SocketAddr>),
        (any_ip, addresses, taken): (AnyIp, &[IpNet], Taken),
        saved: Option<SavedPlan>,
        certified: Certified,
        reports: watch::Sender<EdgeReport>,
    ) -> Director {
        let drained = Arc::new(Notify::new());
        Director {
            listeners: Listeners::new(Arc::clone(&shared), (any_ip, addresses), taken),
            roster: Roster::new(Arc::clone(&drained), Arc::clone(&shared)),
            agents: shared.agents.changed(),
            shared,
            plan: Arc::default(),
            drained,
            http_addresses,
            https_addresses,
            saved,
            certified,
            reports,
            told_again_from: Instant::now(),
        }
    }

    /// Handles events until asked to stop or nobody is left to ask.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                request = requests.recv() => Event::Asked(request.unwrap_or(Request::Stop)),
                () = self.drained.notified() => Event::Reportable,
                () = self.unhurried() => Event::Reportable,
                _ = ticks.tick() => Event::Tick,
            };
            match event {
                Event::Asked(Request::Apply { plan, reply }) => {
                    self.apply(plan).await;
                    // Whoever asked may have stopped waiting.
                    let _ = reply.send(self.reports.borrow().clone());
                }
                Event::Asked(Request::Sockets { reply }) => {
                    let _ = reply.send(self.listeners.sockets());
                }
                Event::Asked(Request::Serving) => self.listeners.taken().served(),
                Event::Asked(Request::Stop) => break,
                Event::Reportable => self.report(),
                Event::Tick => self.tick().await,
            }
        }
        self.stop().await;
    }

    /// Returns once agents or certificates are to be told of. May be cancelled.
    async fn unhurried(&self) {
        sleep_until(self.told_again_from).await;
        tokio::select! {
            () = self.certified.changed.notified() => {}
            () = self.agents.notified() => {}
        }
    }

    async fn apply(&mut self, plan: Arc<EdgePlan>) {
        // Versions of another installation say nothing about those of this one.
        let is_same = plan.installation == self.plan.installation;
        if is_same && plan.version < self.plan.version {
            tracing::debug!(
                version = plan.version,
                in_force = self.plan.version,
                "older plan ignored"
            );
            return;
        }
        self.plan = plan;
        let order = Order { installation: self.plan.installation, hosts: self.hosts() };
        self.certified.wanted.send_replace(Arc::new(order));
        let wanted = self.ports();
        // New listeners hold their first clients until the table knows them;
        // old ones close only after it has forgotten them.
        self.listeners.bind_missing(&wanted).await;
        self.shared.agents.settle(&self.plan);
        self.shared.table.store(Arc::new(self.roster.table(&self.plan, &self.http_addresses)));
        self.roster.settle(&self.plan);
        self.listeners.serve_all();
        self.listeners.close_others(&wanted).await;
        if let Some(saved) = &self.saved {
            saved.keep(Arc::clone(&self.plan));
        }
        self.report();
    }

    async fn tick(&mut self) {
        self.roster.sweep();
        let wanted = self.ports();
        self.listeners.bind_missing(&wanted).await;
        self.listeners.serve_all();
        self.report();
    }

    fn report(&mut self) {
        let fronts = Fronts {
            http: &self.http_addresses,
            https: &self.https_addresses,
            certificates: &self.shared.certificates,
        };
        let endpoint = |plan| report::endpoint(plan, &fronts, &self.listeners.states(plan));
        let fresh = EdgeReport {
            version: self.plan.version,
            drained: self.roster.idle(&self.plan.draining),
            routed: Some(self.plan.routed()),
            endpoints: self.plan.endpoints.iter().map(endpoint).collect(),
            tunnels: self.plan.tunnels.iter().map(|plan| self.tunnel(plan, &fronts)).collect(),
            answering: self.plan.answering(),
        };
        self.reports.send_if_modified(|report| {
            let changed = *report != fresh;
            *report = fresh;
            changed
        });
        self.told_again_from = Instant::now() + self.plan.pause();
    }

    /// The report of a tunnel; its agent is told where visitors come from.
    fn tunnel(&self, plan: &TunnelPlan, fronts: &Fronts<'_>) -> TunnelReport {
        let keys = PortKey::all_of_tunnel(plan, &self.http_addresses);
        let seat = self.shared.agents.seat(plan.id);
        let agent = seat.as_ref().and_then(|seat| seat.report());
        let told = report::tunnel(plan, fronts, &self.listeners.at(&keys), agent);
        if let Some(seat) = seat {
            seat.is_reached_at(&told.reachable);
        }
        told
    }

    async fn stop(mut self) {
        self.listeners.close_others(&BTreeSet::new()).await;
        if let Some(saved) = self.saved {
            saved.finish().await;
        }
    }

    /// Every host, with the certificate it has if it has one.
    fn hosts(&self) -> Wanted {
        let mut hosts = Wanted::new();
        for endpoint in &self.plan.endpoints {
            if let Route::Http { hosts: names } = &endpoint.route {
                for name in names {
                    hosts.entry(name.as_str().into()).or_insert(endpoint.certificate);
                }
            }
        }
        for tunnel in &self.plan.tunnels {
            if let Exposure::Http { host } = &tunnel.exposure {
                hosts.entry(host.as_str().into()).or_insert(tunnel.certificate);
            }
        }
        for host in self.shared.agents.hosts() {
            hosts.entry(host.into()).or_insert(None);
        }
        hosts
    }

    fn ports(&self) -> BTreeSet<PortKey> {
        let own = self.plan.endpoints.iter().flat_map(PortKey::all_of);
        let fronts = &self.http_addresses;
        let tunnels = self.plan.tunnels.iter();
        own.chain(tunnels.flat_map(|it| PortKey::all_of_tunnel(it, fronts))).collect()
    }
}

#[cfg(test)]
mod tests {
    use helix_model::{Id, Timestamp};
    use tokio::time::sleep;

    use super::*;

    /// So many that reports of them keep a distance.
    const TUNNELS: u64 = 1_000;

    fn plan() -> EdgePlan {
        let tunnel = |number: u64| TunnelPlan {
            id: Id::new(Timestamp(1), number.into()),
            name: format!("tunnel-{number}").parse().unwrap(),
            exposure: Exposure::Http { host: format!("{number}.example") },
            generation: 0,
            certificate: None,
        };
        EdgePlan { tunnels: (0..TUNNELS).map(tunnel).collect(), ..EdgePlan::default() }
    }

    /// Has an agent take the tunnel of this number.
    fn attach(shared: &Shared, number: u64) {
        shared.agents.seat(Id::new(Timestamp(1), number.into())).unwrap().taken_by_somebody();
        shared.agents.changed().notify_one();
    }

    fn attached(report: &EdgeReport) -> usize {
        report.tunnels.iter().filter(|tunnel| tunnel.agent.is_some()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_alone_is_told_of_at_once_and_many_within_the_pause_together() {
        let shared = Arc::new(Shared::default());
        let certified =
            Certified { wanted: watch::channel(Arc::default()).0, changed: Arc::default() };
        let (told, mut reports) = watch::channel(EdgeReport::default());
        let machine = (AnyIp::Off, &[][..], Taken::default());
        let nowhere = (Vec::new(), Vec::new());
        let director = Director::new(Arc::clone(&shared), nowhere, machine, None, certified, told);
        let (requests, queue) = mpsc::channel(1);
        let running = tokio::spawn(director.run(queue));
        let (plan, (reply, applied)) = (Arc::new(plan()), oneshot::channel());
        requests.send(Request::Apply { plan: Arc::clone(&plan), reply }).await.unwrap();
        assert_eq!(attached(&applied.await.unwrap()), 0);
        sleep(plan.pause()).await;
        reports.mark_unchanged();
        let mut seen = Vec::new();
        let mut next = async || {
            reports.changed().await.unwrap();
            seen.push((attached(&reports.borrow_and_update()), Instant::now()));
        };
        let alone = Instant::now();
        attach(&shared, 0);
        next().await;
        for number in 1..10 {
            sleep(plan.pause() / 20).await;
            attach(&shared, number);
        }
        next().await;
        assert_eq!(seen, [(1, alone), (10, alone + plan.pause())]);
        drop(requests);
        running.await.unwrap();
    }
}
