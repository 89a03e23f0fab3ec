//! `/v1/audit`: changes and attempts in one order, for who may read the trail of
//! an org, or of all.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use helix_log::{Entry, EventLog, Position};
use helix_model::api::EndReason;
use helix_model::audit::{Attempt, AuditLine, AuditPage, AuditSource, Decision};
use helix_model::{Actor, Code, Id, Name, Org, Problem, Recorded, State as World};
use serde::Deserialize;

use super::Api;
use super::access::{self, Caller};
use super::problem::{ApiProblem, Query};
use super::streams::{self, Stream};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;
/// Entries read from a log at once.
const PAGE: u64 = 1024;
/// Entries looked at for one page; the next page goes on from there. So that a
/// filter nothing fits cannot keep the server busy.
const LOOKED_AT_MAX: u64 = 100_000;

/// Which lines.
#[derive(Clone, Deserialize)]
pub(super) struct Wanted {
    limit: Option<usize>,
    cursor: Option<String>,
    since_ms: Option<u64>,
    /// The name of a user, token, machine or reconciler.
    actor: Option<String>,
    decision: Option<Decision>,
    operation: Option<String>,
    org: Option<Name>,
    /// Also what the platform did by itself.
    #[serde(default)]
    all: bool,
}

/// The newest lines first.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<AuditPage>, ApiProblem> {
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let problem =
            Problem::new(Code::InvalidArgument, format!("limit is from 1 to {LIMIT_MAX}"));
        return Err(problem.field("limit", "out of range").into());
    }
    let (events_end, audit_end) = match &wanted.cursor {
        Some(cursor) => parse_cursor(cursor)?,
        None => (head(api.engine.log()).await?, head(api.audit.log()).await?),
    };
    let trail = Trail::new(&api, caller, wanted)?;
    let mut events = Backwards::new(AuditSource::Events, events_end);
    let mut audit = Backwards::new(AuditSource::Audit, audit_end);
    let mut items = Vec::with_capacity(limit);
    while items.len() < limit && events.looked_at + audit.looked_at < LOOKED_AT_MAX {
        events.fill(&trail).await?;
        audit.fill(&trail).await?;
        let newer = match (events.found.front(), audit.found.front()) {
            (None, None) if events.end == 0 && audit.end == 0 => break,
            (None, _) if events.end > 0 => continue,
            (_, None) if audit.end > 0 => continue,
            (Some(event), Some(attempt)) if event.ts >= attempt.ts => &mut events,
            (Some(_), None) => &mut events,
            _ => &mut audit,
        };
        items.extend(newer.found.pop_front());
    }
    let (events_left, audit_left) = (events.left(), audit.left());
    let more = events_left > 0 || audit_left > 0;
    let next_cursor = more.then(|| format!("{events_left}.{audit_left}"));
    Ok(Json(AuditPage { items, next_cursor }))
}

