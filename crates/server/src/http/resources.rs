//! List and describe, for every kind alike.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use helix_model::api::WrittenPage;
use helix_model::reference::Scope;
use helix_model::view;
use helix_model::{Code, Kind, Noun, Problem};
use serde::Deserialize;

use super::access::Caller;
use super::problem::{ApiProblem, Path, Query};
use super::{Api, answer, cursor};

const LIMIT_DEFAULT: usize = 50;
pub(super) const LIMIT_MAX: usize = 200;

#[derive(Deserialize)]
pub(super) struct Paging {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// `GET /v1/{plural}`: a page of a kind, within the scope.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
    Query(scope): Query<Scope>,
    Query(paging): Query<Paging>,
) -> Result<Response, ApiProblem> {
    page(&api, &caller, plural(&kind)?, &scope, &paging)
}

/// How many items a page may have.
pub(super) fn limit(wanted: Option<usize>) -> Result<usize, Problem> {
    let limit = wanted.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit is from 1 to {LIMIT_MAX}");
    Err(Problem::new(Code::InvalidArgument, detail).field("limit", "out of range"))
}

/// A page of a kind.
pub(super) fn page(
    api: &Api,
    caller: &Caller,
    kind: Kind,
    scope: &Scope,
    paging: &Paging,
) -> Result<Response, ApiProblem> {
    let limit = limit(paging.limit)?;
    let after = paging.cursor.as_deref().map(|text| cursor::decode_id(kind, text)).transpose()?;
    caller.must_read(kind)?;
    let state = api.engine.state();
    let within = caller.narrow(&state, scope)?;
    let visible = |id| caller.sees(&state, id);
    let mut items = view::list(&state, kind, within, after, limit + 1, &visible);
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).map(|last| cursor::encode_id(last.id()));
    answer::json(&WrittenPage { items, next_cursor, position: state.position })
}

/// `GET /v1/{plural}/{ref}`: one resource, desired and current.
pub(super) async fn describe(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((kind, reference)): Path<(String, String)>,
    Query(scope): Query<Scope>,
) -> Result<Response, ApiProblem> {
    one(&api, &caller, plural(&kind)?, &reference, &scope)
}

/// The same list where a path of its own takes other methods, too.
pub(super) async fn list_of<N: Noun>(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    Query(paging): Query<Paging>,
) -> Result<Response, ApiProblem> {
    page(&api, &caller, N::KIND, &scope, &paging)
}

/// The same view where a path of its own takes other methods, too.
pub(super) async fn describe_of<N: Noun>(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
) -> Result<Response, ApiProblem> {
    one(&api, &caller, N::KIND, &reference, &scope)
}

fn one(
    api: &Api,
    caller: &Caller,
    kind: Kind,
    reference: &str,
    scope: &Scope,
) -> Result<Response, ApiProblem> {
    let state = api.engine.state();
    let id = caller.resolve(&state, kind, reference, scope)?;
    let shown = view::shown(&state, id).ok_or_else(|| Problem::not_found(kind, reference))?;
    answer::json(&shown)
}

fn plural(text: &str) -> Result<Kind, Problem> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.plural() == text);
    kind.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there are no `{text}` in this API"))
            .hint("docs/api.md lists every route")
    })
}
