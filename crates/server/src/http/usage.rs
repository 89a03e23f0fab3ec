//! `/v1/usage`: how long instances ran, and the events that say so.

use axum::extract::State;
use axum::{Extension, Json};
use helix_log::Position;
use helix_model::api::{
    EnvUsage, Ipv4Usage, UsageInterval, UsageIntervals, UsageReport, Used, VolumeUsage,
};
use helix_model::event::Recorded;
use helix_model::reference::{self, Scope};
use helix_model::usage::{Amount, Interval, Mark, Running, Window};
use helix_model::{AnyId, Code, Env, Id, Permission, Problem, State as World, Timestamp, view};
use serde::Deserialize;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Query};
use crate::clock;

/// How far back is looked when nothing is said: a month, as on a bill.
const SINCE_DEFAULT_MS: i64 = 30 * 24 * 3_600_000;

/// Entries read from the log at once.
const PAGE: usize = 1024;

/// Intervals told at once. An answer of more is nobody's to read; a narrower
/// question has a shorter one.
const INTERVALS_MAX: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct Asked {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// What an answer is about.
struct Question<'q> {
    state: &'q World,
    caller: &'q Caller,
    within: Option<AnyId>,
    window: Window,
    now: Timestamp,
}

/// What each env used.
pub(super) async fn report(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    Query(asked): Query<Asked>,
) -> Result<Json<UsageReport>, ApiProblem> {
    let state = api.engine.state();
    let question = Question::new(&state, &caller, &scope, &asked)?;
    let (window, now) = (question.window, question.now);
    let mut total = Amount::default();
    let mut items = Vec::new();
    for (env, amount) in state.usage.amounts(&window, now) {
        if !question.includes(env) {
            continue;
        }
        total = total.plus(amount);
        items.push(EnvUsage {
            env: env.any(),
            path: reference::path(&state, env.any()),
            destroyed: state.envs.get(env).is_none(),
            used: Used::from(amount),
        });
    }
    items.sort_by(|one, other| (&one.path, one.env).cmp(&(&other.path, other.env)));
    let (volumes, ipv4) = (question.volumes(), question.ipv4());
    let (since, until, position) = (window.since, window.until, state.position);
    let total = Used::from(total);
    Ok(Json(UsageReport { since, until, items, total, volumes, ipv4, position }))
}

/// The stretches of time that the same question's answer is the sum of.
pub(super) async fn intervals(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    Query(asked): Query<Asked>,
) -> Result<Json<UsageIntervals>, ApiProblem> {
    let state = api.engine.state();
    let question = Question::new(&state, &caller, &scope, &asked)?;
    let (window, now) = (question.window, question.now);
    let mut found = question.read(&api).await?;
    found.sort_by_key(|interval| (interval.from.position, interval.instance));
    let mut total = Amount::default();
    let items = found.into_iter().map(|interval| {
        let amount = interval.amount(&window, now);
        total = total.plus(amount);
        UsageInterval {
            env: interval.env.any(),
            instance: interval.instance.any(),
            path: format!("{}/{}", reference::path(&state, interval.env.any()), interval.name),
            memory_mib: interval.memory_mib,
            from: interval.from,
            to: interval.to,
            used: Used::from(amount),
        }
    });
    let items = items.collect();
    let (since, until, position) = (window.since, window.until, state.position);
    Ok(Json(UsageIntervals { since, until, items, total: Used::from(total), position }))
}

