//! One round of the engine: commands decided one after the other on a draft of
//! the state, and all that is to be appended for them in one go.
//!
//! Start from [`Round::on`], give it each command with [`Round::take`], append
//! [`Round::entries`] and [`Round::receipts`] at [`Round::expected`], and only
//! when they are durable publish the state and give the answers. What is stored
//! is looked up before and passed in; nothing here reads or writes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use helix_model::event::Recorded;
use helix_model::{Actor, Code, Command, Event, Problem, Receipt, State, Timestamp};

use crate::decide::{self, Context};
use crate::precondition::{self, Precondition};
use crate::receipt;

/// Who asks, and how a repeat of the same request is recognised.
#[derive(Clone, Debug)]
pub struct Origin {
    pub actor: Actor,
    pub request_id: String,
    /// The address the request came from, when it came over the network.
    pub source: Option<IpAddr>,
    pub idempotency: Option<Idempotency>,
    /// What must not have changed since the caller looked.
    pub precondition: Option<Precondition>,
}

impl Origin {
    /// What the installation does by itself: nobody's request, and nothing to repeat.
    pub fn system(actor: &str, request_id: String) -> Origin {
        Origin {
            actor: Actor::System(actor.to_owned()),
            request_id,
            source: None,
            idempotency: None,
            precondition: None,
        }
    }
}

/// The key of a request and what it asked for.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// Already scoped to the caller.
    pub key: String,
    /// sha256 of method, path and body.
    pub request_hash: [u8; 32],
}

/// The answer to an earlier request, as it was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub request_hash: [u8; 32],
    /// The receipt, encoded.
    pub body: Vec<u8>,
}

/// An event, encoded as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    pub payload: Vec<u8>,
}

/// A receipt to be stored with the entries that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub key: String,
    pub request_hash: [u8; 32],
    /// The receipt, encoded.
    pub body: Vec<u8>,
    pub at: Timestamp,
}

/// What the commands so far come to.
#[derive(Debug)]
pub struct Round {
    /// The head everything is decided on; at another it must not be appended.
    pub expected: u64,
    /// The state once all is appended.
    pub state: State,
    pub entries: Vec<Entry>,
    pub receipts: Vec<Kept>,
    /// In the order of the commands.
    pub answers: Vec<Result<Receipt, Problem>>,
    /// Receipts of this very round, by key.
    fresh: BTreeMap<String, ([u8; 32], Receipt)>,
    payload_max_bytes: usize,
}

impl Round {
    /// A round without commands. No entry may be larger than the log takes.
    pub fn on(state: &State, payload_max_bytes: usize) -> Round {
        Round {
            expected: state.position,
            state: state.clone(),
            entries: Vec::new(),
            receipts: Vec::new(),
            answers: Vec::new(),
            fresh: BTreeMap::new(),
            payload_max_bytes,
        }
    }

    /// Takes a command in. `stored` is what the log has under its key.
    pub fn take(
        &mut self,
        command: &Command,
        origin: &Origin,
        stored: Option<&Stored>,
        context: &mut Context<'_>,
    ) {
        let answer = match self.remembered(origin, stored) {
            Some(answer) => answer,
            None => self.decide(command, origin, context),
        };
        self.answers.push(answer);
    }

    /// Answers a command with a problem, before it was looked at.
    pub fn refuse(&mut self, problem: Problem) {
        self.answers.push(Err(problem));
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.receipts.is_empty()
    }

    /// The answer given to an earlier request with the same key.
    fn remembered(
        &self,
        origin: &Origin,
        stored: Option<&Stored>,
    ) -> Option<Result<Receipt, Problem>> {
        let idempotency = origin.idempotency.as_ref()?;
        let (hash, receipt) = match self.fresh.get(&idempotency.key) {
            Some((hash, receipt)) => (*hash, receipt.clone()),
            None => match serde_json::from_slice(&stored?.body) {
                Ok(receipt) => (stored?.request_hash, receipt),
                Err(error) => {
                    let detail = format!("an earlier receipt cannot be read: {error}");
                    return Some(Err(Problem::new(Code::Unavailable, detail)));
                }
            },
        };
        Some(if hash == idempotency.request_hash {
            Ok(receipt)
        } else {
            let detail = "this idempotency key was used for a different request";
            Err(Problem::new(Code::IdempotencyKeyReuse, detail))
        })
    }

    fn decide(
        &mut self,
        command: &Command,
        origin: &Origin,
        context: &mut Context<'_>,
    ) -> Result<Receipt, Problem> {
        if let Some(expected) = origin.precondition {
            precondition::check(&self.state, expected)?;
        }
        let now = context.now;
        let decision = decide::decide(&self.state, command, context)?;
        let (events, subject) = (decision.events, decision.subject);
        let mut receipt = receipt::receipt(command, &events, subject, &decision.state, origin, now);
        receipt.warnings = decision.warnings;
        let mut entries = Vec::with_capacity(events.len());
        for event in events {
            entries.push(self.entry(now, origin, event)?);
        }
        if let Some(idempotency) = &origin.idempotency {
            let body = serde_json::to_vec(&receipt).map_err(|error| unwritable(&error))?;
            let (key, request_hash) = (idempotency.key.clone(), idempotency.request_hash);
            self.receipts.push(Kept { key: key.clone(), request_hash, body, at: now });
            self.fresh.insert(key, (request_hash, receipt.clone()));
        }
        self.entries.append(&mut entries);
        self.state = decision.state;
        Ok(receipt)
    }

    fn entry(&self, at: Timestamp, origin: &Origin, event: Event) -> Result<Entry, Problem> {
        let recorded = Recorded {
            at,
            actor: origin.actor.clone(),
            request_id: origin.request_id.clone(),
            source: origin.source,
            event,
        };
        let payload = serde_json::to_vec(&recorded).map_err(|error| unwritable(&error))?;
        let limit = self.payload_max_bytes;
        if payload.len() > limit {
            let detail = format!("the change is {} bytes, more than {limit}", payload.len());
            return Err(Problem::new(Code::PayloadTooLarge, detail));
        }
        Ok(Entry { at, payload })
    }
}

fn unwritable(error: &serde_json::Error) -> Problem {
    Problem::new(Code::Internal, format!("the change cannot be written down: {error}"))
}
