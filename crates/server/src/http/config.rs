//! `POST /v1/envs/{env}/config`.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::{ConfigRequest, ProcessConfigRequest};
use helix_model::config::{Changes, Configure, ProcessChanges};
use helix_model::reference::Scope;
use helix_model::{Code, Command, Name, Problem, Receipt, manifest};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};

/// Sets variables and resources of an env.
pub(super) async fn configure(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<ConfigRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, env) = caller.change_of(&api, &headers, at, &request, request.expected_version)?;
    let processes = request.processes.into_iter().map(process).collect::<Result<_, Problem>>()?;
    let changes = Changes { vars: request.vars, processes };
    let command = Command::Configure(Box::new(Configure { env, changes, plan: request.plan }));
    Ok(Json(api.engine.submit(command, origin).await?))
}

fn process(
    (name, request): (Name, ProcessConfigRequest),
) -> Result<(Name, ProcessChanges), Problem> {
    let memory_bytes = request.memory.map(|text| text.map(|text| bytes(&name, &text)).transpose());
    let (memory_bytes, cpu) = (memory_bytes.transpose()?, request.cpu);
    Ok((name, ProcessChanges { vars: request.vars, memory_bytes, cpu }))
}

fn bytes(process: &Name, text: &str) -> Result<u64, Problem> {
    manifest::parse_bytes(text).ok_or_else(|| {
        let detail = format!("`{text}` is not a size; write it as 256Mi or 1Gi");
        Problem::new(Code::InvalidArgument, &detail)
            .field(format!("processes.{process}.memory"), detail)
    })
}
