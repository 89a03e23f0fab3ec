//! `helix tunnels run`: all tunnels of a file, which is followed while it changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use helix_model::Name;
use helix_tunnel::Phase;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::file::{self, Entry, FILE_BYTES_MAX};
use super::offer::{Offered, Origin};
use super::{Place, describe, origin};
use crate::commands::up::StopSignals;
use crate::failure::{Failure, Result};
use crate::ready::Part;
use crate::secrets::read_file;
use crate::session::Session;

/// How often the file is looked at. It is short, and read whole: what a clock says of files
/// is not believed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a tunnel that was not had waits for the next attempt, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// News that nobody has read: tunnels wait until there is room.
const NEWS_MAX: usize = 64;

/// Offer all programs of a file, and follow its changes
///
/// The file is looked at once a second: tunnels that are added to it are started, those
/// taken out end, one that is changed is started anew, and the others go on. A file with a
/// mistake changes nothing until it is mended. Ctrl-C ends all of them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix tunnels run\n  helix tunnels run office.toml --json\n\nA file:\n  schema_version = \"v1\"\n  [[tunnels]]\n  name = \"demo\"\n  target = \"3000\""
)]
pub(crate) struct RunArgs {
    /// The file; docs/tunnels-agent.md has all that can be in it
    #[arg(value_name = "FILE", default_value = "tunnels.toml")]
    file: PathBuf,
}

/// What happened to a tunnel.
struct News {
    name: Name,
    what: What,
}

enum What {
    /// Visitors come: the document of it, and where from, for a person.
    Attached(Value, String),
    Waiting {
        why: String,
        pause: Duration,
    },
    Warned(Vec<String>),
    /// For good, or until the file says something else of it.
    Ended(String),
    Failed(Failure),
}

/// What a file said when it was last looked at; a reason where it cannot be read.
type Seen = std::result::Result<String, String>;

pub(crate) async fn run(session: &mut Session<'_>, args: RunArgs) -> Result<u8> {
    let mut stop = StopSignals::new()?;
    let path = session.settings.directory.join(&args.file);
    let mut seen = look(&path);
    let entries = read(&path, &seen).map_err(|why| {
        Failure::usage(why, "docs/tunnels-agent.md has all that can be in a file of tunnels")
    })?;
    let (news, mut heard) = mpsc::channel(NEWS_MAX);
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let origin = Arc::new(origin(session)?);
    let mut set = Set { origin, folder, news, running: BTreeMap::new() };
    if entries.is_empty() {
        session.ui.note(&format!("{} has no tunnels yet", path.display()));
    }
    set.apply(entries);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.wait() => return Ok(0),
            Some(news) = heard.recv() => tell(session, news)?,
            _ = looks.tick() => {
                let now = look(&path);
                if now != seen {
                    seen = now;
                    take_up(session, &path, &seen, &mut set)?;
                }
            }
        }
    }
}

fn look(path: &Path) -> Seen {
    let bytes = read_file(path, FILE_BYTES_MAX).map_err(|failure| failure.problem.detail)?;
    let shown = path.display();
    String::from_utf8(bytes.to_vec()).map_err(|_| format!("{shown} is not text"))
}

fn read(path: &Path, seen: &Seen) -> std::result::Result<Vec<Entry>, String> {
    let text = seen.as_ref().map_err(Clone::clone)?;
    file::read(text).map_err(|fault| format!("{}: {fault}", path.display()))
}

/// Does what the file says now, or says what is wrong with it.
fn take_up(session: &mut Session<'_>, path: &Path, seen: &Seen, set: &mut Set) -> Result<()> {
    match read(path, seen) {
        Ok(entries) => {
            let changed = set.apply(entries);
            let document = json!({
                "type": "file", "state": "applied",
                "added": changed.added, "changed": changed.changed, "removed": changed.removed,
            });
            say(session, &document, &changed.to_string())
        }
        Err(why) => {
            let document = json!({ "type": "file", "state": "refused", "why": why });
            say(session, &document, &format!("{why}; all goes on as it was"))
        }
    }
}

/// One that is offered, or was.
struct Running {
    entry: Entry,
    /// Ready while there is a tunnel; how that one is doing is a part of its own.
    _had: Part,
    _task: JoinSet<()>,
}

/// All that are offered.
struct Set {
    origin: Arc<Origin>,
    folder: PathBuf,
    news: mpsc::Sender<News>,
    running: BTreeMap<Name, Running>,
}

/// What a file changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    added: Vec<Name>,
    changed: Vec<Name>,
    removed: Vec<Name>,
}

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts =
            [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            format!("{what} {}", names.join(", "))
        });
        let parts: Vec<String> = parts.collect();
        match parts.is_empty() {
            true => f.write_str("the file says the same in other words"),
            false => f.write_str(&parts.join("; ")),
        }
    }
}

