//! What is shown of a volume: whether it is there, how large, and who has it.

use super::{Described, three};
use crate::condition::Condition;
use crate::volume::Phase;
use crate::{Deploy, Env, Reason, Resource, State, Table, Volume, manifest, reference};

impl Described for Volume {
    fn table(state: &State) -> &Table<Self> {
        &state.volumes
    }

    fn conditions(volume: &Resource<Volume>, state: &State) -> Vec<Condition> {
        let (reason, message) = match offline(volume, state) {
            Some(message) => (Reason::VolumeHomeNodeOffline.code(), message),
            None => told(volume, state),
        };
        three(&volume.standing, reason, &message)
    }

    fn difference(volume: &Resource<Volume>, state: &State) -> Option<String> {
        if let Some(offline) = offline(volume, state) {
            return Some(offline);
        }
        let observed = &volume.status.observed;
        let size = |bytes| manifest::format_bytes(bytes);
        match observed.phase {
            Phase::Available => {
                let has = observed.size_bytes.filter(|has| *has < volume.spec.size_bytes)?;
                Some(format!("it has {} of {}", size(has), size(volume.spec.size_bytes)))
            }
            Phase::Pending if volume.spec.node.is_none() => {
                Some("it has no node yet: that is settled with its first instance".to_owned())
            }
            Phase::Failed => observed.message.clone(),
            _ => Some("its node has not made it yet".to_owned()),
        }
    }
}

/// Why nothing can be said of it: its home does not report, or is no more.
fn offline(volume: &Resource<Volume>, state: &State) -> Option<String> {
    let home = volume.spec.node?;
    match state.nodes.get(home) {
        Some(node) if node.status.connected => None,
        Some(node) => Some(format!("its node {} does not report", node.name)),
        None => Some("its node was destroyed, and its data with it".to_owned()),
    }
}

fn told(volume: &Resource<Volume>, state: &State) -> (&'static str, String) {
    let observed = &volume.status.observed;
    if let Some(reason) = observed.reason {
        let message = observed.message.clone();
        return (reason.code(), message.unwrap_or_else(|| reason.meaning().to_owned()));
    }
    match observed.phase {
        Phase::Available => ("available", has_it(volume, state)),
        Phase::Creating => ("creating", "Its node is making it.".to_owned()),
        Phase::Removed => ("removed", "Its data was removed.".to_owned()),
        Phase::Pending | Phase::Failed => match volume.spec.node {
            Some(_) => ("pending", "Its node has not begun to make it.".to_owned()),
            None => ("no_node_yet", "Its node is chosen with its first instance.".to_owned()),
        },
    }
}

fn has_it(volume: &Resource<Volume>, state: &State) -> String {
    let limit = match volume.status.observed.size_enforced {
        true => "",
        false => " Its size is not enforced on this node.",
    };
    let who = match (state.index.user(volume.id), &volume.spec.attachment) {
        (Some(user), _) => format!("{} has it.", reference::path(state, user.any())),
        (None, Some(it)) => format!(
            "It is attached to {} of {}, which does not run.",
            it.process,
            reference::path(state, it.env.any())
        ),
        (None, None) => "It is not attached.".to_owned(),
    };
    format!("{who}{limit}")
}

/// Why an env is short of an instance: the node of a volume it has does not report.
pub(super) fn without_home(env: &Resource<Env>, state: &State) -> Option<String> {
    let instances = state.instances.children(env.id.any());
    let mounts = instances.flat_map(|instance| &instance.spec.mounts);
    mounts.filter_map(|mount| state.volumes.get(mount.volume)).find_map(|volume| {
        let why = offline(volume, state)?;
        Some(format!("volume {}: {why}", volume.name))
    })
}

/// When processes with volumes did not serve because of a deploy, to follow other
/// words.
pub(super) fn pauses(deploy: &Resource<Deploy>) -> String {
    let told = deploy.status.pauses.iter().map(|(process, pause)| match pause.until {
        Some(until) => {
            let seconds = until.since(pause.since).as_secs_f64();
            format!(" {process} paused for {seconds:.1} s, because it has a volume.")
        }
        None => format!(" {process} pauses since {}, because it has a volume.", pause.since),
    });
    told.collect()
}
