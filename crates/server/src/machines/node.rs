//! A node over a network.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::BoxStream;
use helix_link::{Incoming, Link, Opened, Receiver, Sender, Stream};
use helix_model::link::{
    Ask, AskServer, BackupAnswer, BackupAsk, ExecBegun, FromNode, LinkLog, NodeHello,
    SecretsAnswer, ToNode,
};
use helix_model::plan::NodePlan;
use helix_model::{Code, Id, Instance, Problem};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

use super::{ANSWERS_MAX, HELLO_WAIT, check_protocol, json, tell_end};
use crate::attach::Attached;
use crate::links::{
    Exec, ExecInput, ExecOutput, ExecRefused, ExecSession, LogQuery, LogRecord, NodeLink,
};
use crate::observe;
use crate::server::Shared;

/// How long a node may take to start a command: it asks a shim.
const EXEC_WAIT: Duration = Duration::from_secs(30);

/// Frames under way in one direction of an exec session; the link has windows
/// of its own.
const FRAMES_MAX: usize = 16;

/// The server's end of a node's link.
struct RemoteNode {
    link: Link,
    /// The plan that is still to be sent; the latest wins.
    plans: watch::Sender<Option<NodePlan>>,
}

/// Feeds the node and takes its reports until the link ends; then the node is no
/// longer connected, unless it has linked anew meanwhile.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    link: Link,
    (stream, incoming): (Stream, Incoming),
    hello: NodeHello,
) {
    let Stream { mut sender, receiver } = stream;
    let (plans, unsent) = watch::channel(None);
    let remote = Arc::new(RemoteNode { link: link.clone(), plans });
    let name = hello.name.to_string();
    let attaching = attach(shared, Arc::clone(&remote), receiver, hello);
    let (attached, receiver) = match attaching.await {
        Ok(attached) => attached,
        Err(problem) => {
            tracing::warn!(node = name, %problem, "a node was refused");
            let _ = sender.send(json(&ToNode::Refused { problem })).await;
            return sender.close();
        }
    };
    tracing::info!(node = name, link = attached.link, "a node is linked");
    let why = tokio::select! {
        // Ends when the node has linked anew, here or elsewhere.
        () = observe::feed_node(shared.engine.clone(), attached.clone(), remote) => None,
        () = send(sender, unsent, &attached) => Some(link.ended().await),
        () = take(shared, &attached, receiver) => Some(link.ended().await),
        () = answer(shared, &attached, incoming) => Some(link.ended().await),
        why = link.ended() => Some(why),
        () = shared.closed() => None,
    };
    if let Some(why) = why {
        tell_end(&name, "node", &why);
    }
    shared.detach_node(&attached).await;
}

/// Connects the node, with what it says is there.
async fn attach(
    shared: &Arc<Shared>,
    remote: Arc<RemoteNode>,
    mut receiver: Receiver,
    hello: NodeHello,
) -> Result<(Attached, Receiver), Box<Problem>> {
    check_protocol(hello.protocol)?;
    let first = tokio::time::timeout(HELLO_WAIT, receiver.next()).await;
    let Ok(Ok(Some(first))) = first else {
        return Err(misunderstood("it did not say what is there"));
    };
    let first =
        serde_json::from_slice(&first).map_err(|error| misunderstood(&error.to_string()))?;
    let FromNode::Present { present, observed } = first else {
        return Err(misunderstood("it did not begin with what is there"));
    };
    let attached = shared.attach_node(hello.name, hello.facts, present, remote).await?;
    let reports = observed
        .into_iter()
        .map(|seen| shared.instance_reported(&attached, seen.instance, seen.observed));
    join_all(reports).await;
    Ok((attached, receiver))
}

fn misunderstood(what: &str) -> Box<Problem> {
    Box::new(Problem::new(Code::InvalidArgument, format!("the node is not understood: {what}")))
}

async fn send(mut sender: Sender, mut plans: watch::Receiver<Option<NodePlan>>, to: &Attached) {
    let mut message: Bytes = json(&ToNode::Welcome { node: to.node, link: to.link });
    loop {
        if sender.send(message).await.is_err() {
            return;
        }
        message = loop {
            if plans.changed().await.is_err() {
                return;
            }
            if let Some(plan) = plans.borrow_and_update().clone() {
                break json(&ToNode::Plan { plan });
            }
        };
    }
}

async fn take(shared: &Shared, from: &Attached, mut receiver: Receiver) {
    while let Ok(Some(message)) = receiver.next().await {
        match serde_json::from_slice::<FromNode>(&message) {
            Ok(FromNode::Observed(seen)) => {
                shared.instance_reported(from, seen.instance, seen.observed).await;
            }
            Ok(FromNode::Volume(seen)) => {
                shared.volume_reported(from, seen.volume, seen.observed).await;
            }
            Ok(FromNode::Disk(disk)) => shared.disk_reported(from, disk).await,
            Ok(FromNode::Snapshot(seen)) => {
                shared.snapshot_reported(from, seen.snapshot, seen.observed).await;
            }
            Ok(FromNode::Present { .. }) => {}
            Err(error) => tracing::warn!(%error, node = %from.name, "a report is not understood"),
        }
    }
}

/// Answers what the node asks for, many at a time.
async fn answer(shared: &Shared, to: &Attached, incoming: Incoming) {
    let opened = futures::stream::unfold(incoming, |mut incoming| async move {
        Some((incoming.next().await?, incoming))
    });
    opened.for_each_concurrent(ANSWERS_MAX, |opened| answer_one(shared, to, opened)).await;
}

