//! Links: how the control plane reaches a node or an edge.
//!
//! A link takes whole plans and answers the few questions that only the machine
//! itself can (logs, exec). In `helix up` a link is a function call away; over
//! a network it is a stream. Nothing here knows which.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use helix_model::api::{ExecControl, ExecEnd, exec_frame};
use helix_model::plan::{EdgePlan, NodePlan};
use helix_model::traffic::Told;
use helix_model::{Id, Instance, LogFilter, Timestamp};
use tokio::sync::mpsc;

/// A node, as the control plane sees it.
#[async_trait]
pub trait NodeLink: Send + Sync + 'static {
    /// Hands over the whole plan; the latest wins. Must not block.
    fn apply(&self, plan: NodePlan);

    /// Output of instances, in time order over all of them.
    fn logs(&self, query: LogQuery) -> BoxStream<'static, LogRecord>;

    /// Starts a command in an instance.
    async fn exec(&self, instance: Id<Instance>, exec: Exec) -> Result<ExecSession, ExecRefused>;
}

/// An edge, as the control plane sees it.
#[async_trait]
pub trait EdgeLink: Send + Sync + 'static {
    /// Hands over the whole plan; the latest wins. Must not block. What comes of
    /// it is reported through [`Server::edge_reported`](crate::Server::edge_reported).
    fn apply(&self, plan: EdgePlan);

    /// What has gone through each endpoint; `None` from one that does not tell.
    async fn traffic(&self) -> Option<Vec<Told>>;
}

/// Which output is wanted.
#[derive(Clone, Debug)]
pub struct LogQuery {
    pub instances: Vec<Id<Instance>>,
    /// At most this many lines of what is there already.
    pub tail_lines: usize,
    /// Nothing older than this.
    pub since: Option<Timestamp>,
    /// Stay and pass on what comes.
    pub follow: bool,
    /// Which lines count.
    pub filter: LogFilter,
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub instance: Id<Instance>,
    pub at: Timestamp,
    pub stderr: bool,
    pub line: String,
    /// The line was longer than the limit and ends here.
    pub truncated: bool,
    /// Lines lost before this one.
    pub dropped: u64,
}

/// A command to run in an instance.
#[derive(Clone, Debug)]
pub struct Exec {
    pub command: Vec<String>,
    pub tty: bool,
    pub cols: u16,
    pub rows: u16,
    pub env: BTreeMap<String, String>,
}

/// A running command.
pub struct ExecSession {
    pub input: mpsc::Sender<ExecInput>,
    /// Ends after [`ExecOutput::Exit`].
    pub output: mpsc::Receiver<ExecOutput>,
}

/// What a person sends to a running command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    Stdin(Bytes),
    CloseStdin,
    Resize { cols: u16, rows: u16 },
    Signal(String),
}

/// What a running command sends back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    Stdout(Bytes),
    Stderr(Bytes),
    Exit(i32),
}

/// Why a command did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExecRefused {
    pub message: String,
    /// The instance itself is not running.
    pub not_running: bool,
}

impl ExecInput {
    /// As a frame of [`exec_frame`].
    pub fn encode(&self) -> Bytes {
        let control = |control: &ExecControl| {
            frame(exec_frame::CONTROL, &serde_json::to_vec(control).unwrap_or_default())
        };
        match self {
            ExecInput::Stdin(bytes) => frame(exec_frame::STDIN, bytes),
            ExecInput::CloseStdin => frame(exec_frame::STDIN, &[]),
            ExecInput::Resize { cols, rows } => {
                control(&ExecControl::Resize { cols: *cols, rows: *rows })
            }
            ExecInput::Signal(name) => control(&ExecControl::Signal { name: name.clone() }),
        }
    }

    /// What a frame says; `None` when it is none of these.
    pub fn decode(bytes: &Bytes) -> Option<ExecInput> {
        let (kind, payload) = (bytes.first()?, bytes.slice(1..));
        match *kind {
            exec_frame::STDIN if payload.is_empty() => Some(ExecInput::CloseStdin),
            exec_frame::STDIN => Some(ExecInput::Stdin(payload)),
            exec_frame::CONTROL => match serde_json::from_slice(&payload).ok()? {
                ExecControl::Resize { cols, rows } => Some(ExecInput::Resize { cols, rows }),
                ExecControl::Signal { name } => Some(ExecInput::Signal(name)),
            },
            _ => None,
        }
    }
}

impl ExecOutput {
    /// As a frame of [`exec_frame`].
    pub fn encode(&self) -> Bytes {
        match self {
            ExecOutput::Stdout(bytes) => frame(exec_frame::STDOUT, bytes),
            ExecOutput::Stderr(bytes) => frame(exec_frame::STDERR, bytes),
            ExecOutput::Exit(code) => {
                let (reason, message) = ("exited".to_owned(), String::new());
                let end = ExecEnd { exit_code: Some(*code), reason, message };
                frame(exec_frame::EXIT, &serde_json::to_vec(&end).unwrap_or_default())
            }
        }
    }

    /// What a frame says; `None` when it is none of these.
    pub fn decode(bytes: &Bytes) -> Option<ExecOutput> {
        let (kind, payload) = (bytes.first()?, bytes.slice(1..));
        match *kind {
            exec_frame::STDOUT => Some(ExecOutput::Stdout(payload)),
            exec_frame::STDERR => Some(ExecOutput::Stderr(payload)),
            exec_frame::EXIT => {
                let end: ExecEnd = serde_json::from_slice(&payload).ok()?;
                end.exit_code.map(ExecOutput::Exit)
            }
            _ => None,
        }
    }
}

/// A frame of [`exec_frame`].
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(payload.len() + 1);
    bytes.push(kind);
    bytes.extend_from_slice(payload);
    bytes.into()
}
