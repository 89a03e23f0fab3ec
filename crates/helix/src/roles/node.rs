//! `helix node`: the agent of this machine, linked to a server.
//!
//! ```text
//! <data>/node/     the agent's files: last plan, instances, images
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use helix_cli::{Happening, NodeOptions, Role};
use helix_link::{LinkError, Receiver, Sender, Stream};
use helix_model::link::{
    FromNode, Hello, LINK_PROTOCOL, NodeHello, Seen, SnapshotSeen, ToNode, VolumeSeen,
};
use helix_model::{Code, Id, Name, Problem, Snapshot, Volume, snapshot, volume};
use helix_node::{Agent, Observation, OwnRegistry, Snapshots, Stop, Volumes};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use super::answer::answer;
use super::dialler::{Dialled, Dialler};
use super::{ended_by_itself, unusable};
use crate::platform::{make_private_dir, node_name};
use crate::secret_source::LinkedSource;

pub(super) struct NodeRole {
    agent: Arc<Agent>,
    facts: Vec<(&'static str, String)>,
    notes: mpsc::UnboundedReceiver<String>,
    linking: JoinHandle<()>,
}

pub(super) async fn start(options: NodeOptions) -> Result<NodeRole, Problem> {
    let data_dir = options.data_dir.join("node");
    make_private_dir(&data_dir)
        .map_err(|error| unusable(&error, "choose another place with `--data-dir`"))?;
    let (noted, notes) = mpsc::unbounded_channel();
    let dialler = Dialler::new(&options.servers, &options.token, noted)?;
    let registries = options.servers.iter().map(|url| registry(url, &options.token));
    let registries = registries.collect::<Result<Vec<_>, _>>()?;
    let executable = std::env::current_exe()
        .map_err(|error| unusable(&error, "this program cannot find itself"))?;
    let mut config = helix_node::Config::new(data_dir.clone(), executable, registries);
    config.isolation = options.isolation.map(crate::up::level);
    config.disk = crate::up::disk_limits(options.disk);
    config.volume_pool = options.volume_pool;
    config.registries = crate::up::transport(&options.registries)?;
    let agent = Agent::start(config).await.map_err(|error| {
        let hint = error.hint().unwrap_or("`helix doctor` checks the machine");
        unusable(&error, hint)
    })?;
    let agent = Arc::new(agent);
    let name = options.name.unwrap_or_else(node_name);
    let isolation = agent.facts().isolation;
    let facts = vec![
        ("name", name.to_string()),
        ("servers", options.servers.join(" ")),
        ("isolation", isolation),
        ("data", data_dir.display().to_string()),
    ];
    let linking = tokio::spawn(keep_linked(Arc::clone(&agent), name, dialler));
    Ok(NodeRole { agent, facts, notes, linking })
}

/// The registry inside a server.
fn registry(url: &str, token: &str) -> Result<OwnRegistry, Problem> {
    let client = helix_client::Client::new(url, None)
        .map_err(|error| Problem::new(Code::InvalidArgument, error.to_string()))?;
    let plain_http = url.starts_with("http:");
    Ok(OwnRegistry { host: client.authority(), token: token.to_owned(), plain_http })
}

#[async_trait]
impl Role for NodeRole {
    fn facts(&self) -> Vec<(&'static str, String)> {
        self.facts.clone()
    }

    async fn next(&mut self) -> Happening {
        match self.notes.recv().await {
            Some(note) => Happening::Note(note),
            None => Happening::Ended(ended_by_itself("node")),
        }
    }

