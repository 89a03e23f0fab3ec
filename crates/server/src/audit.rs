//! The audit log's one writer in this process: what was asked for and changed
//! nothing.
//!
//! Start from [`Audit`]. [`Audit::record`] is for what must not happen
//! unrecorded: it returns once the record is durable. [`Audit::note`] is for
//! refusals: alike ones are taken together, and their number is bounded, so
//! that a flood of them neither fills the disk nor slows anyone down. Changes
//! are in the event log and not here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use helix_log::{Batch, EventLog, LogError, NewEntry};
use helix_model::audit::{Attempt, Decision};
use helix_model::{Code, Problem, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::{clock, entropy};

/// Records that may wait to be written; who comes later waits.
const QUEUE_MAX: usize = 1024;
/// Records written at once.
const BATCH_MAX: usize = 256;
/// How often notes are written.
const NOTES_EVERY: Duration = Duration::from_secs(1);
/// Different notes kept between two writes; what is beyond is only counted.
const NOTES_MAX: usize = 64;
/// How long to let notes gather after so many came that some were only counted:
/// a flood leaves some 20 MB a day.
const NOTES_FLOOD_PAUSE: Duration = Duration::from_secs(30);
/// How often a batch is appended anew because another replica was faster.
const APPEND_ATTEMPTS_MAX: usize = 16;
/// How long who must be recorded waits for the disk.
const RECORD_WAIT: Duration = Duration::from_secs(10);

/// A handle on the audit log.
pub(crate) struct Audit {
    log: Arc<dyn EventLog>,
    queue: mpsc::Sender<Wish>,
    notes: Arc<Mutex<Notes>>,
}

struct Wish {
    attempt: Attempt,
    reply: oneshot::Sender<bool>,
}

#[derive(Default)]
struct Notes {
    alike: HashMap<Alike, Attempt>,
    uncounted: u64,
}

/// What makes two attempts the same to a reader.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    actor: String,
    source: Option<std::net::IpAddr>,
    operation: String,
    org: Option<String>,
    decision: Decision,
    reason: String,
}

impl Alike {
    fn of(attempt: &Attempt) -> Alike {
        let actor = attempt.actor.as_ref().map(|actor| format!("{actor:?}"));
        Alike {
            actor: actor.unwrap_or_default(),
            source: attempt.source,
            operation: attempt.operation.clone(),
            org: attempt.org.map(|org| org.to_string()),
            decision: attempt.decision,
            reason: attempt.reason.clone(),
        }
    }
}

impl Audit {
    /// Starts the writer; it ends with the last handle.
    pub(crate) fn start(log: Arc<dyn EventLog>) -> Audit {
        let (queue, wishes) = mpsc::channel(QUEUE_MAX);
        let notes = Arc::new(Mutex::new(Notes::default()));
        tokio::spawn(run(Arc::clone(&log), wishes, Arc::clone(&notes)));
        Audit { log, queue, notes }
    }

    /// The log itself, for reading.
    pub(crate) fn log(&self) -> &dyn EventLog {
        self.log.as_ref()
    }

    /// Records what must not happen unrecorded. When this fails, it must not
    /// happen.
    pub(crate) async fn record(&self, attempt: Attempt) -> Result<(), Problem> {
        let (reply, written) = oneshot::channel();
        let recorded = async {
            self.queue.send(Wish { attempt, reply }).await.ok()?;
            written.await.ok()
        };
        match tokio::time::timeout(RECORD_WAIT, recorded).await {
            Ok(Some(true)) => Ok(()),
            _ => Err(Problem::new(
                Code::Unavailable,
                "this is done only when it can be recorded, and the audit log cannot be written",
            )
            .hint("the operator finds the cause in the server's output")),
        }
    }

    /// Notes a refusal, soon and together with others like it.
    pub(crate) fn note(&self, attempt: Attempt) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = Alike::of(&attempt);
        if let Some(first) = notes.alike.get_mut(&alike) {
            first.count += attempt.count;
        } else if notes.alike.len() < NOTES_MAX {
            notes.alike.insert(alike, attempt);
        } else {
            notes.uncounted += attempt.count;
        }
    }
}

