//! `POST /v1/orgs|projects|apps|envs`: something to put other things in.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::CreateRequest;
use helix_model::reference::Scope;
use helix_model::{
    AnyId, Code, Command, Kind, Noun, Problem, Receipt, State as World, app, env, org, project,
};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Query};
use super::scale::request_hash;

/// Makes one of a kind.
pub(super) async fn create<N: Noun>(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<CreateRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash(N::KIND.plural(), &(&scope, &request)))?;
    let parent = match parent_kind(N::KIND) {
        Some(kind) => Some(parent(&caller, &api.engine.state(), kind, &request, &scope)?),
        None => None,
    };
    let command = command(N::KIND, parent, request)?;
    Ok(Json(api.engine.submit(command, origin).await?))
}

fn parent_kind(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Project => Some(Kind::Org),
        Kind::App => Some(Kind::Project),
        Kind::Env => Some(Kind::App),
        _ => None,
    }
}

fn parent(
    caller: &Caller,
    state: &World,
    kind: Kind,
    request: &CreateRequest,
    scope: &Scope,
) -> Result<AnyId, Problem> {
    let scoped = match kind {
        Kind::Org => &scope.org,
        Kind::Project => &scope.project,
        _ => &scope.app,
    };
    let Some(text) = request.parent.as_ref().or(scoped.as_ref()) else {
        let detail = format!("it is not said which {kind} `{}` is to be in", request.name);
        return Err(Problem::new(Code::InvalidArgument, detail)
            .hint(format!("set `parent`, or `{kind}` in the query"))
            .field("parent", "missing"));
    };
    caller.resolve(state, kind, text, scope)
}

fn command(kind: Kind, parent: Option<AnyId>, request: CreateRequest) -> Result<Command, Problem> {
    let name = request.name;
    let in_org = parent.and_then(AnyId::typed);
    let in_project = parent.and_then(AnyId::typed);
    let in_app = parent.and_then(AnyId::typed);
    match (kind, in_org, in_project, in_app) {
        (Kind::Org, ..) => Ok(Command::CreateOrg(org::Create { name })),
        (Kind::Project, Some(org), ..) => Ok(Command::CreateProject(project::Create { org, name })),
        (Kind::App, _, Some(project), _) => Ok(Command::CreateApp(app::Create { project, name })),
        (Kind::Env, .., Some(app)) => Ok(Command::CreateEnv(env::Create { app, name })),
        _ => Err(Problem::new(Code::Internal, format!("no {kind} is made this way"))),
    }
}