async fn answer_one(shared: &Shared, to: &Attached, opened: Opened) {
    let Opened { header, stream } = opened;
    let Stream { sender, receiver } = stream;
    let delivered = match serde_json::from_slice(&header) {
        Ok(AskServer::Secrets { instance, version }) => {
            shared.deliver_secrets(to, instance, version).await
        }
        Ok(AskServer::PullLogin { instance }) => {
            let login = shared.pull_login(to, instance).await;
            login.map(|login| Zeroizing::new(json(&login).to_vec()))
        }
        Ok(AskServer::Backup { ask }) => {
            return answer_backup(shared, to, &ask, sender, receiver).await;
        }
        // Nodes carry no traffic.
        Ok(AskServer::Certificate { .. }) => {
            return sender.reset("certificates are for edges");
        }
        Err(error) => return sender.reset(&format!("not understood: {error}")),
    };
    deliver(sender, delivered).await;
}

/// Sends what was asked for, or why not.
pub(super) async fn deliver(mut sender: Sender, delivered: Result<Zeroizing<Vec<u8>>, Problem>) {
    // A machine that does not wait for its answer has the link's own end to tell.
    let _ = match delivered {
        Ok(bytes) => match sender.send(json(&SecretsAnswer::Sent)).await {
            Ok(()) => sender.send(Bytes::copy_from_slice(&bytes)).await,
            gone => gone,
        },
        Err(problem) => {
            let refused = SecretsAnswer::Refused { message: problem.detail };
            sender.send(json(&refused)).await
        }
    };
    sender.close();
}

/// The same for backups: what belongs to the question is the next message.
async fn answer_backup(
    shared: &Shared,
    to: &Attached,
    ask: &BackupAsk,
    mut sender: Sender,
    mut receiver: Receiver,
) {
    let Ok(Some(body)) = receiver.next().await else {
        return sender.reset("what belongs to the question is missing");
    };
    let _ = match shared.backup_asked(to, ask, &body).await {
        Ok(answer) => match sender.send(json(&BackupAnswer::Sent)).await {
            Ok(()) => sender.send(Bytes::from(answer)).await,
            gone => gone,
        },
        Err(problem) => {
            let retryable = problem.code == Code::Unavailable;
            sender.send(json(&BackupAnswer::Refused { message: problem.detail, retryable })).await
        }
    };
    sender.close();
}

#[async_trait]
impl NodeLink for RemoteNode {
    fn apply(&self, plan: NodePlan) {
        self.plans.send_replace(Some(plan));
    }

    fn logs(&self, query: LogQuery) -> BoxStream<'static, LogRecord> {
        let LogQuery { instances, tail_lines, since, follow, filter } = query;
        let ask = json(&Ask::Logs { instances, tail_lines, since, follow, filter });
        let Ok(stream) = self.link.open(ask) else {
            return futures::stream::empty().boxed();
        };
        stream.sender.close();
        // A link that is lost ends the output, as a node that is gone does.
        let lines = futures::stream::unfold(stream.receiver, |mut receiver| async move {
            let message = receiver.next().await.ok()??;
            Some((serde_json::from_slice::<LinkLog>(&message).ok(), receiver))
        });
        lines.filter_map(|line| async move { line.map(record) }).boxed()
    }

    async fn exec(&self, instance: Id<Instance>, exec: Exec) -> Result<ExecSession, ExecRefused> {
        let Exec { command, tty, cols, rows, env } = exec;
        let ask = json(&Ask::Exec { instance, command, tty, cols, rows, env });
        let mut stream = self.link.open(ask).map_err(|error| refused(&error.to_string()))?;
        let begun = tokio::time::timeout(EXEC_WAIT, stream.receiver.next()).await;
        let begun = match begun {
            Ok(Ok(Some(begun))) => serde_json::from_slice(&begun),
            Ok(Ok(None)) => return Err(refused("the node did not answer")),
            Ok(Err(error)) => return Err(refused(&error.to_string())),
            Err(_) => return Err(refused("the node did not answer in time")),
        };
        match begun {
            Ok(ExecBegun::Started) => {}
            Ok(ExecBegun::Refused { message, not_running }) => {
                return Err(ExecRefused { message, not_running });
            }
            Err(error) => return Err(refused(&format!("the node is not understood: {error}"))),
        }
        let (input, inputs) = mpsc::channel(FRAMES_MAX);
        let (outputs, output) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(feed(stream.sender, inputs));
        tokio::spawn(drain(stream.receiver, outputs));
        Ok(ExecSession { input, output })
    }
}

async fn feed(mut sender: Sender, mut inputs: mpsc::Receiver<ExecInput>) {
    while let Some(input) = inputs.recv().await {
        if sender.send(input.encode()).await.is_err() {
            return;
        }
    }
    sender.close();
}

/// Whoever asked drops the output when it goes, and so ends the command.
async fn drain(mut receiver: Receiver, outputs: mpsc::Sender<ExecOutput>) {
    loop {
        let message = tokio::select! {
            message = receiver.next() => message,
            () = outputs.closed() => return,
        };
        let Ok(Some(message)) = message else { return };
        let Some(output) = ExecOutput::decode(&message) else { return };
        if outputs.send(output).await.is_err() {
            return;
        }
    }
}

fn refused(message: &str) -> ExecRefused {
    ExecRefused { message: message.to_owned(), not_running: false }
}

fn record(line: LinkLog) -> LogRecord {
    let LinkLog { instance, at, stderr, line, truncated, dropped } = line;
    LogRecord { instance, at, stderr, line, truncated, dropped }
}
