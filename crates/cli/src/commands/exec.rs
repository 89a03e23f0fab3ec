//! `helix exec`: a program in a running instance, as if it ran here.

use std::collections::BTreeMap;
use std::io::Read;

use clap::Args;
use helix_client::{ExecInput, ExecOutput, ExecReceived, ExecTarget};
use helix_model::api::{ExecControl, ExecEnd, ExecRequest};
use helix_model::reference::Scope;
use helix_model::{Code, Kind};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::{Failure, Result};
use crate::output::Ui;
use crate::session::Session;

mod terminal;

/// What is returned when no program ran: ssh's choice, out of the way of most
/// programs' own codes.
pub(crate) const NEVER_STARTED: u8 = 255;
/// One read of standard input; a frame on the way out.
const STDIN_BYTES: usize = 16 * 1024;
/// Reads that may wait for the network: enough to keep it busy, no more.
const STDIN_QUEUE: usize = 8;

/// Run a command in an instance
///
/// Returns the command's own exit code, 128 and the signal's number when it was
/// killed, and 255 when it never started. Without an instance it runs in one
/// that is ready.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix exec -- sh\n  helix exec web-2 -- cat /etc/hosts\n  helix exec --process worker -- ps\n  echo hi | helix exec -T -- cat"
)]
pub(crate) struct ExecArgs {
    /// Instance to run in
    instance: Option<String>,
    /// Process whose instance to run in
    #[arg(long, value_name = "NAME", conflicts_with = "instance")]
    process: Option<String>,
    /// Give it a terminal even when this is not one
    #[arg(short, long)]
    tty: bool,
    /// Give it no terminal even when this is one
    #[arg(short = 'T', long, conflicts_with = "tty")]
    no_tty: bool,
    /// Do not forward standard input
    #[arg(short = 'n', long)]
    no_stdin: bool,
    /// Command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) async fn run(session: &mut Session<'_>, args: ExecArgs) -> Result<u8> {
    let scope = scope(session, &args)?;
    let both = session.terminals.stdin && session.terminals.stdout && !session.ui.json();
    let tty = args.tty || (both && !args.no_tty && !args.no_stdin);
    let (cols, rows) = terminal::size().filter(|_| tty).unwrap_or((0, 0));
    let request = ExecRequest {
        command: args.command,
        tty,
        cols,
        rows,
        env: terminal_variables(session, tty),
    };
    let target = ExecTarget { instance: args.instance, process: args.process };
    let (input, output) = session.client()?.exec(&target, &request, &scope).await?;
    let stdin = session.stdin.take().filter(|_| !args.no_stdin);
    // Restored when it is dropped, whatever happens in between.
    let raw = (tty && session.terminals.stdin).then(terminal::Raw::enter).flatten();
    let forwarding = tokio::spawn(forward(input, stdin, tty));
    let ended = show(session.ui, output).await;
    forwarding.abort();
    drop(raw);
    exit_code(session.ui, ended?)
}

/// An instance is named by itself; a process is picked from the env.
fn scope(session: &Session<'_>, args: &ExecArgs) -> Result<Scope> {
    match &args.instance {
        Some(instance) => session.settings.scope_for(Kind::Instance, instance),
        None => Ok(session.settings.target()?.scope()),
    }
}

fn terminal_variables(session: &Session<'_>, tty: bool) -> BTreeMap<String, String> {
    let term = session.environment.get("TERM").filter(|_| tty);
    term.map(|term| ("TERM".to_owned(), term.to_owned())).into_iter().collect()
}

/// Shows the program's output until it ends.
async fn show(ui: &mut Ui, mut output: ExecOutput) -> Result<ExecEnd> {
    while let Some(received) = output.next().await? {
        match received {
            ExecReceived::Stdout(bytes) => chunk(ui, &bytes, "stdout")?,
            ExecReceived::Stderr(bytes) => chunk(ui, &bytes, "stderr")?,
            ExecReceived::End(end) => return Ok(end),
        }
    }
    Err(Failure::new(Code::Unavailable, "the connection to the instance broke off")
        .hint("whether the command went on is not known; look before you repeat it"))
}

fn chunk(ui: &mut Ui, bytes: &[u8], stream: &str) -> Result<()> {
    if !ui.json() {
        return ui.remote(bytes, stream == "stdout");
    }
    let data = String::from_utf8_lossy(bytes);
    let line = json!({ "type": stream, "ts": crate::duration::now(), "data": data });
    ui.item(&line, |_| String::new())
}

fn exit_code(ui: &mut Ui, end: ExecEnd) -> Result<u8> {
    let Some(code) = end.exit_code else {
        let detail = if end.message.is_empty() { end.reason.clone() } else { end.message };
        let mut failure =
            Failure::new(Code::WorkloadFailed, format!("the command did not run: {detail}"))
                .hint("check that the program is in the image; `helix status` shows the instances");
        failure.reason = Some(end.reason);
        return Err(failure);
    };
    if ui.json() {
        let line = json!({ "type": "exit", "ts": crate::duration::now(), "exit_code": code, "reason": end.reason });
        ui.item(&line, |_| String::new())?;
    }
    // A process can return one byte only.
    Ok(u8::try_from(code & 0xff).unwrap_or(NEVER_STARTED))
}

/// Sends input, sizes and signals until the program is gone. Failures end it
/// silently: the other half learns of them too, and reports.
async fn forward(mut input: ExecInput, stdin: Option<Box<dyn Read + Send>>, tty: bool) {
    let mut bytes = stdin.map(read_stdin);
    if bytes.is_none() && input.close_stdin().await.is_err() {
        return;
    }
    let (Ok(mut resized), Ok(mut interrupted), Ok(mut terminated)) = (
        signal(SignalKind::window_change()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    loop {
        let sent = tokio::select! {
            read = next(&mut bytes) => match read {
                Some(read) => input.stdin(&read).await,
                None => {
                    bytes = None;
                    input.close_stdin().await
                }
            },
            _ = resized.recv(), if tty => match terminal::size() {
                Some((cols, rows)) => input.control(&ExecControl::Resize { cols, rows }).await,
                None => Ok(()),
            },
            _ = interrupted.recv() => input.control(&named_signal("INT")).await,
            _ = terminated.recv() => input.control(&named_signal("TERM")).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn named_signal(name: &str) -> ExecControl {
    ExecControl::Signal { name: name.to_owned() }
}

async fn next(bytes: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match bytes {
        Some(bytes) => bytes.recv().await,
        None => std::future::pending().await,
    }
}

/// Reads on a thread of its own: a read from a terminal cannot be given up, and
/// must keep neither the program's end nor the runtime's waiting.
fn read_stdin(mut stdin: Box<dyn Read + Send>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(STDIN_QUEUE);
    std::thread::spawn(move || {
        let mut buffer = vec![0; STDIN_BYTES];
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
