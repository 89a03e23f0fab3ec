//! What one node should be running.

use helix_model::instance::{Desired, Instance};
use helix_model::plan::{InstancePlan, NodePlan, PortPlan, Running, VolumePlan};
use helix_model::{Id, Node, Resource, State};

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
    };
    for id in state.index.volumes(node) {
        let Some(volume) = state.volumes.get(id) else { continue };
        // While an instance has it, it stays whole.
        let is_going = state.destroying_since(id.any()).is_some();
        if is_going && state.index.user(id).is_none() {
            plan.removing.push(id);
        } else {
            let (size_bytes, made) = (volume.spec.size_bytes, volume.status.made);
            plan.volumes.push(VolumePlan { id, size_bytes, made });
        }
    }
    plan
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
        secrets: instance.spec.secrets,
        mounts: instance.spec.mounts.clone(),
        stop_grace_ms: process.stop_grace_seconds.saturating_mul(1000),
    })
}