/// All lines as NDJSON, the oldest first.
pub(super) async fn export(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiProblem> {
    let trail = Trail::new(&api, caller.clone(), wanted)?;
    let attempt = caller.attempt("export_audit", Decision::Allow, "allowed");
    api.audit.record(Attempt { org: trail.org, ..attempt }).await?;
    let heartbeat = streams::heartbeat(None)?;
    let (mut stream, response) = streams::open(&api, &caller, heartbeat);
    let ends = (head(api.engine.log()).await?, head(api.audit.log()).await?);
    tokio::spawn(async move {
        let reason = match send(&trail, ends, &mut stream).await {
            Ok(reason) => reason,
            Err(problem) => {
                tracing::warn!(%problem, "an export of the audit trail ends early");
                EndReason::Unavailable
            }
        };
        stream.end(reason, None);
    });
    Ok(response)
}

/// What is read, by whom, and which of it.
struct Trail {
    api: Api,
    caller: Caller,
    wanted: Wanted,
    org: Option<Id<Org>>,
}

impl Trail {
    fn new(api: &Api, caller: Caller, wanted: Wanted) -> Result<Trail, Problem> {
        let org = match &wanted.org {
            Some(name) => Some(caller.org(&api.engine.state(), name)?),
            None => None,
        };
        Ok(Trail { api: Arc::clone(api), caller, wanted, org })
    }

    fn log(&self, source: AuditSource) -> &dyn EventLog {
        match source {
            AuditSource::Events => self.api.engine.log(),
            AuditSource::Audit => self.api.audit.log(),
        }
    }

    async fn read(
        &self,
        source: AuditSource,
        after: u64,
        count: u64,
    ) -> Result<Vec<Entry>, Problem> {
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        self.log(source).read(Position(after), limit).await.map_err(|error| unreadable(&error))
    }

    /// An entry as a line, if it is wanted and the caller may see it.
    fn line(
        &self,
        state: &World,
        source: AuditSource,
        entry: &Entry,
    ) -> Result<Option<AuditLine>, Problem> {
        let position = entry.position.0;
        let (org, line) = match source {
            AuditSource::Events => {
                let recorded = serde_json::from_slice(&entry.payload);
                change(state, position, recorded.map_err(|error| unreadable(&error))?)
            }
            AuditSource::Audit => {
                let attempt = serde_json::from_slice(&entry.payload);
                attempted(position, attempt.map_err(|error| unreadable(&error))?)
            }
        };
        Ok(self.is_wanted(org, &line).then_some(line))
    }

    fn is_wanted(&self, org: Option<Id<Org>>, line: &AuditLine) -> bool {
        let Wanted { since_ms, actor, decision, operation, all, .. } = &self.wanted;
        let by_itself = matches!(line.actor, Some(Actor::System(_) | Actor::Machine(_)));
        self.caller.reads_audit_of(org)
            && self.org.is_none_or(|wanted| org == Some(wanted))
            && since_ms.is_none_or(|since| !is_before(line.ts.0, since))
            && decision.is_none_or(|decision| line.decision == decision)
            && operation.as_ref().is_none_or(|operation| line.operation == *operation)
            && match actor {
                Some(name) => line.actor.as_ref().is_some_and(|actor| actor.name() == name),
                None => *all || !by_itself,
            }
    }
}

/// Whether a time is before what was asked for; times before 1970 always are.
fn is_before(at_ms: i64, since_ms: u64) -> bool {
    u64::try_from(at_ms).map_or(true, |at_ms| at_ms < since_ms)
}

/// A log read from its end.
struct Backwards {
    source: AuditSource,
    /// What is after this was read.
    end: u64,
    found: VecDeque<AuditLine>,
    looked_at: u64,
}

impl Backwards {
    fn new(source: AuditSource, end: u64) -> Backwards {
        Backwards { source, end, found: VecDeque::new(), looked_at: 0 }
    }

    /// Reads on when nothing is left of what was read.
    async fn fill(&mut self, trail: &Trail) -> Result<(), Problem> {
        if !self.found.is_empty() || self.end == 0 {
            return Ok(());
        }
        let start = self.end.saturating_sub(PAGE);
        let entries = trail.read(self.source, start, self.end - start).await?;
        let state = trail.api.engine.state();
        let too_old =
            |entry: &Entry| trail.wanted.since_ms.is_some_and(|it| is_before(entry.at_ms, it));
        // Clocks of replicas differ a little; a page is far longer than that.
        let reached = entries.first().is_some_and(too_old) && entries.last().is_some_and(too_old);
        for entry in entries.iter().rev().filter(|entry| entry.position.0 <= self.end) {
            self.found.extend(trail.line(&state, self.source, entry)?);
        }
        self.looked_at += self.end - start;
        self.end = if reached { 0 } else { start };
        Ok(())
    }

    /// The newest position that was not given out.
    fn left(&self) -> u64 {
        self.found.front().map_or(self.end, |line| line.position)
    }
}

/// A log read from its beginning.
struct Forwards {
    source: AuditSource,
    after: u64,
    end: u64,
    found: VecDeque<AuditLine>,
}

impl Forwards {
    async fn fill(&mut self, trail: &Trail) -> Result<(), Problem> {
        while self.found.is_empty() && self.after < self.end {
            let count = PAGE.min(self.end - self.after);
            let entries = trail.read(self.source, self.after, count).await?;
            let state = trail.api.engine.state();
            for entry in &entries {
                self.after = entry.position.0;
                self.found.extend(trail.line(&state, self.source, entry)?);
            }
            if entries.is_empty() {
                self.after = self.end;
            }
        }
        Ok(())
    }
}

async fn send(
    trail: &Trail,
    (events_end, audit_end): (u64, u64),
    stream: &mut Stream,
) -> Result<EndReason, Problem> {
    let from = |source, end| Forwards { source, after: 0, end, found: VecDeque::new() };
    let mut events = from(AuditSource::Events, events_end);
    let mut audit = from(AuditSource::Audit, audit_end);
    loop {
        events.fill(trail).await?;
        audit.fill(trail).await?;
        let older = match (events.found.front(), audit.found.front()) {
            (None, None) => return Ok(EndReason::Complete),
            (Some(event), Some(attempt)) if event.ts <= attempt.ts => &mut events,
            (Some(_), None) => &mut events,
            _ => &mut audit,
        };
        let Some(line) = older.found.pop_front() else { return Ok(EndReason::Complete) };
        if !stream.write(&line).await {
            return Ok(EndReason::ServerClosing);
        }
    }
}

/// A change, from the event log.
fn change(state: &World, position: u64, recorded: Recorded) -> (Option<Id<Org>>, AuditLine) {
    let subject = recorded.event.subject();
    let org = subject.as_ref().and_then(|subject| access::org_of_subject(state, subject));
    let line = AuditLine {
        kind: "audit".to_owned(),
        ts: recorded.at,
        log: AuditSource::Events,
        position,
        token: None,
        source: recorded.source,
        request_id: recorded.request_id,
        operation: recorded.event.name().to_owned(),
        target: subject.map_or_else(String::new, |subject| subject.path(state)),
        detail: String::new(),
        decision: Decision::Allow,
        reason: "changed".to_owned(),
        count: 1,
        actor: Some(recorded.actor),
    };
    (org, line)
}

/// Anything else, from the audit log.
fn attempted(position: u64, attempt: Attempt) -> (Option<Id<Org>>, AuditLine) {
    let line = AuditLine {
        kind: "audit".to_owned(),
        ts: attempt.at,
        log: AuditSource::Audit,
        position,
        actor: attempt.actor,
        token: attempt.token,
        source: attempt.source,
        request_id: attempt.request_id,
        operation: attempt.operation,
        target: attempt.target,
        detail: attempt.detail,
        decision: attempt.decision,
        reason: attempt.reason,
        count: attempt.count,
    };
    (attempt.org, line)
}

async fn head(log: &dyn EventLog) -> Result<u64, Problem> {
    let head = log.head().await.map_err(|error| unreadable(&error))?;
    Ok(head.position.0)
}

fn parse_cursor(text: &str) -> Result<(u64, u64), Problem> {
    let parts = text
        .split_once('.')
        .and_then(|(events, audit)| Some((events.parse().ok()?, audit.parse().ok()?)));
    parts.ok_or_else(|| {
        Problem::new(Code::InvalidArgument, "the cursor is not one this API gave out")
            .field("cursor", "pass `next_cursor` of the page before, unchanged")
    })
}

fn unreadable(error: &dyn std::error::Error) -> Problem {
    Problem::new(Code::Unavailable, format!("the audit trail cannot be read: {error}"))
}
