//! `helix exec`: a program in a running instance, as if it ran here.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

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
    /// End it after this long, such as 30s or 8h (at most 24h)
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::duration::parse)]
    max_time: Duration,
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
    // A fraction of a second is not none at all.
    let max_seconds = Some(args.max_time.as_secs().max(1));
    let target = ExecTarget { instance: args.instance, process: args.process, max_seconds };
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
        return Err(no_code(end));
    };
    if ui.json() {
        let line = json!({ "type": "exit", "ts": crate::duration::now(), "exit_code": code, "reason": end.reason });
        ui.item(&line, |_| String::new())?;
    }
    // A process can return one byte only.
    Ok(u8::try_from(code & 0xff).unwrap_or(NEVER_STARTED))
}

/// Why a command has no exit code: it never began, or was cut off.
fn no_code(end: ExecEnd) -> Failure {
    let (detail, hint) = match end.reason.as_str() {
        "timeout" => (
            "the command was ended: its time was over".to_owned(),
            "give it more with `--max-time`, a day at most; longer work belongs into a process",
        ),
        "instance_gone" => (
            "the command ended with its instance".to_owned(),
            "`helix status` shows what became of the instance",
        ),
        "session_closed" => (
            "the command was ended: your access was revoked or the server is closing".to_owned(),
            "`helix auth status` shows whether you may still",
        ),
        reason => {
            let why = if end.message.is_empty() { reason } else { &end.message };
            let hint = "check that the program is in the image; `helix status` shows the instances";
            (format!("the command did not run: {why}"), hint)
        }
    };
    let mut failure = Failure::new(Code::WorkloadFailed, detail).hint(hint);
    failure.reason = Some(end.reason);
    failure
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