    /// The instances go on: they outlive their agent.
    async fn stop(self: Box<Self>) -> Result<(), Problem> {
        self.linking.abort();
        let _ = self.linking.await;
        self.agent.shutdown(Stop::Detach).await;
        Ok(())
    }
}

/// Linked to one server after the other, for ever.
async fn keep_linked(agent: Arc<Agent>, name: Name, mut dialler: Dialler) {
    loop {
        let (protocol, name) = (LINK_PROTOCOL, name.clone());
        let hello = NodeHello { protocol, name, facts: agent.facts() };
        let dialled = dialler.dial(&Hello::Node(hello)).await;
        let why = serve(&agent, dialled, &mut dialler).await;
        agent.secrets_from(None);
        agent.backups_kept_by(None);
        dialler.lost(&why).await;
    }
}

/// Serves one link to its end; why it ended.
async fn serve(agent: &Arc<Agent>, dialled: Dialled, dialler: &mut Dialler) -> String {
    let Dialled { link, mut incoming, stream } = dialled;
    let Stream { sender, mut receiver } = stream;
    // Before the rest is read, so that nothing falls in between.
    let observations = agent.observations();
    let reporting = report(agent, sender, observations);
    tokio::pin!(reporting);
    let welcome = tokio::select! {
        welcome = next(&mut receiver) => welcome,
        () = &mut reporting => return link.ended().await.to_string(),
    };
    match welcome {
        Some(ToNode::Welcome { .. }) => {
            agent.secrets_from(Some(Arc::new(LinkedSource(link.clone()))));
            agent.backups_kept_by(Some(Arc::new(LinkedSource(link.clone()))));
            dialler.welcomed();
        }
        Some(ToNode::Refused { problem }) => return problem.detail,
        Some(ToNode::Plan { .. }) => return "a plan before a welcome".to_owned(),
        None => return link.ended().await.to_string(),
    }
    let answering = async {
        while let Some(opened) = incoming.next().await {
            tokio::spawn(answer(Arc::clone(agent), opened));
        }
    };
    tokio::select! {
        () = obey(agent, &mut receiver) => {}
        () = &mut reporting => {}
        () = answering => {}
    }
    link.close();
    match link.ended().await {
        LinkError::Closed => "the server ended the link".to_owned(),
        why => why.to_string(),
    }
}

/// Takes plans until the stream ends.
async fn obey(agent: &Agent, receiver: &mut Receiver) {
    while let Some(message) = next(receiver).await {
        if let ToNode::Plan { plan } = message {
            agent.apply(plan);
        }
    }
}

async fn next(receiver: &mut Receiver) -> Option<ToNode> {
    let message = receiver.next().await.ok()??;
    serde_json::from_slice(&message)
        .inspect_err(|error| tracing::warn!(%error, "the server is not understood"))
        .ok()
}

/// Says how things stand and then what changes; one who fell behind says the
/// whole again. Ends with the stream.
async fn report(
    agent: &Agent,
    mut sender: Sender,
    mut observations: broadcast::Receiver<Observation>,
) {
    let present = agent.present().await;
    let observed = agent.current().into_iter().map(seen).collect();
    if send(&mut sender, &FromNode::Present { present, observed }).await.is_none() {
        return;
    }
    let mut volumes = agent.volumes();
    volumes.mark_changed();
    let mut disk = agent.disk();
    disk.mark_changed();
    let mut told = BTreeMap::new();
    let mut snapshots = agent.snapshots();
    snapshots.mark_changed();
    let mut told_snapshots = BTreeMap::new();
    loop {
        let news = tokio::select! {
            news = observations.recv() => news,
            Ok(()) = volumes.changed() => {
                if tell_volumes(&mut sender, &mut volumes, &mut told).await.is_none() {
                    return;
                }
                continue;
            }
            Ok(()) = disk.changed() => {
                let seen = disk.borrow_and_update().clone();
                if let Some(seen) = seen
                    && send(&mut sender, &FromNode::Disk(seen)).await.is_none()
                {
                    return;
                }
                continue;
            }
            Ok(()) = snapshots.changed() => {
                let told = &mut told_snapshots;
                if tell_snapshots(&mut sender, &mut snapshots, told).await.is_none() {
                    return;
                }
                continue;
            }
            () = sender.abandoned() => return,
        };
        let news = match news {
            Ok(news) => vec![news],
            Err(broadcast::error::RecvError::Lagged(_)) => agent.current(),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for observation in news {
            if send(&mut sender, &FromNode::Observed(seen(observation))).await.is_none() {
                return;
            }
        }
    }
}

/// Says what is news of the volumes.
async fn tell_volumes(
    sender: &mut Sender,
    volumes: &mut Volumes,
    told: &mut BTreeMap<Id<Volume>, volume::Observed>,
) -> Option<()> {
    let now = volumes.borrow_and_update().clone();
    for (volume, observed) in now {
        if told.get(&volume) != Some(&observed) {
            told.insert(volume, observed.clone());
            send(sender, &FromNode::Volume(VolumeSeen { volume, observed })).await?;
        }
    }
    Some(())
}

/// The same of the snapshots.
async fn tell_snapshots(
    sender: &mut Sender,
    snapshots: &mut Snapshots,
    told: &mut BTreeMap<Id<Snapshot>, snapshot::Observed>,
) -> Option<()> {
    let now = snapshots.borrow_and_update().clone();
    for (snapshot, observed) in now {
        if told.get(&snapshot) != Some(&observed) {
            told.insert(snapshot, observed.clone());
            send(sender, &FromNode::Snapshot(SnapshotSeen { snapshot, observed })).await?;
        }
    }
    Some(())
}

fn seen((instance, observed): Observation) -> Seen {
    Seen { instance, observed }
}

async fn send(sender: &mut Sender, message: &FromNode) -> Option<()> {
    let message = serde_json::to_vec(message).ok()?;
    sender.send(Bytes::from(message)).await.ok()
}
