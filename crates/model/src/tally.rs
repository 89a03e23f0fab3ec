//! Tallies: how much an org has of what its quota limits.
//!
//! Kept up to date by the fold, event by event, so that a check costs nothing
//! however much there is. Must not know any limit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::endpoint::Exposure;
use crate::instance::OVERHEAD_BYTES;
use crate::quota::{Dimension, millicpu};
use crate::state::State;
use crate::{
    AnyId, Endpoint, Env, Event, Id, Instance, Kind, Manifest, Name, Org, Volume, manifest, view,
};

/// What instances take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub instances: u64,
    /// With overhead.
    pub memory_bytes: u64,
    pub cpu_millis: u64,
}

/// What an org has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub projects: u64,
    pub apps: u64,
    pub envs: u64,
    pub endpoints: u64,
    pub tcp_ports: u64,
    pub hostnames: u64,
    pub volumes: u64,
    pub volume_bytes: u64,
    pub snapshots: u64,
    #[serde(default)]
    pub ipv4_addresses: u64,
    #[serde(default)]
    pub tunnels: u64,
    /// What its envs ask for.
    pub asked: Need,
    /// What is there, whether it serves, is replaced or finishes its work.
    pub present: Need,
}

impl Need {
    /// One instance.
    pub fn of_one(process: &manifest::Process) -> Need {
        Need {
            instances: 1,
            memory_bytes: process.resources.memory_bytes.saturating_add(OVERHEAD_BYTES),
            cpu_millis: millicpu(process.resources.cpu),
        }
    }

    fn times(self, count: u64) -> Need {
        Need {
            instances: self.instances.saturating_mul(count),
            memory_bytes: self.memory_bytes.saturating_mul(count),
            cpu_millis: self.cpu_millis.saturating_mul(count),
        }
    }

    pub(crate) fn plus(self, other: Need) -> Need {
        Need {
            instances: self.instances.saturating_add(other.instances),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
        }
    }

    fn minus(self, other: Need) -> Need {
        Need {
            instances: self.instances.saturating_sub(other.instances),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
        }
    }

    fn max(self, other: Need) -> Need {
        Need {
            instances: self.instances.max(other.instances),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
        }
    }

    /// Its share of a dimension, if it has one.
    pub fn get(&self, dimension: Dimension) -> Option<u64> {
        match dimension {
            Dimension::Instances => Some(self.instances),
            Dimension::Memory => Some(self.memory_bytes),
            Dimension::Cpu => Some(self.cpu_millis),
            _ => None,
        }
    }
}

impl Tally {
    /// How much of a dimension is used; `None` for one that measures single
    /// things.
    pub fn used(&self, dimension: Dimension) -> Option<u64> {
        Some(match dimension {
            Dimension::Projects => self.projects,
            Dimension::Apps => self.apps,
            Dimension::Envs => self.envs,
            Dimension::Endpoints => self.endpoints,
            Dimension::TcpPorts => self.tcp_ports,
            Dimension::Hostnames => self.hostnames,
            Dimension::Volumes => self.volumes,
            Dimension::VolumeBytes => self.volume_bytes,
            Dimension::Snapshots => self.snapshots,
            Dimension::Ipv4Addresses => self.ipv4_addresses,
            Dimension::Tunnels => self.tunnels,
            Dimension::Instances | Dimension::Memory | Dimension::Cpu => {
                return self.asked.get(dimension);
            }
            Dimension::InstanceMemory => return None,
        })
    }
}

/// The org a resource belongs to, also when it is gone.
pub fn org_of(state: &State, id: AnyId) -> Option<Id<Org>> {
    let mut id = id;
    while id.kind() != Kind::Org {
        id = view::name_and_parent(state, id)?.1?;
    }
    id.typed()
}

impl State {
    /// What an org has.
    pub fn tally(&self, org: Id<Org>) -> Tally {
        self.tallies.get(&org).copied().unwrap_or_default()
    }

    fn tally_mut(&mut self, org: Id<Org>) -> &mut Tally {
        self.tallies.entry(org).or_default()
    }

