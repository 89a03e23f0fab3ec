//! `GET /v1/logs`: what programs print, over all instances of an env.

use std::collections::BTreeSet;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{BoxStream, SelectAll};
use helix_model::api::{EndReason, LogLine};
use helix_model::instance::Phase;
use helix_model::past::Past;
use helix_model::reference::{self, Scope};
use helix_model::{
    AnyId, Code, Id, Instance, Kind, LogFilter, LogStream, Name, Problem, State as World, Timestamp,
};
use serde::Deserialize;

use super::access::Caller;
use super::problem::{ApiProblem, Query};
use super::streams::{self, Stream};
use super::{Api, forward, sender};
use crate::links::{LogQuery, LogRecord};

const TAIL_LINES_DEFAULT: usize = 200;
const TAIL_LINES_MAX: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct Wanted {
    process: Option<String>,
    instance: Option<String>,
    release: Option<String>,
    deploy: Option<String>,
    tail_lines: Option<usize>,
    since_ms: Option<u64>,
    until_ms: Option<u64>,
    grep: Option<String>,
    stream: Option<LogStream>,
    #[serde(default)]
    follow: bool,
    /// How long a stream may be silent.
    heartbeat_seconds: Option<u64>,
}

/// Lines, oldest first; with `follow=true` the response does not end.
pub(super) async fn stream(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let tail_lines = wanted.tail_lines.unwrap_or(TAIL_LINES_DEFAULT);
    if tail_lines > TAIL_LINES_MAX {
        let detail = format!("tail_lines is at most {TAIL_LINES_MAX}");
        return Err(Problem::new(Code::InvalidArgument, detail).into());
    }
    let heartbeat = streams::heartbeat(wanted.heartbeat_seconds)?;
    let filter = filter(&wanted)?;
    let instances = chosen(&api.engine.state(), &caller, &scope, &wanted)?;
    record(&api, &caller, &scope, &instances).await?;
    let since = wanted.since_ms.map(moment);
    let query = LogQuery { instances, tail_lines, since, follow: wanted.follow, filter };
    let (stream, response) = streams::open(&api, &caller, heartbeat);
    let mut records = node_streams(&api, &query);
    let (parts, _) = request.into_parts();
    if !sender::is_forwarded(&parts.headers) {
        let elsewhere = forward::with_nodes(&api).into_iter();
        records.extend(
            join_all(elsewhere.map(|url| forward::logs(&api, url, &caller.guest, &parts))).await,
        );
    }
    let watch = Watch::new(&api.engine.state(), caller, scope, wanted, &query.instances);
    tokio::spawn(send(api, watch, query, records.into_iter().collect(), stream));
    Ok(response)
}

