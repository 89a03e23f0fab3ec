//! What one node should be running.

use helix_model::instance::{Desired, Instance};
use helix_model::plan::{
    InstancePlan, NodePlan, PortPlan, Running, SnapshotPlan, SourcePlan, VolumePlan,
};
use helix_model::{Id, Node, Resource, State, Volume};

/// The whole plan of a node; what is absent from it is to be stopped.
pub fn node_plan(state: &State, node: Id<Node>) -> NodePlan {
    let carried = state.index.load(node).map(|load| load.instances.clone()).unwrap_or_default();
    let mut instances = Vec::new();
    let mut stopping = Vec::new();
    for (id, desired) in carried {
        if desired == Desired::Stopped {
            stopping.push(id);
        } else if let Some(instance) = state.instances.get(id) {
            instances.extend(instance_plan(state, instance));
        }
    }
    let mut plan = NodePlan {
        version: state.position,
        node,
        network: state.network,
        instances,
        stopping,
        volumes: Vec::new(),
        removing: Vec::new(),
        snapshots: Vec::new(),
        removing_snapshots: Vec::new(),
    };
    for id in state.index.volumes(node) {
        let Some(volume) = state.volumes.get(id) else { continue };
        // While an instance has it, it stays whole.
        let is_going = state.destroying_since(id.any()).is_some();
        if is_going && state.index.user(id).is_none() {
            plan.removing.push(id);
        } else {
            let (size_bytes, made) = (volume.spec.size_bytes, volume.status.made);
            plan.volumes.push(VolumePlan { id, size_bytes, made, source: source(state, volume) });
        }
    }
    for id in state.index.snapshots(node) {
        let Some(snapshot) = state.snapshots.get(id) else { continue };
        let one = SnapshotPlan {
            id,
            volume: snapshot.spec.volume,
            is_settled: !snapshot.status.observed.phase.is_under_way(),
            pause_max_ms: snapshot.spec.pause_max_ms,
            backup: snapshot.spec.backup,
        };
        match state.destroying_since(id.any()) {
            Some(_) => plan.removing_snapshots.push(one),
            None => plan.snapshots.push(one),
        }
    }
    plan
}

/// What a volume that is not there yet is made from.
fn source(state: &State, volume: &Resource<Volume>) -> Option<SourcePlan> {
    let source = volume.spec.source.filter(|_| !volume.status.made)?;
    let snapshot = state.snapshots.get(source)?;
    let sha256 = snapshot.status.observed.sha256.clone()?;
    Some(SourcePlan { snapshot: source, sha256, backup: snapshot.spec.backup })
}

fn instance_plan(state: &State, instance: &Resource<Instance>) -> Option<InstancePlan> {
    let desired = match instance.spec.desired {
        Desired::Running => Running::Running,
        Desired::Draining => Running::Draining,
        Desired::Stopped => return None,
    };
    let release = state.releases.get(instance.spec.release)?;
    let process = release.spec.manifest.process(&instance.spec.process)?;
    let port = |port: &helix_model::manifest::Port| PortPlan {
        name: port.name.clone(),
        internal: port.internal,
        transport: port.transport,
    };
    Some(InstancePlan {
        id: instance.id,
        name: instance.name.clone(),
        org: instance.spec.org,
        env: instance.spec.env,
        release: instance.spec.release,
        process: instance.spec.process.clone(),
        desired,
        image: release.spec.image.pinned(),
        command: process.command.clone(),
        workdir: process.workdir.clone(),
        user: process.user.clone(),
        vars: process.vars.clone(),
        resources: process.resources.clone(),
        ports: process.ports.iter().map(port).collect(),
        health: process.health.clone(),
        restart: process.restart.clone(),
        address: instance.spec.address,
        intra_env: release.spec.manifest.network.intra_env,
        secrets: instance.spec.secrets,
        mounts: instance.spec.mounts.clone(),
        prestart: process.prestart.clone(),
        stop_grace_ms: process.stop_grace_seconds.saturating_mul(1000),
    })
}