    /// Counts an event that is about to be applied.
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::ProjectCreated(it) => self.tally_mut(it.org).projects += 1,
            Event::AppCreated(it) => self.tally_mut(it.org).apps += 1,
            Event::EnvCreated(it) => self.tally_mut(it.org).envs += 1,
            Event::EndpointCreated(it) => self.count_endpoint(&it.spec, true),
            Event::EndpointUpdated(it) => {
                self.discount_endpoint(it.of.id);
                self.count_endpoint(&it.spec, true);
            }
            Event::EndpointDeleted(it) => self.discount_endpoint(it.of.id),
            Event::InstanceAllocated(it) => {
                let need = self.need(&it.spec);
                let tally = self.tally_mut(it.spec.org);
                tally.present = tally.present.plus(need);
            }
            Event::InstanceRemoved(it) => self.discount_instance(it.of.id),
            Event::VolumeCreated(it) => {
                let tally = self.tally_mut(it.spec.org);
                tally.volumes += 1;
                tally.volume_bytes = tally.volume_bytes.saturating_add(it.spec.size_bytes);
            }
            Event::VolumeResized(it) => {
                self.discount_volume_bytes(it.of.id);
                let tally = self.tally_mut(it.of.org);
                tally.volume_bytes = tally.volume_bytes.saturating_add(it.size_bytes);
            }
            Event::VolumeDestroyed(it) => {
                if let Some(id) = it.of.id.typed() {
                    self.discount_volume_bytes(id);
                }
                self.discount(it.of.id);
            }
            Event::SnapshotCreated(it) => self.tally_mut(it.spec.org).snapshots += 1,
            Event::SnapshotDestroyed(it) => self.discount(it.of.id),
            Event::TunnelCreated(it) => self.tally_mut(it.spec.org).tunnels += 1,
            Event::TunnelDestroyed(it) => self.discount(it.of.id),
            Event::ProjectDestroyed(it) => self.discount(it.of.id),
            Event::AppDestroyed(it) => self.discount(it.of.id),
            Event::EnvDestroyed(it) => {
                let env = it.of.id.typed().and_then(|id| self.envs.get(id));
                if let Some(org) = env.filter(|env| env.spec.ipv4.is_some()).map(|it| it.spec.org) {
                    self.count_ipv4(org, false);
                }
                self.discount(it.of.id);
            }
            Event::EnvIpv4Changed(it) => {
                if let Some(org) = self.envs.get(it.id).map(|env| env.spec.org) {
                    self.count_ipv4(org, it.enabled);
                }
            }
            Event::OrgDestroyed(it) => {
                if let Some(org) = it.of.id.typed::<Org>() {
                    self.tallies.remove(&org);
                    self.limits.forget(org);
                }
            }
            _ => {}
        }
    }

    fn count_ipv4(&mut self, org: Id<Org>, more: bool) {
        let counter = &mut self.tally_mut(org).ipv4_addresses;
        *counter = if more { *counter + 1 } else { counter.saturating_sub(1) };
    }

    fn discount(&mut self, id: AnyId) {
        let Some(org) = org_of(self, id).filter(|_| self.has(id)) else {
            return;
        };
        let tally = self.tally_mut(org);
        let counter = match id.kind() {
            Kind::Project => &mut tally.projects,
            Kind::App => &mut tally.apps,
            Kind::Volume => &mut tally.volumes,
            Kind::Snapshot => &mut tally.snapshots,
            Kind::Tunnel => &mut tally.tunnels,
            _ => &mut tally.envs,
        };
        *counter = counter.saturating_sub(1);
    }

    fn has(&self, id: AnyId) -> bool {
        match id.kind() {
            Kind::Project => id.typed().is_some_and(|id| self.projects.get(id).is_some()),
            Kind::App => id.typed().is_some_and(|id| self.apps.get(id).is_some()),
            Kind::Volume => id.typed().is_some_and(|id| self.volumes.get(id).is_some()),
            Kind::Snapshot => id.typed().is_some_and(|id| self.snapshots.get(id).is_some()),
            Kind::Tunnel => id.typed().is_some_and(|id| self.tunnels.get(id).is_some()),
            _ => id.typed().is_some_and(|id| self.envs.get(id).is_some()),
        }
    }

    fn discount_volume_bytes(&mut self, id: Id<Volume>) {
        if let Some((org, size)) = self.volumes.get(id).map(|it| (it.spec.org, it.spec.size_bytes))
        {
            let tally = self.tally_mut(org);
            tally.volume_bytes = tally.volume_bytes.saturating_sub(size);
        }
    }

    fn count_endpoint(&mut self, spec: &Endpoint, more: bool) {
        let tally = self.tally_mut(spec.org);
        let exposed = match spec.exposure {
            Exposure::Http { .. } | Exposure::Tls { own: None, .. } => &mut tally.hostnames,
            Exposure::Tcp { .. } | Exposure::Udp { .. } | Exposure::Tls { own: Some(_), .. } => {
                &mut tally.tcp_ports
            }
        };
        let step = |counter: &mut u64| {
            *counter = if more { *counter + 1 } else { counter.saturating_sub(1) };
        };
        step(exposed);
        step(&mut tally.endpoints);
    }

    fn discount_endpoint(&mut self, id: Id<Endpoint>) {
        if let Some(spec) = self.endpoints.get(id).map(|endpoint| endpoint.spec.clone()) {
            self.count_endpoint(&spec, false);
        }
    }

    fn discount_instance(&mut self, id: Id<Instance>) {
        let Some(instance) = self.instances.get(id) else {
            return;
        };
        let (org, need) = (instance.spec.org, self.need(&instance.spec));
        let tally = self.tally_mut(org);
        tally.present = tally.present.minus(need);
    }

    fn need(&self, instance: &Instance) -> Need {
        let process = self
            .releases
            .get(instance.release)
            .and_then(|release| release.spec.manifest.process(&instance.process));
        process.map(Need::of_one).unwrap_or_default()
    }

    /// What an env asks for: what its release should have, or the one that is
    /// on its way, whichever is more.
    pub(crate) fn asked(&self, env: Id<Env>) -> Need {
        let Some(resource) = self.envs.get(env) else {
            return Need::default();
        };
        if self.destroying_since(env.any()).is_some() {
            return Need::default();
        }
        let rolling = resource.spec.rolling.and_then(|deploy| self.deploys.get(deploy));
        let candidates = [rolling.map(|deploy| deploy.spec.release), resource.status.release];
        let needs = candidates.into_iter().flatten().filter_map(|id| self.releases.get(id));
        needs
            .map(|release| asked_of(&release.spec.manifest, &resource.spec.scale))
            .fold(Need::default(), Need::max)
    }

    /// Notes that an env asks for something else than `before`.
    pub(crate) fn recount(&mut self, env: Id<Env>, org: Id<Org>, before: Need) {
        let after = self.asked(env);
        if before != after {
            let tally = self.tally_mut(org);
            tally.asked = tally.asked.minus(before).plus(after);
        }
    }
}

fn asked_of(manifest: &Manifest, scale: &BTreeMap<Name, u32>) -> Need {
    manifest
        .processes
        .iter()
        .map(|(name, process)| {
            let count = scale.get(name).copied().unwrap_or(process.scaling.min);
            Need::of_one(process).times(u64::from(count))
        })
        .fold(Need::default(), Need::plus)
}

/// The env whose wishes an event may change.
pub(crate) fn asking(state: &State, event: &Event) -> Option<(Id<Env>, Id<Org>)> {
    let env = match event {
        Event::EnvScaled(it) => it.id,
        Event::DeployCreated(it) => it.spec.env,
        Event::DeployFinished(it) => state.deploys.get(it.id)?.spec.env,
        Event::EnvDestroying(it) => it.of.id.typed()?,
        _ => return None,
    };
    Some((env, state.envs.get(env)?.spec.org))
}
