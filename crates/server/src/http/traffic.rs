//! `/v1/traffic`: what goes through endpoints, over a second or second by second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::future::join_all;
use helix_model::api::{EdgeTraffic, EndReason, EndpointTraffic, TrafficCounters, TrafficLine};
use helix_model::endpoint::Exposure;
use helix_model::reference::{self, Scope};
use helix_model::traffic::{Told, Traffic};
use helix_model::{AnyId, Code, Problem, State as World, view};
use http::HeaderMap;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::access::Caller;
use super::problem::{ApiProblem, Query};
use super::streams::{self, Stream};
use super::{Api, forward, sender};
use crate::clock;
use crate::traffic::{Counters, Sample};

/// From one line to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a person looks at, and what a program may ask for.
const LIMIT_DEFAULT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    follow: bool,
    /// How many endpoints are told of, the busiest first.
    limit: Option<usize>,
    heartbeat_seconds: Option<u64>,
}

/// Who watches what.
struct Watch {
    api: Api,
    caller: Caller,
    headers: HeaderMap,
    within: Option<AnyId>,
    limit: usize,
}

/// One second, or with `follow=true` one after the other.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("limit is from 1 to {LIMIT_MAX}");
        let problem = Problem::new(Code::InvalidArgument, detail);
        return Err(problem.field("limit", "out of range").into());
    }
    let heartbeat = streams::heartbeat(wanted.heartbeat_seconds)?;
    let within = caller.narrow(&api.engine.state(), &scope)?;
    let headers = request.headers().clone();
    let watch = Watch { api: api.clone(), caller: caller.clone(), headers, within, limit };
    if wanted.follow {
        let (stream, response) = streams::open(&api, &caller, heartbeat);
        tokio::spawn(follow(watch, stream));
        return Ok(response);
    }
    let before = watch.sample().await;
    sleep_until(before.at + INTERVAL).await;
    let now = watch.sample().await;
    Ok(Json(watch.line(&before, &now)).into_response())
}

/// What the edges of this replica have counted of endpoints that the caller may see.
pub(super) async fn counters(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
) -> Result<Json<TrafficCounters>, ApiProblem> {
    let within = caller.narrow(&api.engine.state(), &scope)?;
    let sample = api.sample().await;
    let state = api.engine.state();
    let is_shown = |id: AnyId| {
        within.is_none_or(|within| view::is_within(&state, id, within)) && caller.sees(&state, id)
    };
    let of_edge = |(edge, endpoints): (&AnyId, &BTreeMap<AnyId, Traffic>)| {
        let seen = endpoints.iter().filter(|(endpoint, _)| is_shown(**endpoint));
        let told = |(endpoint, traffic): (&AnyId, &Traffic)| Told {
            endpoint: *endpoint,
            traffic: traffic.clone(),
        };
        EdgeTraffic { edge: *edge, endpoints: seen.map(told).collect() }
    };
    Ok(Json(TrafficCounters { items: sample.counters.iter().map(of_edge).collect() }))
}

async fn follow(watch: Watch, mut stream: Stream) {
    let mut before = watch.sample().await;
    let mut next = before.at + INTERVAL;
    loop {
        tokio::select! {
            () = sleep_until(next) => {}
            () = stream.due() => {
                stream.beat(None).await;
                continue;
            }
            () = stream.abandoned() => return,
            reason = stream.ended() => return stream.end(reason, None),
        }
        let now = watch.sample().await;
        if now.at > before.at && !stream.write(&watch.line(&before, &now)).await {
            return stream.end(EndReason::ServerClosing, None);
        }
        (before, next) = (now, (next + INTERVAL).max(Instant::now()));
    }
}

impl Watch {
    /// What all edges have counted, those linked to other replicas too.
    async fn sample(&self) -> Sample {
        let own = self.api.sample().await;
        let others = forward::with_edges(&self.api);
        if others.is_empty() || sender::is_forwarded(&self.headers) {
            return own;
        }
        let asked = others
            .iter()
            .map(|url| forward::traffic(&self.api, url, &self.caller.guest, &self.headers));
        let told = join_all(asked).await.into_iter().flatten().map(|told| {
            let endpoints = told.endpoints.into_iter();
            (told.edge, endpoints.map(|told| (told.endpoint, told.traffic)).collect())
        });
        let mut all = Counters::clone(&own.counters);
        all.extend(told);
        Sample { at: own.at, counters: Arc::new(all) }
    }

