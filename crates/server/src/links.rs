//! Links: how the control plane reaches a node or an edge.
//!
//! A link takes whole plans and answers the few questions that only the machine
//! itself can (logs, exec). In `helix up` a link is a function call away; over
//! a network it is a stream. Nothing here knows which.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::stream::BoxStream;
use helix_model::plan::{EdgePlan, NodePlan};
use helix_model::{Id, Instance, Timestamp};
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
pub trait EdgeLink: Send + Sync + 'static {
    /// Hands over the whole plan; the latest wins. Must not block. What comes of
    /// it is reported through [`Server::edge_reported`](crate::Server::edge_reported).
    fn apply(&self, plan: EdgePlan);
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
    Stdin(bytes::Bytes),
    CloseStdin,
    Resize { cols: u16, rows: u16 },
    Signal(String),
}

/// What a running command sends back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    Stdout(bytes::Bytes),
    Stderr(bytes::Bytes),
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
