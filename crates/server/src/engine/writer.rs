//! The writer's loop: decide, append, publish, answer.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use helix_control::decide::{self, Context};
use helix_control::precondition;
use helix_log::{Batch, EventLog, LogError, NewEntry, NewReceipt, Position};
use helix_model::event::Recorded;
use helix_model::{Code, Event, Problem, Receipt, State, Timestamp};
use tokio::sync::{mpsc, watch};

use super::{Origin, Submission, receipt, replay, snapshot};
use crate::{clock, entropy};

/// Commands decided in one go. More would delay the first of them; the fsync is
/// shared well before.
const BATCH_MAX: usize = 512;

pub(super) struct Writer {
    pub log: Arc<dyn EventLog>,
    pub state: Arc<ArcSwap<State>>,
    pub position: watch::Sender<u64>,
    /// What the newest snapshot is of.
    pub snapshot_position: u64,
}

/// How often a batch is decided anew because another writer was faster.
const ATTEMPTS_MAX: usize = 16;

/// What a round of commands comes to, before it is written.
struct Draft {
    state: State,
    batch: Batch,
    /// Receipts of this very batch, by key.
    fresh: HashMap<String, ([u8; 32], Receipt)>,
    /// To be given only once the batch is durable, in the order of the commands.
    answers: Vec<Result<Receipt, Problem>>,
}

/// Another writer came between deciding and appending.
fn is_lost_race(error: &LogError) -> bool {
    matches!(error, LogError::Stale { .. } | LogError::DuplicateReceipt { .. })
}

impl Writer {
    pub(super) async fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        let mut waiting = Vec::with_capacity(BATCH_MAX);
        while submissions.recv_many(&mut waiting, BATCH_MAX).await > 0 {
            self.round(std::mem::take(&mut waiting)).await;
            self.keep_snapshot();
        }
    }

    /// Has a snapshot kept, now and then, beside the work.
    fn keep_snapshot(&mut self) {
        let state = self.state.load_full();
        if state.position - self.snapshot_position >= snapshot::INTERVAL {
            self.snapshot_position = state.position;
            tokio::spawn(snapshot::save(Arc::clone(&self.log), state));
        }
    }

    /// Decides and writes; another writer of the same log may be faster, and
    /// then everything is decided again on what it wrote.
    async fn round(&self, submissions: Vec<Submission>) {
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            let Draft { state, batch, answers, .. } = self.draft(&submissions).await;
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

    async fn draft(&self, submissions: &[Submission]) -> Draft {
        let state = State::clone(&self.state.load());
        let batch = Batch { expected: Position(state.position), ..Batch::default() };
        let mut draft = Draft { state, batch, fresh: HashMap::new(), answers: Vec::new() };
        for submission in submissions {
            let answer = match self.remembered(&draft, &submission.origin).await {
                Some(answer) => answer,
                None => draft.decide(&submission.command, &submission.origin),
            };
            draft.answers.push(answer);
        }
        draft
    }

    fn publish(&self, state: State) {
        let position = state.position;
        self.state.store(Arc::new(state));
        self.position.send_if_modified(|current| std::mem::replace(current, position) != position);
    }

    async fn append(&self, batch: Batch) -> Result<(), LogError> {
        if batch.entries.is_empty() && batch.receipts.is_empty() {
            return Ok(());
        }
        self.log.append(batch).await.map(|_| ())
    }

    /// After a failed append nobody knows whether it took place; the log does.
    async fn resync(&self) {
        let mut state = State::clone(&self.state.load());
        if let Err(error) = replay(self.log.as_ref(), &mut state, u64::MAX).await {
            tracing::error!(%error, "the event log cannot be read back");
            return;
        }
        self.publish(state);
    }

    /// The answer given to an earlier request with the same key.
    async fn remembered(&self, draft: &Draft, origin: &Origin) -> Option<Result<Receipt, Problem>> {
        let idempotency = origin.idempotency.as_ref()?;
        let (hash, receipt) = if let Some((hash, receipt)) = draft.fresh.get(&idempotency.key) {
            (*hash, receipt.clone())
        } else {
            let stored = match self.log.receipt(&idempotency.key).await {
                Ok(stored) => stored?,
                Err(error) => return Some(Err(unreadable(&error))),
            };
            match serde_json::from_slice(&stored.body) {
                Ok(receipt) => (stored.request_hash, receipt),
                Err(error) => return Some(Err(unreadable(&error))),
            }
        };
        Some(if hash == idempotency.request_hash {
            Ok(receipt)
        } else {
            let detail = "this idempotency key was used for a different request";
            Err(Problem::new(Code::IdempotencyKeyReuse, detail))
        })
    }
}

fn unreadable(error: &dyn std::error::Error) -> Problem {
    Problem::new(Code::Unavailable, format!("an earlier receipt cannot be read: {error}"))
}

impl Draft {
    fn decide(
        &mut self,
        command: &helix_model::Command,
        origin: &Origin,
    ) -> Result<Receipt, Problem> {
        if let Some(expected) = origin.precondition {
            precondition::check(&self.state, expected)?;
        }
        let now = clock::now();
        let mut entropy = entropy::fresh;
        let mut context = Context { now, entropy: &mut entropy };
        let decision = decide::decide(&self.state, command, &mut context)?;
        let mut receipt = receipt::receipt(
            command,
            &decision.events,
            decision.subject,
            &decision.state,
            origin,
            now,
        );
        receipt.warnings = decision.warnings;
        let mut entries = Vec::with_capacity(decision.events.len());
        for event in decision.events {
            entries.push(entry(now, origin, event)?);
        }
        if let Some(idempotency) = &origin.idempotency {
            let body = serde_json::to_vec(&receipt).map_err(|error| unwritable(&error))?;
            self.batch.receipts.push(NewReceipt {
                key: idempotency.key.clone(),
                request_hash: idempotency.request_hash,
                body,
                at_ms: now.0,
            });
            let fresh = (idempotency.request_hash, receipt.clone());
            self.fresh.insert(idempotency.key.clone(), fresh);
        }
        self.batch.entries.append(&mut entries);
        self.state = decision.state;
        Ok(receipt)
    }
}

fn entry(at: Timestamp, origin: &Origin, event: Event) -> Result<NewEntry, Problem> {
    let recorded = Recorded {
        at,
        actor: origin.actor.clone(),
        request_id: origin.request_id.clone(),
        source: origin.source,
        event,
    };
    let payload = serde_json::to_vec(&recorded).map_err(|error| unwritable(&error))?;
    if payload.len() > helix_log::PAYLOAD_MAX_BYTES {
        let limit = helix_log::PAYLOAD_MAX_BYTES;
        let detail = format!("the change is {} bytes, more than {limit}", payload.len());
        return Err(Problem::new(Code::PayloadTooLarge, detail));
    }
    Ok(NewEntry { at_ms: at.0, payload })
}

fn unwritable(error: &serde_json::Error) -> Problem {
    Problem::new(Code::Internal, format!("the change cannot be written down: {error}"))
}
