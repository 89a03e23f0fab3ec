//! The API behind the page.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::answers::{Body, document, lines, problem};
use crate::inspect::exchange::Exchange;
use crate::inspect::journal::Journal;
use crate::inspect::replay::ReplayError;
use crate::inspect::service::Inspector;

pub(super) fn list(journal: &Arc<Journal>, query: &str) -> Response<Body> {
    match query {
        "" | "follow=false" => {
            let (mut requests, _) = journal.since(0, |exchange| (exchange.id, exchange.summary()));
            requests.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
            let requests: Vec<Value> = requests.into_iter().map(|(_, it)| it).collect();
            document(StatusCode::OK, &json!({ "requests": requests }))
        }
        "follow=true" => follow(journal),
        _ => problem(StatusCode::BAD_REQUEST, "query", "only `follow=true` can be asked for"),
    }
}

pub(super) fn one(journal: &Journal, id: &str) -> Response<Body> {
    match id.parse().ok().and_then(|id| journal.look(id, Exchange::details)) {
        Some(details) => document(StatusCode::OK, &details),
        None => not_kept(&ReplayError::NotFound),
    }
}

pub(super) fn replay(inspector: &Arc<Inspector>, id: &str) -> Response<Body> {
    let id = id.parse().map_err(|_| ReplayError::NotFound);
    match id.and_then(|id| inspector.replay(id)) {
        Ok(replayed) => document(StatusCode::ACCEPTED, &json!({ "id": replayed })),
        Err(ReplayError::Not(why)) => {
            problem(StatusCode::CONFLICT, why.code(), &ReplayError::Not(why).to_string())
        }
        Err(error) => not_kept(&error),
    }
}

fn not_kept(error: &ReplayError) -> Response<Body> {
    problem(StatusCode::NOT_FOUND, "not_found", &error.to_string())
}

/// What has been told to who follows.
struct Follower {
    journal: Arc<Journal>,
    changes: watch::Receiver<u64>,
    revision: u64,
    /// Lines that are ready.
    ready: VecDeque<Bytes>,
}

impl Follower {
    /// The next line. Who reads slowly misses what a request looked like meanwhile, and
    /// never how it ended.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            self.changes.wait_for(|newest| *newest > self.revision).await.ok()?;
            let (news, revision) = self.journal.since(self.revision, line);
            self.ready.extend(news);
            self.revision = revision;
        }
    }
}

fn line(exchange: &Exchange) -> Bytes {
    let summary = exchange.summary();
    let line = json!({ "type": "request", "ts": summary["ts"], "request": summary });
    format!("{line}\n").into()
}

fn follow(journal: &Arc<Journal>) -> Response<Body> {
    let follower = Follower {
        journal: Arc::clone(journal),
        changes: journal.changes(),
        revision: 0,
        ready: VecDeque::new(),
    };
    let stream = futures::stream::unfold(follower, |mut follower| async move {
        let line = follower.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(line)), follower))
    });
    lines(StreamBody::new(Box::pin(stream)).boxed_unsync())
}
