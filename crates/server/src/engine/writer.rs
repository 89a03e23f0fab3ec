//! The writer's loop: decide, append, publish, answer.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use helix_control::decide::{self, Context};
use helix_log::{Batch, EventLog, LogError, NewEntry, NewReceipt, Position};
use helix_model::event::Recorded;
use helix_model::{Code, Event, Problem, Receipt, State, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Origin, Submission, receipt, replay};
use crate::{clock, entropy};

/// Commands decided in one go. More would delay the first of them; the fsync is
/// shared well before.
const BATCH_MAX: usize = 512;

pub(super) struct Writer {
    pub log: Arc<dyn EventLog>,
    pub state: Arc<ArcSwap<State>>,
    pub position: watch::Sender<u64>,
}

/// Answers that may be given only once the batch is durable.
type Answer = (oneshot::Sender<Result<Receipt, Problem>>, Result<Receipt, Problem>);

/// What a round of commands comes to, before it is written.
struct Draft {
    state: State,
    entries: Vec<NewEntry>,
    receipts: Vec<NewReceipt>,
    /// Receipts of this very batch, by key.
    fresh: HashMap<String, ([u8; 32], Receipt)>,
    answers: Vec<Answer>,
}

impl Writer {
    pub(super) async fn run(self, mut submissions: mpsc::Receiver<Submission>) {
        let mut waiting = Vec::with_capacity(BATCH_MAX);
        while submissions.recv_many(&mut waiting, BATCH_MAX).await > 0 {
            self.round(waiting.drain(..)).await;
        }
    }

    async fn round(&self, submissions: impl Iterator<Item = Submission>) {
        let state = State::clone(&self.state.load());
        let expected = Position(state.position);
        let mut draft = Draft {
            state,
            entries: Vec::new(),
            receipts: Vec::new(),
            fresh: HashMap::new(),
            answers: Vec::new(),
        };
        for submission in submissions {
            let Submission { command, origin, reply } = submission;
            let result = match self.remembered(&draft, &origin).await {
                Some(result) => result,
                None => draft.decide(&command, &origin),
            };
            draft.answers.push((reply, result));
        }
        let Draft { state, entries, receipts, answers, .. } = draft;
        let written = self.append(Batch { expected, entries, receipts }).await;
        match written {
            Ok(()) => {
                let position = state.position;
                self.state.store(Arc::new(state));
                self.position
                    .send_if_modified(|current| std::mem::replace(current, position) != position);
                for (reply, result) in answers {
                    let _ = reply.send(result);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the event log refused a batch");
                self.resync().await;
                for (reply, _) in answers {
                    let detail = format!("the change could not be recorded: {error}");
                    let _ = reply.send(Err(Problem::new(Code::Unavailable, detail)));
                }
            }
        }
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
        if let Err(error) = replay(self.log.as_ref(), &mut state).await {
            tracing::error!(%error, "the event log cannot be read back");
            return;
        }
        let position = state.position;
        self.state.store(Arc::new(state));
        self.position.send_replace(position);
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
        let now = clock::now();
        let mut entropy = entropy::fresh;
        let mut context = Context { now, entropy: &mut entropy };
        let decision = decide::decide(&self.state, command, &mut context)?;
        let receipt = receipt::receipt(
            command,
            &decision.events,
            decision.subject,
            &decision.state,
            origin,
            now,
        );
        let mut entries = Vec::with_capacity(decision.events.len());
        for event in decision.events {
            entries.push(entry(now, origin, event)?);
        }
        if let Some(idempotency) = &origin.idempotency {
            let body = serde_json::to_vec(&receipt).map_err(|error| unwritable(&error))?;
            self.receipts.push(NewReceipt {
                key: idempotency.key.clone(),
                request_hash: idempotency.request_hash,
                body,
                at_ms: now.0,
            });
            let fresh = (idempotency.request_hash, receipt.clone());
            self.fresh.insert(idempotency.key.clone(), fresh);
        }
        self.entries.append(&mut entries);
        self.state = decision.state;
        Ok(receipt)
    }
}

fn entry(at: Timestamp, origin: &Origin, event: Event) -> Result<NewEntry, Problem> {
    let recorded =
        Recorded { at, actor: origin.actor.clone(), request_id: origin.request_id.clone(), event };
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