fn moment(ms: u64) -> Timestamp {
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// What a line must be, checked here once and applied on the nodes.
fn filter(wanted: &Wanted) -> Result<LogFilter, Problem> {
    let until = wanted.until_ms.map(moment);
    let filter = LogFilter { until, grep: wanted.grep.clone(), stream: wanted.stream };
    if wanted.follow && until.is_some() {
        let detail = "lines until a moment cannot be followed".to_owned();
        let problem = Problem::new(Code::InvalidArgument, detail);
        return Err(problem.hint("leave out either `until` or `follow`"));
    }
    filter.matcher().map(|_| filter)
}

/// What programs print may be anything: who reads it is recorded first.
async fn record(
    api: &Api,
    caller: &Caller,
    scope: &Scope,
    instances: &[Id<Instance>],
) -> Result<(), Problem> {
    let state = api.engine.state();
    let env = reference::scoped_env(&state, scope).map(|env| env.id.any());
    let Some(target) = env.or_else(|| instances.first().map(|id| id.any())) else {
        return Ok(());
    };
    drop(state);
    caller.recorded(api, "read_logs", target).await
}

/// Sends lines until there are no more, or the reader or the server is gone.
/// Instances that come up while following join in with all they have printed.
async fn send(
    api: Api,
    mut watch: Watch,
    query: LogQuery,
    mut records: SelectAll<BoxStream<'static, LogRecord>>,
    mut stream: Stream,
) {
    let mut position = api.engine.position();
    while query.follow || !records.is_empty() {
        tokio::select! {
            record = records.next(), if !records.is_empty() => {
                let Some(record) = record else { continue };
                let line = render(&api.engine.state(), &watch.scope, record);
                if !stream.write(&line).await {
                    return stream.end(EndReason::ServerClosing, None);
                }
            }
            changed = position.changed(), if query.follow => {
                if changed.is_err() {
                    return stream.end(EndReason::ServerClosing, None);
                }
                let instances = watch.started(&api.engine.state());
                if !instances.is_empty() {
                    let fresh = LogQuery { instances, tail_lines: TAIL_LINES_MAX, ..query.clone() };
                    records.extend(node_streams(&api, &fresh));
                }
            }
            () = stream.due() => {
                stream.beat(None).await;
            }
            () = stream.abandoned() => return,
            reason = stream.ended() => return stream.end(reason, None),
        }
    }
    stream.end(EndReason::Complete, None);
}

/// Which instances a stream follows, and which are still to come. The state
/// changes all the time; only what can concern the stream is looked at.
struct Watch {
    caller: Caller,
    scope: Scope,
    wanted: Wanted,
    known: BTreeSet<Id<Instance>>,
    /// Chosen, but their nodes have not begun with them.
    pending: Vec<Id<Instance>>,
    /// How many instances the env has ever had: no other number, no new instance.
    ever: u64,
}

impl Watch {
    fn new(
        state: &World,
        caller: Caller,
        scope: Scope,
        wanted: Wanted,
        chosen: &[Id<Instance>],
    ) -> Watch {
        let ever = ever(state, &scope);
        let known = chosen.iter().copied().collect();
        let pending = chosen.iter().copied().filter(|id| !has_started(state, *id)).collect();
        Watch { caller, scope, wanted, known, pending, ever }
    }

    /// Instances whose nodes have begun with them since the last look.
    fn started(&mut self, state: &World) -> Vec<Id<Instance>> {
        self.look(state);
        let (started, pending) = self.pending.drain(..).partition(|id| has_started(state, *id));
        self.pending = pending;
        started
    }

    fn look(&mut self, state: &World) {
        let ever = ever(state, &self.scope);
        if ever == self.ever {
            return;
        }
        self.ever = ever;
        let now = chosen(state, &self.caller, &self.scope, &self.wanted).unwrap_or_default();
        self.pending.extend(now.into_iter().filter(|id| self.known.insert(*id)));
    }
}

/// How many instances the scope's env has ever had.
fn ever(state: &World, scope: &Scope) -> u64 {
    let env = reference::scoped_env(state, scope);
    env.map_or(0, |env| env.status.instances.values().sum())
}

fn chosen(
    state: &World,
    caller: &Caller,
    scope: &Scope,
    wanted: &Wanted,
) -> Result<Vec<Id<Instance>>, Problem> {
    if let Some(text) = &wanted.instance {
        return one(state, caller, scope, text).map(|id| vec![id]);
    }
    let Some(env) = reference::scoped_env(state, scope) else {
        let given = scope.env.as_deref().unwrap_or_default();
        return Err(Problem::not_found(Kind::Env, given));
    };
    caller.must_reach(state, env.id.any(), scope.env.as_deref().unwrap_or_default())?;
    let release = match &wanted.release {
        Some(text) => Some(caller.resolve(state, Kind::Release, text, scope)?),
        None => None,
    };
    let deploy = match &wanted.deploy {
        Some(text) => Some(caller.resolve(state, Kind::Deploy, text, scope)?),
        None => None,
    };
    let process = match &wanted.process {
        Some(text) => Some(text.parse::<Name>().map_err(|error| {
            Problem::new(Code::InvalidArgument, error.to_string()).field("process", "not a name")
        })?),
        None => None,
    };
    let present = state.instances.children(env.id.any()).map(Past::of);
    let all = state.past(env.id).cloned().chain(present);
    Ok(all
        .filter(|it| process.as_ref().is_none_or(|process| it.process == *process))
        .filter(|it| release.is_none_or(|release| it.release.any() == release))
        .filter(|it| deploy.is_none_or(|deploy| it.deploy.is_some_and(|it| it.any() == deploy)))
        .map(|it| it.id)
        .collect())
}

/// The instance of a name or id, also one that is gone.
fn one(state: &World, caller: &Caller, scope: &Scope, text: &str) -> Result<Id<Instance>, Problem> {
    let found = caller.resolve(state, Kind::Instance, text, scope);
    let missing = match found.map(AnyId::typed) {
        Ok(Some(id)) => return Ok(id),
        Ok(None) => Problem::not_found(Kind::Instance, text),
        Err(problem) => problem,
    };
    if let Some(env) = reference::scoped_env(state, scope) {
        let named = |it: &&Past| it.name.as_str() == text || it.id.to_string() == text;
        // The latest, should a name have come twice.
        if let Some(past) = state.past(env.id).filter(named).last() {
            caller.must_reach(state, env.id.any(), text)?;
            return Ok(past.id);
        }
    }
    // Older ones may still be on a node; whose they were is not known any more.
    let id = text.parse::<AnyId>().ok().and_then(AnyId::typed);
    id.filter(|_| caller.runs_installation()).ok_or(missing)
}

/// One stream for each node linked here; which has whose output only it knows.
fn node_streams(api: &Api, query: &LogQuery) -> Vec<BoxStream<'static, LogRecord>> {
    let Ok(nodes) = api.nodes.read() else {
        return Vec::new();
    };
    nodes.iter().map(|linked| linked.link.logs(query.clone())).collect()
}

/// Whether its node has begun with it. Asked earlier, a node would say that there
/// is nothing to follow. One that is gone has begun once.
fn has_started(state: &World, id: Id<Instance>) -> bool {
    let phase = state.instances.get(id).map(|it| it.status.observed.phase);
    !matches!(phase, Some(Phase::Pending | Phase::Pulling))
}

fn render(state: &World, scope: &Scope, record: LogRecord) -> LogLine {
    let present = state.instances.get(record.instance).map(Past::of);
    let known = present.or_else(|| {
        let env = reference::scoped_env(state, scope)?;
        state.past(env.id).find(|it| it.id == record.instance).cloned()
    });
    let known = known.as_ref();
    LogLine {
        kind: "log".to_owned(),
        ts: record.at,
        instance: known.map_or_else(|| record.instance.to_string(), |it| it.name.to_string()),
        instance_id: record.instance.to_string(),
        process: known.map_or_else(String::new, |it| it.process.to_string()),
        stream: if record.stderr { "stderr" } else { "stdout" }.to_owned(),
        line: record.line,
        truncated: record.truncated,
        dropped: record.dropped,
    }
}
