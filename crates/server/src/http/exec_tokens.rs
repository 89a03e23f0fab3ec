//! Tokens that stand for one command in one instance: made by who may run it,
//! good once and for a minute, for who cannot send an `Authorization` header (a
//! terminal in a browser) or must not have more than this.
//!
//! They live in the memory of the replica that has the instance's node, which is
//! where the command will run: that one can say for certain that a token was not
//! used before. What is lost with the replica is asked for again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use helix_model::api::{ExecRequest, ExecToken, ExecTokenRequest};
use helix_model::reference::Scope;
use helix_model::{Code, Id, Instance, Problem, Timestamp};
use http::request::Parts;
use tokio::time::Instant;

use super::access::Caller;
use super::exec::{self, Wanted};
use super::problem::{ApiProblem, Body, Path, Query};
use super::{Api, forward};
use crate::clock;
use crate::token::{Token, TokenHash};

/// What such a token begins with, so that scanners can find leaks.
const PREFIX: &str = "hx_ex_";

/// How long one is good when nobody says otherwise, and may be, seconds.
const SECONDS_DEFAULT: u64 = 60;
const SECONDS: std::ops::RangeInclusive<u64> = 30..=300;

/// Unused ones at a time, of everybody together. Each holds a request of up to the
/// largest body in memory.
const WAITING_MAX: usize = 256;

/// What a token stands for.
pub(super) struct Ticket {
    pub caller: Caller,
    pub instance: Id<Instance>,
    pub request: ExecRequest,
    pub max: Duration,
    expires: Instant,
}

/// All that were not used yet.
#[derive(Default)]
pub(crate) struct ExecTokens {
    waiting: Mutex<HashMap<helix_model::token::Hash, Ticket>>,
}

impl ExecTokens {
    fn keep(&self, token: &Token, ticket: Ticket) -> Result<(), Problem> {
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, ticket| ticket.expires > now);
        if waiting.len() >= WAITING_MAX {
            let detail = format!("{WAITING_MAX} tokens for commands wait to be used");
            let mut problem = Problem::new(Code::RateLimited, detail)
                .hint("use one, or wait: they expire within minutes");
            problem.retry_after_seconds = Some(SECONDS_DEFAULT);
            return Err(problem);
        }
        waiting.insert(token.hash().model(), ticket);
        Ok(())
    }

    /// What a token stands for, once. One for another instance stays as it is.
    pub(super) fn take(&self, token: TokenHash, instance: Id<Instance>) -> Option<Ticket> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let token = token.model();
        if waiting.get(&token)?.instance != instance {
            return None;
        }
        waiting.remove(&token).filter(|ticket| ticket.expires > Instant::now())
    }
}

/// Makes a token and shows it, this once.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    Query(wanted): Query<Wanted>,
    parts: Parts,
    Body(request): Body<ExecTokenRequest>,
) -> Result<Response, ApiProblem> {
    let state = api.engine.state();
    let instance = exec::meant(&state, &caller, &reference, &scope, &wanted)?;
    let (node, _) = exec::running_on(&state, instance)?;
    drop(state);
    let (max, life) = (exec::duration(request.max_seconds)?, life(request.token_seconds)?);
    if request.command.is_empty() {
        return Err(Problem::new(Code::InvalidArgument, "there is no command to run")
            .field("command", "empty")
            .into());
    }
    if let Some(url) = forward::elsewhere(&api, node, &parts.headers) {
        return Ok(forward::post(&api, &url, &caller.guest, &parts, &request).await?);
    }
    let token = Token::fresh_with(PREFIX);
    let expires_at = Timestamp(clock::now().0 + i64::try_from(life.as_millis()).unwrap_or(0));
    let detail = exec::shown(&request.command, request.tty);
    caller.recorded_with(&api, "create_exec_token", instance.any(), ("allowed", detail)).await?;
    let request = ExecRequest {
        command: request.command,
        tty: request.tty,
        cols: request.cols,
        rows: request.rows,
        env: request.env,
    };
    let expires = Instant::now() + life;
    api.exec_tokens.keep(&token, Ticket { caller, instance, request, max, expires })?;
    let connect = format!("/v1/instances/{instance}/exec/run?token={}", token.reveal());
    let reply = ExecToken { instance, token: token.reveal().to_owned(), connect, expires_at };
    Ok(Json(reply).into_response())
}

fn life(seconds: Option<u64>) -> Result<Duration, Problem> {
    let seconds = seconds.unwrap_or(SECONDS_DEFAULT);
    if SECONDS.contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    let (from, to) = (SECONDS.start(), SECONDS.end());
    let detail = format!("a token for a command is good for {from} to {to} seconds");
    Err(Problem::new(Code::InvalidArgument, detail).field("token_seconds", "out of range"))
}
