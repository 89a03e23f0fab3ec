//! `GET /v1/logs`: what programs print, over all instances of an env.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures::{Stream, StreamExt, stream};
use helix_model::api::LogLine;
use helix_model::reference::{self, Scope};
use helix_model::{AnyId, Code, Id, Instance, Kind, Name, Problem, State as World, Timestamp};
use serde::Deserialize;

use super::Api;
use super::events::ndjson;
use super::problem::{ApiProblem, Query};
use crate::links::{LogQuery, LogRecord};

const TAIL_LINES_DEFAULT: usize = 200;
const TAIL_LINES_MAX: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct Wanted {
    process: Option<String>,
    instance: Option<String>,
    release: Option<String>,
    tail_lines: Option<usize>,
    since_ms: Option<i64>,
    #[serde(default)]
    follow: bool,
}

/// Lines, oldest first; with `follow=true` the response does not end.
pub(super) async fn stream(
    State(api): State<Api>,
    Query(scope): Query<Scope>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiProblem> {
    let tail_lines = wanted.tail_lines.unwrap_or(TAIL_LINES_DEFAULT);
    if tail_lines > TAIL_LINES_MAX {
        let detail = format!("tail_lines is at most {TAIL_LINES_MAX}");
        return Err(Problem::new(Code::InvalidArgument, detail).into());
    }
    let state = api.engine.state();
    let instances = chosen(&state, &scope, &wanted)?;
    drop(state);
    let since = wanted.since_ms.map(Timestamp);
    let query = LogQuery {
        instances,
        tail_lines,
        since,
        follow: wanted.follow,
    };
    let records = records(&api, query);
    let world = api.clone();
    let lines = records.take_until(api.closed()).map(move |record| {
        let line = render(&world.engine.state(), record);
        serde_json::to_string(&line).map(|text| text + "\n")
    });
    Ok(ndjson(Body::from_stream(lines)))
}

fn chosen(state: &World, scope: &Scope, wanted: &Wanted) -> Result<Vec<Id<Instance>>, Problem> {
    if let Some(text) = &wanted.instance {
        // The output of an instance that is gone is kept for a while.
        let id = match text.parse::<AnyId>() {
            Ok(id) if id.kind() == Kind::Instance => id,
            _ => reference::resolve(state, Kind::Instance, text, scope)?,
        };
        return Ok(id.typed().into_iter().collect());
    }
    let Some(env) = reference::scoped_env(state, scope) else {
        let given = scope.env.as_deref().unwrap_or_default();
        return Err(Problem::not_found(Kind::Env, given));
    };
    let release = match &wanted.release {
        Some(text) => Some(reference::resolve(state, Kind::Release, text, scope)?),
        None => None,
    };
    let process = match &wanted.process {
        Some(text) => Some(text.parse::<Name>().map_err(|error| {
            Problem::new(Code::InvalidArgument, error.to_string()).field("process", "not a name")
        })?),
        None => None,
    };
    let all = state.instances.children(env.id.any());
    Ok(all
        .filter(|it| {
            process
                .as_ref()
                .is_none_or(|process| it.spec.process == *process)
        })
        .filter(|it| release.is_none_or(|release| it.spec.release.any() == release))
        .map(|it| it.id)
        .collect())
}

/// The lines of every node that is linked. One node so far holds an instance's
/// output, so the streams need no merging beyond taking what comes.
fn records(api: &Api, query: LogQuery) -> impl Stream<Item = LogRecord> + Send + 'static {
    let links: Vec<_> = match api.nodes.read() {
        Ok(nodes) => nodes
            .iter()
            .map(|(_, link)| std::sync::Arc::clone(link))
            .collect(),
        Err(_) => Vec::new(),
    };
    stream::select_all(links.into_iter().map(move |link| link.logs(query.clone())))
}

fn render(state: &World, record: LogRecord) -> LogLine {
    let known = state.instances.get(record.instance);
    LogLine {
        kind: "log".to_owned(),
        ts: record.at,
        instance: known.map_or_else(|| record.instance.to_string(), |it| it.name.to_string()),
        instance_id: record.instance.to_string(),
        process: known.map_or_else(String::new, |it| it.spec.process.to_string()),
        stream: if record.stderr { "stderr" } else { "stdout" }.to_owned(),
        line: record.line,
        truncated: record.truncated,
    }
}
