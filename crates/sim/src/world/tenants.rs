//! What people make and destroy by name: apps, envs, projects, whole orgs. They
//! drain nodes, and give up those that do not answer, whether or not these are
//! dead.

use helix_model::destroy::Destroy;
use helix_model::node::Availability;
use helix_model::snapshot::PAUSE_DEFAULT_MS;
use helix_model::{AnyId, Command, State, app, env, node, snapshot, volume};

use super::wishes::pick_name;
use crate::random::Random;

/// A wish to make or to destroy something; rarely the larger things, or nothing
/// would ever grow.
pub(crate) fn wish(random: &mut Random, state: &State) -> Option<Command> {
    let drawn = random.between(0, 99);
    match drawn {
        0..25 => {
            let project = pick(random, state.projects.iter().map(|it| it.id).collect())?;
            let name = pick_name(random, &["shop", "blog", "idle"])?;
            Some(Command::CreateApp(app::Create { project, name }))
        }
        25..45 => {
            let app = pick(random, state.apps.iter().map(|it| it.id).collect())?;
            let name = pick_name(random, &["production", "staging", "preview"])?;
            Some(Command::CreateEnv(env::Create { app, name }))
        }
        45..55 => {
            let node = pick(random, state.nodes.iter().map(|it| it.id).collect())?;
            let availability = random.pick(&[
                Availability::Active,
                Availability::Active,
                Availability::Cordoned,
                Availability::Draining,
            ])?;
            Some(Command::SetNodeAvailability(node::SetAvailability { node, availability }))
        }
        55..62 => {
            let silent = state.nodes.iter().filter(|it| !it.status.connected);
            let target = pick(random, silent.map(|it| it.id.any()).collect())?;
            Some(Command::Destroy(Destroy { target, cascade: false }))
        }
        _ => {
            let candidates: Vec<AnyId> = match drawn {
                62..68 => state.volumes.iter().map(|it| it.id.any()).collect(),
                68..85 => state.envs.iter().map(|it| it.id.any()).collect(),
                85..94 => state.apps.iter().map(|it| it.id.any()).collect(),
                94..98 => state.projects.iter().map(|it| it.id.any()).collect(),
                _ => state.orgs.iter().map(|it| it.id.any()).collect(),
            };
            let target = pick(random, candidates)?;
            let cascade = random.percent(60);
            Some(Command::Destroy(Destroy { target, cascade }))
        }
    }
}

/// A wish about a snapshot: one of a volume, a volume of one, or one less.
pub(crate) fn snapshot_wish(random: &mut Random, state: &State) -> Option<Command> {
    let drawn = random.between(0, 99);
    if drawn < 50 || state.snapshots.iter().next().is_none() {
        let made = state.volumes.iter().filter(|it| it.status.made);
        let volume = pick(random, made.map(|it| it.id).collect())?;
        let backup = random.percent(50);
        let create = snapshot::Create {
            volume,
            name: None,
            pause_max_ms: PAUSE_DEFAULT_MS,
            backup,
            scheduled: false,
        };
        return Some(Command::CreateSnapshot(create));
    }
    let all: Vec<_> = state.snapshots.iter().map(|it| it.id).collect();
    let source = pick(random, all)?;
    if drawn < 75 {
        let snapshot = state.snapshots.get(source)?;
        let nodes = state.nodes.iter().map(|it| it.id).collect();
        let node = if random.percent(50) { pick(random, nodes) } else { None };
        let name = pick_name(random, &["copy", "other", "third"])?;
        let (org, size_bytes) = (snapshot.spec.org, snapshot.spec.size_bytes);
        let source = Some(source);
        let create = volume::Create { org, name, size_bytes, node, source };
        return Some(Command::CreateVolume(create));
    }
    Some(Command::Destroy(Destroy { target: source.any(), cascade: false }))
}

fn pick<T: Copy>(random: &mut Random, from: Vec<T>) -> Option<T> {
    (!from.is_empty()).then(|| from[random.index(from.len())])
}
