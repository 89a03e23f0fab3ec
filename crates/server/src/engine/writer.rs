//! The writer's loop: decide, append, publish, answer.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use helix_control::decide::Context;
use helix_control::round::{Entry, Kept, Round, Stored};
use helix_log::{Batch, EventLog, LogError, NewEntry, NewReceipt, Position, StoredReceipt};
use helix_model::{Code, Problem, State};
use tokio::sync::{mpsc, watch};

use super::replay::replay;
use super::snapshot::Snapshots;
use super::{Submission, Writers};
use crate::{clock, entropy};

/// Commands decided in one go. More would delay the first of them; the fsync is
/// shared well before.
const BATCH_MAX: usize = 512;

/// How often others get their turn before a round begins, as long as each brings
/// something.
const GATHER_TURNS: usize = 4;

pub(super) struct Writer {
    pub log: Arc<dyn EventLog>,
    pub writers: Writers,
    pub state: Arc<ArcSwap<State>>,
    pub position: watch::Sender<u64>,
    pub snapshots: Snapshots,
}

/// How often a batch is decided anew because another writer was faster.
const ATTEMPTS_MAX: usize = 16;

/// Another writer came between deciding and appending.
fn is_lost_race(error: &LogError) -> bool {
    matches!(error, LogError::Stale { .. } | LogError::DuplicateReceipt { .. })
}

impl Writer {
    pub(super) async fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        let mut waiting = Vec::with_capacity(BATCH_MAX);
        let mut news = self.log.watch();
        // What was appended since the replay is news too.
        news.mark_changed();
        loop {
            tokio::select! {
                count = submissions.recv_many(&mut waiting, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                    gather(&mut submissions, &mut waiting).await;
                    self.round(std::mem::take(&mut waiting)).await;
                }
                // Never ends before the log does, which this holds.
                Ok(()) = news.changed() => {
                    if news.borrow_and_update().0 > self.state.load().position {
                        self.resync().await;
                    }
                }
            }
            self.snapshots.keep(&self.log, &self.state.load());
        }
    }

    /// Decides and writes; another writer of the same log may be faster, and
    /// then everything is decided again on what it wrote.
    async fn round(&self, submissions: Vec<Submission>) {
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            let Round { state, answers, expected, entries, receipts, .. } =
                self.decide(&submissions).await;
            let batch = batch(expected, entries, receipts);
            match self.append(batch).await {
                Ok(()) => {
                    self.publish(state);
                    for (submission, answer) in submissions.into_iter().zip(answers) {
                        let _ = submission.reply.send(answer);
                    }
                    return;
                }
                Err(error) => {
                    let lost_race = is_lost_race(&error);
                    last = Some(error);
                    self.resync().await;
                    if !lost_race {
                        break;
                    }
                }
            }
        }
        let why = last.map_or_else(String::new, |error| error.to_string());
        tracing::error!(why, "the event log refused a batch");
        for submission in submissions {
            let detail = format!("the change could not be recorded: {why}");
            let _ = submission.reply.send(Err(Problem::new(Code::Unavailable, detail)));
        }
    }

    /// Decides what waits. What earlier requests were answered is looked up
    /// here, since deciding itself reads nothing.
    async fn decide(&self, submissions: &[Submission]) -> Round {
        let stored = self.stored(submissions).await;
        let mut round = Round::on(&self.state.load(), helix_log::PAYLOAD_MAX_BYTES);
        for Submission { command, origin, .. } in submissions {
            let key = origin.idempotency.as_ref().map(|it| &it.key);
            match (&stored, key) {
                (Err(error), Some(_)) => {
                    let detail = format!("an earlier receipt cannot be read: {error}");
                    round.refuse(Problem::new(Code::Unavailable, detail));
                }
                (stored, key) => {
                    let stored = stored.as_ref().ok().zip(key).and_then(|(all, key)| all.get(key));
                    let mut entropy = entropy::for_ids;
                    let mut context = Context { now: clock::now(), entropy: &mut entropy };
                    round.take(command, origin, stored, &mut context);
                }
            }
        }
        round
    }

    /// What is stored under the keys of these requests, looked up once for all.
    async fn stored(
        &self,
        submissions: &[Submission],
    ) -> Result<HashMap<String, Stored>, LogError> {
        let idempotencies = submissions.iter().filter_map(|it| it.origin.idempotency.as_ref());
        let keys: Vec<String> = idempotencies.map(|it| it.key.clone()).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let found = self.log.receipts_under(&keys).await?.into_iter();
        let stored =
            |it: StoredReceipt| (it.key, Stored { request_hash: it.request_hash, body: it.body });
        Ok(found.map(stored).collect())
    }

    fn publish(&self, state: State) {
        let position = state.position;
        self.state.store(Arc::new(state));
        self.position.send_if_modified(|current| std::mem::replace(current, position) != position);
    }

    async fn append(&self, batch: Batch) -> Result<(), LogError> {
        let is_empty = batch.entries.is_empty() && batch.receipts.is_empty();
        // With other writers even nothing must be appended to the newest state:
        // what is no news to an old one may be to the log.
        if is_empty && self.writers == Writers::One {
            return Ok(());
        }
        self.log.append(batch).await.map(|_| ())
    }

    /// After a failed append nobody knows whether it took place; the log does.
    async fn resync(&self) {
        let state = State::clone(&self.state.load());
        match replay(self.log.as_ref(), state, u64::MAX).await {
            Ok(state) => self.publish(state),
            Err(error) => tracing::error!(%error, "the event log cannot be read back"),
        }
    }
}

/// Takes what else is on its way. When a round has been answered, its clients
/// come back one by one; who took the first alone would spend a round and an
/// fsync on it. Nothing is waited for: when nobody else has anything to do, this
/// goes on at once.
async fn gather(submissions: &mut mpsc::Receiver<Submission>, waiting: &mut Vec<Submission>) {
    for _ in 0..GATHER_TURNS {
        tokio::task::yield_now().await;
        let before = waiting.len();
        while waiting.len() < BATCH_MAX
            && let Ok(submission) = submissions.try_recv()
        {
            waiting.push(submission);
        }
        if waiting.len() == before {
            return;
        }
    }
}

/// What a round appends, as the log takes it.
fn batch(expected: u64, entries: Vec<Entry>, receipts: Vec<Kept>) -> Batch {
    let entry = |it: Entry| NewEntry { at_ms: it.at.0, payload: it.payload };
    let receipt = |it: Kept| NewReceipt {
        key: it.key,
        request_hash: it.request_hash,
        body: it.body,
        at_ms: it.at.0,
    };
    Batch {
        expected: Position(expected),
        entries: entries.into_iter().map(entry).collect(),
        receipts: receipts.into_iter().map(receipt).collect(),
    }
}
