//! What a server asks of this node over its link: output and commands.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use helix_link::{Opened, Receiver, Sender, Stream};
use helix_model::link::{Ask, ExecBegun, LinkLog};
use helix_node::Agent;
use helix_server::links::{
    Exec, ExecInput, ExecOutput, ExecSession, LogQuery, LogRecord, NodeLink,
};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::node_link::LocalNode;

/// Answers one stream, to its end.
pub(super) async fn answer(agent: Arc<Agent>, opened: Opened) {
    let Opened { header, stream } = opened;
    let node = LocalNode(agent);
    match serde_json::from_slice(&header) {
        Ok(Ask::Logs { instances, tail_lines, since, follow, filter }) => {
            let query = LogQuery { instances, tail_lines, since, follow, filter };
            logs(&node, query, stream.sender).await;
        }
        Ok(Ask::Exec { instance, command, tty, cols, rows, env }) => {
            let exec = Exec { command, tty, cols, rows, env };
            let Stream { mut sender, receiver } = stream;
            match node.exec(instance, exec).await {
                Ok(session) => {
                    if sender.send(json(&ExecBegun::Started)).await.is_ok() {
                        run(session, sender, receiver).await;
                    }
                }
                Err(refused) => {
                    let (message, not_running) = (refused.message, refused.not_running);
                    let refused = ExecBegun::Refused { message, not_running };
                    let _ = sender.send(json(&refused)).await;
                }
            }
        }
        Err(error) => stream.sender.reset(&format!("not understood: {error}")),
    }
}

async fn logs(node: &LocalNode, query: LogQuery, mut sender: Sender) {
    let mut lines = node.logs(query);
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = sender.abandoned() => return,
        };
        let Some(LogRecord { instance, at, stderr, line, truncated, dropped }) = line else {
            return;
        };
        let line = LinkLog { instance, at, stderr, line, truncated, dropped };
        if sender.send(json(&line)).await.is_err() {
            return;
        }
    }
}

/// Until the command has ended, or whoever asked for it has gone: then it is
/// hung up on.
async fn run(session: ExecSession, sender: Sender, receiver: Receiver) {
    let ExecSession { input, output } = session;
    tokio::select! {
        () = print(output, sender) => {}
        () = feed(receiver, input) => {}
    }
}

async fn print(mut output: mpsc::Receiver<ExecOutput>, mut sender: Sender) {
    while let Some(output) = output.recv().await {
        if sender.send(output.encode()).await.is_err() {
            return;
        }
    }
}

/// Ends only when the stream is given up; an end of input alone is not that.
async fn feed(mut receiver: Receiver, input: mpsc::Sender<ExecInput>) {
    loop {
        match receiver.next().await {
            Ok(Some(message)) => {
                if let Some(message) = ExecInput::decode(&message) {
                    // The command's end is told by its output.
                    let _ = input.send(message).await;
                }
            }
            Ok(None) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

fn json(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).unwrap_or_default().into()
}