impl Set {
    /// Starts and ends what it takes; what is as it was is left alone.
    fn apply(&mut self, entries: Vec<Entry>) -> Changed {
        let mut changed = Changed::default();
        let mut before = std::mem::take(&mut self.running);
        for entry in entries {
            let name = entry.name.clone();
            let running = match before.remove(&name) {
                Some(running) if running.entry == entry => running,
                Some(other) => {
                    changed.changed.push(name.clone());
                    // Its page has the port that this one may want.
                    drop(other);
                    self.start(entry)
                }
                None => {
                    changed.added.push(name.clone());
                    self.start(entry)
                }
            };
            self.running.insert(name, running);
        }
        changed.removed = before.into_keys().collect();
        changed
    }

    fn start(&self, entry: Entry) -> Running {
        let mut task = JoinSet::new();
        let had = self.origin.readiness.part();
        let life = Life {
            had: had.clone(),
            entry: entry.clone(),
            origin: Arc::clone(&self.origin),
            folder: self.folder.clone(),
            news: self.news.clone(),
        };
        task.spawn(life.run());
        Running { entry, _had: had, _task: task }
    }
}

/// One tunnel, from its start to its end.
struct Life {
    entry: Entry,
    had: Part,
    origin: Arc<Origin>,
    folder: PathBuf,
    news: mpsc::Sender<News>,
}

impl Life {
    async fn run(self) {
        match self.offered().await {
            Ok(offered) => {
                self.had.set(true);
                self.watch(&offered).await;
                self.had.set(false);
            }
            Err(failure) => self.tell(What::Failed(failure)).await,
        }
    }

    /// Has the tunnel, however long that takes.
    async fn offered(&self) -> Result<Offered> {
        let mut pause = PAUSE_MIN;
        loop {
            match self.entry.offer(&self.folder)?.start(&self.origin).await {
                Err(failure) if failure.problem.retryable => {
                    let why = failure.problem.detail;
                    self.tell(What::Waiting { why, pause }).await;
                }
                outcome => return outcome,
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    async fn watch(&self, offered: &Offered) {
        if !offered.warnings.is_empty() {
            self.tell(What::Warned(offered.warnings.clone())).await;
        }
        let mut phases = offered.agent.phases();
        loop {
            let phase = phases.borrow_and_update().clone();
            match phase {
                Phase::Starting => {}
                Phase::Attached { edge, reachable, transport } => {
                    let place = Place { edge: &edge, reachable: &reachable, transport };
                    let document = describe(offered, place);
                    let url = &offered.granted.public_url;
                    let text = format!("{url} leads to {}", self.entry.target());
                    let text = match offered.page {
                        Some(page) => format!("{text}; requests are shown at http://{page}"),
                        None => text,
                    };
                    self.tell(What::Attached(document, text)).await;
                }
                Phase::Waiting { why, pause } => self.tell(What::Waiting { why, pause }).await,
                Phase::Ended { why } => return self.tell(What::Ended(why)).await,
            }
            if phases.changed().await.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, what: What) {
        // Nobody listens when all is about to end.
        let _ = self.news.send(News { name: self.entry.name.clone(), what }).await;
    }
}

fn tell(session: &mut Session<'_>, News { name, what }: News) -> Result<()> {
    match what {
        What::Attached(document, text) => {
            session.ui.item(&document, |style| format!("{} {text}\n", style.bold(name.as_str())))
        }
        What::Waiting { why, pause } => {
            let document = json!({
                "type": "waiting", "name": name, "why": why, "pause_ms": pause.as_millis(),
            });
            let seconds = pause.as_secs_f32();
            say(session, &document, &format!("{name}: {why}; trying again in {seconds:.0} s"))
        }
        What::Warned(warnings) => {
            let warnings: Vec<String> = warnings.iter().map(|it| format!("{name}: {it}")).collect();
            session.ui.warn(&warnings);
            Ok(())
        }
        What::Ended(why) => {
            let document = json!({ "type": "ended", "name": name, "why": why });
            say(session, &document, &format!("{name} has ended: {why}"))
        }
        What::Failed(failure) => {
            let document = json!({
                "type": "failed", "name": name, "error": failure.document()["error"],
            });
            let problem = &failure.problem;
            say(session, &document, &format!("{name}: {} ({})", problem.detail, failure.code()))
        }
    }
}

fn say(session: &mut Session<'_>, document: &Value, text: &str) -> Result<()> {
    if session.ui.json() {
        return session.ui.item(document, |_| String::new());
    }
    session.ui.note(text);
    Ok(())
}