impl<'q> Question<'q> {
    fn new(
        state: &'q World,
        caller: &'q Caller,
        scope: &Scope,
        asked: &Asked,
    ) -> Result<Question<'q>, Problem> {
        let now = clock::now();
        let until = asked.until.unwrap_or(now);
        let since = asked.since.unwrap_or(Timestamp(until.0.saturating_sub(SINCE_DEFAULT_MS)));
        if since > until {
            return Err(Problem::new(Code::InvalidArgument, "`since` is after `until`")
                .field("since", "later than `until`"));
        }
        let within = match gone_env(state, scope) {
            Some(env) => Some(env),
            None => caller.narrow(state, scope)?,
        };
        let window = Window::new(since, until, now);
        Ok(Question { state, caller, within, window, now })
    }

    /// What volumes took. They belong to orgs: no project and no env has one.
    fn volumes(&self) -> Vec<VolumeUsage> {
        let state = self.state;
        let is_asked = |id: AnyId| {
            self.within.is_none_or(|within| view::is_within(state, id, within))
                && self.caller.has(state, id, Permission::BillingRead)
        };
        let amounts = state.usage.volumes.amounts(&self.window, self.now);
        let asked = amounts.into_iter().filter(|(id, _)| is_asked(id.any()));
        let volumes = asked.map(|(id, amount)| {
            let is_gone = state.volumes.get(id).is_none();
            VolumeUsage::new(id.any(), reference::path(state, id.any()), is_gone, amount)
        });
        volumes.collect()
    }

    /// How long envs had IPv4 addresses.
    fn ipv4(&self) -> Vec<Ipv4Usage> {
        let state = self.state;
        let amounts = state.usage.ipv4.amounts(&self.window, self.now);
        let asked = amounts.into_iter().filter(|(env, _)| self.includes(*env));
        let usages = asked.map(|(env, amount)| {
            let is_gone = state.envs.get(env).is_none();
            Ipv4Usage::new(env.any(), reference::path(state, env.any()), is_gone, amount)
        });
        usages.collect()
    }

    fn includes(&self, env: Id<Env>) -> bool {
        self.within.is_none_or(|within| view::is_within(self.state, env.any(), within))
            && self.caller.has(self.state, env.any(), Permission::BillingRead)
    }

    /// Follows the log from where the oldest of it began.
    async fn read(&self, api: &Api) -> Result<Vec<Interval>, Problem> {
        let meter = &self.state.usage;
        let Some(first) = meter.first_position(&self.window, |env| self.includes(env)) else {
            return Ok(Vec::new());
        };
        let mut running = Running::default();
        let mut found = Vec::new();
        let mut after = first.saturating_sub(1);
        while after < self.state.position {
            let page = api.engine.log().read(Position(after), PAGE).await.map_err(unreadable)?;
            if page.is_empty() {
                break;
            }
            for entry in page.iter().take_while(|it| it.position.0 <= self.state.position) {
                let recorded: Recorded =
                    serde_json::from_slice(&entry.payload).map_err(unreadable)?;
                let mark = Mark { position: entry.position.0, at: recorded.at };
                let ended = running.apply(mark, &recorded.event);
                self.take(&mut found, ended)?;
            }
            after = page.last().map_or(after, |entry| entry.position.0);
        }
        for interval in running.open() {
            self.take(&mut found, Some(interval))?;
        }
        Ok(found)
    }

    fn take(&self, found: &mut Vec<Interval>, one: Option<Interval>) -> Result<(), Problem> {
        let Some(interval) = one else { return Ok(()) };
        if interval.amount(&self.window, self.now).is_zero() || !self.includes(interval.env) {
            return Ok(());
        }
        if found.len() == INTERVALS_MAX {
            let detail = format!("there are more than {INTERVALS_MAX} intervals in this time");
            return Err(Problem::new(Code::PayloadTooLarge, detail)
                .hint("ask about less: a shorter time, one app, one env"));
        }
        found.push(interval);
        Ok(())
    }
}

/// An env that is gone but was used; it has no name any more, only an id.
fn gone_env(state: &World, scope: &Scope) -> Option<AnyId> {
    let id: AnyId = scope.env.as_ref()?.parse().ok()?;
    state.gone.contains_key(&id).then_some(id)
}

fn unreadable(error: impl std::error::Error) -> Problem {
    Problem::new(Code::Unavailable, format!("the event log cannot be read: {error}"))
}