    fn line(&self, before: &Sample, now: &Sample) -> TrafficLine {
        let interval = now.at.duration_since(before.at);
        let state = self.api.engine.state();
        let mut items: Vec<_> = self
            .endpoints(&state)
            .map(|(id, protocol)| {
                let passed = passed(id, &before.counters, &now.counters);
                (id, protocol, passed)
            })
            .collect();
        let busy = |traffic: &Traffic| {
            let Traffic { begun, open, sent_bytes, received_bytes, .. } = traffic;
            (*begun, *open, sent_bytes + received_bytes)
        };
        items.sort_by_key(|(id, _, traffic)| (std::cmp::Reverse(busy(traffic)), *id));
        let omitted = items.len().saturating_sub(self.limit);
        items.truncate(self.limit);
        let items = items.into_iter().map(|(id, protocol, traffic)| {
            let path = reference::path(&state, id);
            item(id, path, protocol, &traffic, interval)
        });
        TrafficLine {
            kind: "traffic".to_owned(),
            ts: clock::now(),
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            edges: now.counters.len(),
            items: items.collect(),
            omitted,
        }
    }

    /// What there is to tell of.
    fn endpoints<'s>(
        &'s self,
        state: &'s World,
    ) -> impl Iterator<Item = (AnyId, &'static str)> + 's {
        let all = state.endpoints.iter().map(|it| (it.id.any(), protocol(&it.spec.exposure)));
        all.filter(|(id, _)| self.within.is_none_or(|it| view::is_within(state, *id, it)))
            .filter(|(id, _)| self.caller.sees(state, *id))
    }
}

fn protocol(exposure: &Exposure) -> &'static str {
    match exposure {
        Exposure::Http { .. } => "http",
        Exposure::Tcp { .. } => "tcp",
        Exposure::Tls { .. } => "tls",
        Exposure::Udp { .. } => "udp",
    }
}

/// What went through an endpoint in between, at all edges. Of an edge that has only come,
/// or has come back, nobody knows when.
fn passed(endpoint: AnyId, before: &Counters, now: &Counters) -> Traffic {
    let mut all = Traffic::default();
    let edges: BTreeSet<_> = now.keys().collect();
    for edge in edges {
        let Some(counted) = now[edge].get(&endpoint) else { continue };
        match before.get(edge) {
            Some(earlier) => {
                let none = Traffic::default();
                all.add(&counted.since(earlier.get(&endpoint).unwrap_or(&none)));
            }
            None => all.open += counted.open,
        }
    }
    all
}

fn item(
    endpoint: AnyId,
    path: String,
    protocol: &str,
    traffic: &Traffic,
    interval: Duration,
) -> EndpointTraffic {
    let seconds = interval.as_secs_f64().max(0.001);
    // As exact as a second is.
    let rate = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from) / seconds;
    let kib = |bytes: u64| rate(bytes / 1_024) * 1_024.0 + rate(bytes % 1_024);
    EndpointTraffic {
        endpoint,
        path,
        protocol: protocol.to_owned(),
        open: traffic.open,
        per_second: rate(traffic.begun),
        errors_per_second: rate(traffic.errors),
        received_bytes_per_second: kib(traffic.received_bytes),
        sent_bytes_per_second: kib(traffic.sent_bytes),
        p50_ms: traffic.quantile_ms(0.5),
        p99_ms: traffic.quantile_ms(0.99),
    }
}

#[cfg(test)]
mod tests {
    use helix_model::{Edge, Endpoint, Id, Timestamp};

    use super::*;

    fn told(edges: &[(u128, u64)]) -> Counters {
        let endpoint = Id::<Endpoint>::new(Timestamp(1), 1).any();
        let one = |(edge, begun): &(u128, u64)| {
            let traffic = Traffic { begun: *begun, open: 1, ..Traffic::default() };
            (Id::<Edge>::new(Timestamp(1), *edge).any(), [(endpoint, traffic)].into())
        };
        edges.iter().map(one).collect()
    }

    #[test]
    fn an_edge_that_comes_or_begins_anew_makes_no_jump() {
        let endpoint = Id::<Endpoint>::new(Timestamp(1), 1).any();
        let between = |before: &[(u128, u64)], now: &[(u128, u64)]| {
            let passed = passed(endpoint, &told(before), &told(now));
            (passed.begun, passed.open)
        };
        assert_eq!(between(&[(1, 100)], &[(1, 103)]), (3, 1));
        assert_eq!(between(&[(1, 100)], &[(1, 103), (2, 5_000)]), (3, 2), "one has come");
        assert_eq!(between(&[(1, 100)], &[(1, 2)]), (2, 1), "it was started again");
        assert_eq!(between(&[(1, 100), (2, 50)], &[(2, 51)]), (1, 1), "one has gone");
    }
}