async fn run(log: Arc<dyn EventLog>, mut wishes: mpsc::Receiver<Wish>, notes: Arc<Mutex<Notes>>) {
    let mut next_notes = tokio::time::Instant::now() + NOTES_EVERY;
    let mut waiting = Vec::with_capacity(BATCH_MAX);
    loop {
        let open = tokio::select! {
            count = wishes.recv_many(&mut waiting, BATCH_MAX) => count > 0,
            () = tokio::time::sleep_until(next_notes) => true,
        };
        let mut attempts: Vec<Attempt> = waiting.iter().map(|it| it.attempt.clone()).collect();
        if !open || tokio::time::Instant::now() >= next_notes {
            let (noted, flooded) = take(&notes);
            attempts.extend(noted);
            let pause = if flooded { NOTES_FLOOD_PAUSE } else { NOTES_EVERY };
            next_notes = tokio::time::Instant::now() + pause;
        }
        let written = attempts.is_empty() || append(log.as_ref(), &attempts).await;
        for wish in waiting.drain(..) {
            let _ = wish.reply.send(written);
        }
        if !open {
            return;
        }
    }
}

/// The notes so far, and whether there were more than are kept.
fn take(notes: &Mutex<Notes>) -> (Vec<Attempt>, bool) {
    let Notes { alike, uncounted } =
        std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
    let mut attempts: Vec<Attempt> = alike.into_values().collect();
    attempts.sort_by_key(|attempt| attempt.at);
    if uncounted > 0 {
        attempts.push(Attempt {
            at: clock::now(),
            actor: None,
            token: None,
            source: None,
            request_id: entropy::request_id(),
            operation: "many".to_owned(),
            org: None,
            target: String::new(),
            detail: String::new(),
            decision: Decision::Deny,
            reason: "flood".to_owned(),
            count: uncounted,
        });
    }
    (attempts, uncounted > 0)
}

/// Appends behind whatever other replicas appended; whether it is durable.
async fn append(log: &dyn EventLog, attempts: &[Attempt]) -> bool {
    let entries: Vec<NewEntry> = attempts.iter().map(entry).collect();
    for _ in 0..APPEND_ATTEMPTS_MAX {
        let appended = match log.head().await {
            Ok(head) => log.append(Batch::of_entries(head.position, entries.clone())).await,
            Err(error) => Err(error),
        };
        match appended {
            Ok(_) => return true,
            Err(LogError::Stale { .. }) => {}
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be written");
                return false;
            }
        }
    }
    tracing::error!("the audit log cannot be written: other replicas are always faster");
    false
}

fn entry(attempt: &Attempt) -> NewEntry {
    let Timestamp(at_ms) = attempt.at;
    // A plain structure of strings and numbers always can be written.
    NewEntry { at_ms, payload: serde_json::to_vec(attempt).unwrap_or_default() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use helix_log::{MemoryLog, Position};

    use super::*;

    fn refusal(operation: &str) -> Attempt {
        Attempt {
            at: Timestamp(1),
            actor: None,
            token: None,
            source: None,
            request_id: "req_1".to_owned(),
            operation: operation.to_owned(),
            org: None,
            target: String::new(),
            detail: String::new(),
            decision: Decision::Deny,
            reason: "unauthorized".to_owned(),
            count: 1,
        }
    }

    async fn written(log: &MemoryLog) -> Vec<Attempt> {
        let entries = log.read(Position::ZERO, 4096).await.unwrap();
        entries.iter().map(|entry| serde_json::from_slice(&entry.payload).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_is_recorded_is_there_when_it_returns() {
        let log = Arc::new(MemoryLog::new());
        let audit = Audit::start(log.clone());
        audit.record(refusal("exec")).await.unwrap();
        assert_eq!(written(&log).await, [refusal("exec")]);
    }

    #[tokio::test]
    async fn a_flood_of_refusals_is_counted_and_not_written_one_by_one() {
        let log = Arc::new(MemoryLog::new());
        let audit = Audit::start(log.clone());
        for _ in 0..1000 {
            audit.note(refusal("deploy"));
        }
        for number in 0..1000 {
            audit.note(refusal(&format!("op-{number}")));
        }
        let mut head = log.watch();
        head.wait_for(|position| position.0 > 0).await.unwrap();
        let all = written(&log).await;
        assert_eq!(all.len(), NOTES_MAX + 1);
        assert_eq!(all.iter().map(|it| it.count).sum::<u64>(), 2000);
        assert_eq!(all.last().unwrap().reason, "flood");
    }
}
