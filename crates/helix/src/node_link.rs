//! The node agent of this process, as the server's link to it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use helix_model::api::ExecRequest;
use helix_model::plan::NodePlan;
use helix_model::{Id, Instance};
use helix_node::{Agent, ExecEvent, ExecInput as NodeInput, ExecOutput as NodeOutput, NodeError};
use helix_server::links::{
    Exec, ExecInput, ExecOutput, ExecRefused, ExecSession, LogQuery, LogRecord, NodeLink,
};
use nix::sys::signal::Signal;
use tokio::sync::mpsc;

/// Frames under way in one direction of an exec session.
const FRAMES_MAX: usize = 16;

/// A link that is a function call away.
pub(crate) struct LocalNode(pub Arc<Agent>);

#[async_trait]
impl NodeLink for LocalNode {
    fn apply(&self, plan: NodePlan) {
        self.0.apply(plan);
    }

    fn logs(&self, query: LogQuery) -> BoxStream<'static, LogRecord> {
        let wanted = helix_node::LogQuery {
            tail_lines: Some(query.tail_lines),
            since_ms: query.since.and_then(|since| u64::try_from(since.0).ok()),
            follow: query.follow,
            filter: query.filter,
        };
        let lines = self.0.logs(&query.instances, wanted);
        lines
            .filter_map(|line| async move {
                Some(LogRecord {
                    instance: line.instance_id.parse().ok()?,
                    at: line.ts,
                    stderr: line.stream == "stderr",
                    line: line.line,
                    truncated: line.truncated,
                    dropped: line.dropped,
                })
            })
            .boxed()
    }

    async fn exec(&self, instance: Id<Instance>, exec: Exec) -> Result<ExecSession, ExecRefused> {
        let request = ExecRequest {
            command: exec.command,
            tty: exec.tty,
            cols: exec.cols,
            rows: exec.rows,
            env: exec.env,
        };
        let session = self.0.exec(instance, request).await.map_err(|error| ExecRefused {
            not_running: matches!(error, NodeError::NotRunning(_)),
            message: chain(&error),
        })?;
        let (input, inputs) = mpsc::channel(FRAMES_MAX);
        let (outputs, output) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(feed(session.input, inputs));
        tokio::spawn(drain(session.output, outputs));
        Ok(ExecSession { input, output })
    }
}

/// Passes input on until either side is gone.
async fn feed(mut program: NodeInput, mut inputs: mpsc::Receiver<ExecInput>) {
    while let Some(input) = inputs.recv().await {
        let sent = match input {
            ExecInput::Stdin(bytes) => program.write(&bytes).await,
            ExecInput::CloseStdin => program.close().await,
            ExecInput::Resize { cols, rows } => program.resize(cols, rows).await,
            ExecInput::Signal(name) => match signal(&name) {
                Some(signal) => program.signal(signal as i32).await,
                None => Ok(()),
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Passes output on until the program or the reader is gone.
async fn drain(mut program: NodeOutput, outputs: mpsc::Sender<ExecOutput>) {
    loop {
        let next = tokio::select! {
            next = program.next() => next,
            () = outputs.closed() => return,
        };
        let output = match next {
            Ok(ExecEvent::Stdout(bytes)) => ExecOutput::Stdout(Bytes::from(bytes)),
            Ok(ExecEvent::Stderr(bytes)) => ExecOutput::Stderr(Bytes::from(bytes)),
            Ok(ExecEvent::Exit(exit)) => {
                let _ = outputs.send(ExecOutput::Exit(exit.code)).await;
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "an exec session ended with its instance");
                return;
            }
        };
        if outputs.send(output).await.is_err() {
            return;
        }
    }
}

fn signal(name: &str) -> Option<Signal> {
    format!("SIG{}", name.trim_start_matches("SIG")).parse().ok()
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
