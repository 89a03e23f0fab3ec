//! What only another replica can answer is asked of it: as the caller asked,
//! with the caller's own credentials, and saying whom it comes from ([`sender`]).
//!
//! A request that was forwarded is not forwarded again, so two replicas that
//! each take the other for a node's keep no request going round.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::StreamExt;
use futures::stream::BoxStream;
use helix_model::api::{EdgeTraffic, LogLine, TrafficCounters};
use helix_model::{Code, Id, Node, Problem};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::identity::Guest;
use super::{Api, sender};
use crate::links::LogRecord;

/// Replicas are near each other.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// Counters are asked for every second; who is late is asked again.
const TRAFFIC_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Longest line of output another replica may send; programs' lines are cut far
/// shorter.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// A short answer of another replica is passed on up to this size.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The replica that a node is linked to, for a request to be passed on to: not to this
/// one, and not once more.
pub(super) fn elsewhere(api: &Api, node: Id<Node>, headers: &HeaderMap) -> Option<String> {
    api.elsewhere(node).filter(|_| !sender::is_forwarded(headers))
}

/// Passes a request that wants an upgrade on to the replica at `url`, and then
/// bytes both ways until either side ends.
pub(super) async fn upgrade(
    api: &Api,
    url: &str,
    guest: &Guest,
    mut request: Request,
) -> Result<Response, Problem> {
    let target = target(url, request.uri());
    let headers = passed_on(api, request.headers(), guest);
    let there = client(url)?.get(target).headers(headers).send();
    let there = there.await.map_err(|error| unreachable(url, &error))?;
    if there.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answer(url, there).await;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
        if let Some(value) = there.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    let here = hyper::upgrade::on(&mut request);
    let closed = api.closed();
    tokio::spawn(async move {
        let (Ok(mut there), Ok(here)) = (there.upgrade().await, here.await) else { return };
        let mut here = TokioIo::new(here);
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
            () = closed => {}
        }
    });
    Ok(response)
}

/// Passes a request with a small body on to the replica at `url`, and its answer
/// back.
pub(super) async fn post(
    api: &Api,
    url: &str,
    guest: &Guest,
    parts: &Parts,
    body: &impl Serialize,
) -> Result<Response, Problem> {
    let mut headers = passed_on(api, &parts.headers, guest);
    headers.remove(header::CONTENT_LENGTH);
    let there = client(url)?.post(target(url, &parts.uri)).headers(headers);
    let there = there.json(body).send().await;
    answer(url, there.map_err(|error| unreachable(url, &error))?).await
}

/// The replicas that have nodes, besides this one.
pub(super) fn with_nodes(api: &Api) -> Vec<String> {
    let Some(own) = api.replicas.as_ref().map(|replicas| replicas.url.as_str()) else {
        return Vec::new();
    };
    let state = api.engine.state();
    let linked = state.nodes.iter().filter(|node| node.status.connected);
    let mut urls: Vec<String> = linked.filter_map(|node| node.status.replica.clone()).collect();
    urls.retain(|url| url != own);
    urls.sort();
    urls.dedup();
    urls
}

/// The replicas that have edges, besides this one.
pub(super) fn with_edges(api: &Api) -> Vec<String> {
    let Some(own) = api.replicas.as_ref().map(|replicas| replicas.url.as_str()) else {
        return Vec::new();
    };
    let state = api.engine.state();
    let linked = state.edges.iter().filter(|edge| edge.status.connected);
    let urls: BTreeSet<String> = linked.filter_map(|edge| edge.status.replica.clone()).collect();
    urls.into_iter().filter(|url| url != own).collect()
}

/// The same request for output, answered by another replica for its own nodes.
/// One that cannot be reached has no output.
pub(super) async fn logs(
    api: &Api,
    url: String,
    guest: &Guest,
    parts: &Parts,
) -> BoxStream<'static, LogRecord> {
    let asked = async {
        let request = client(&url)?.get(target(&url, &parts.uri));
        let there = request.headers(passed_on(api, &parts.headers, guest)).send().await;
        let there = there.and_then(reqwest::Response::error_for_status);
        there.map_err(|error| unreachable(&url, &error))
    };
    let there = match asked.await {
        Ok(there) => there,
        Err(problem) => {
            tracing::warn!(%problem, "output of some nodes cannot be read");
            return futures::stream::empty().boxed();
        }
    };
    let bytes = there.bytes_stream().map(|chunk| chunk.map_err(std::io::Error::other));
    let codec = LinesCodec::new_with_max_length(LINE_BYTES_MAX);
    let lines = FramedRead::new(StreamReader::new(bytes.boxed()), codec);
    lines.filter_map(|line| async move { record(&line.ok()?) }).boxed()
}

/// What the edges of another replica have counted, as far as the caller may see it. One
/// that cannot be reached has no edges.
pub(super) async fn traffic(
    api: &Api,
    url: &str,
    guest: &Guest,
    headers: &HeaderMap,
) -> Vec<EdgeTraffic> {
    let asked = async {
        let request = client(url)?.get(format!("{url}/v1/traffic/counters"));
        let request = request.headers(passed_on(api, headers, guest)).timeout(TRAFFIC_TIMEOUT);
        let there = request.send().await.and_then(reqwest::Response::error_for_status);
        let there = there.map_err(|error| unreachable(url, &error))?;
        let told = there.json::<TrafficCounters>().await;
        told.map_err(|error| unreachable(url, &error))
    };
    match asked.await {
        Ok(told) => told.items,
        Err(problem) => {
            tracing::debug!(%problem, "the traffic of some edges cannot be read");
            Vec::new()
        }
    }
}

fn record(line: &str) -> Option<LogRecord> {
    let line = LogLine::deserialize(&mut serde_json::Deserializer::from_str(line)).ok()?;
    Some(LogRecord {
        instance: line.instance_id.parse().ok()?,
        at: line.ts,
        stderr: line.stream == "stderr",
        line: line.line,
        truncated: line.truncated,
        dropped: line.dropped,
    })
}

fn target(url: &str, asked: &http::Uri) -> String {
    let path = asked.path_and_query().map_or("/", |path| path.as_str());
    format!("{url}{path}")
}

fn passed_on(api: &Api, headers: &HeaderMap, guest: &Guest) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(header::HOST);
    sender::write(&mut headers, &api.token, guest);
    headers
}

fn client(url: &str) -> Result<reqwest::Client, Problem> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // The caller's token must not travel to wherever a redirect leads.
        .redirect(reqwest::redirect::Policy::none());
    if !url.starts_with("https:") {
        // A machine without certificates can still do this.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| unreachable(url, &error))
}

async fn answer(url: &str, there: reqwest::Response) -> Result<Response, Problem> {
    let status = there.status();
    let kind = there.headers().get(header::CONTENT_TYPE).cloned();
    let body = there.bytes().await.map_err(|error| unreachable(url, &error))?;
    let mut response = Response::new(Body::from(body.slice(..body.len().min(ANSWER_BYTES_MAX))));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

fn unreachable(url: &str, error: &reqwest::Error) -> Problem {
    let detail = format!("the replica at {url}, which has the node, cannot be reached: {error}");
    Problem::new(Code::Unavailable, detail)
        .hint("try again: a node whose replica is gone links to another within seconds")
}
