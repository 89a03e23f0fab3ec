//! From a token to who is asking: the one place that reads what a token stands
//! for. Whether they may is [`super::access`]'s business.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use helix_model::api::EndReason;
use helix_model::audit::{Attempt, Decision};
use helix_model::token::{Issued, Owner, USE_NOTED_EVERY_MS};
use helix_model::{
    Actor, Code, Command, Id, Org, Permission, Permissions, Problem, State, Timestamp, Token,
};

use super::Api;
use super::access::{Caller, Power, Who};
use crate::engine::Origin;
use crate::token::TokenHash;
use crate::{clock, entropy};

/// How those appear in events who have the installation's own token.
const ROOT: &str = "admin";

/// Longest sleep until a token expires; longer ones are cut into pieces.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// A request before anyone knows who sends it.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub request_id: Arc<str>,
    pub source: Option<IpAddr>,
}

impl Guest {
    /// An origin in the name of somebody who has just proved who they are.
    pub(super) fn origin(&self, actor: Actor) -> Origin {
        let (request_id, source) = (self.request_id.to_string(), self.source);
        Origin { actor, request_id, source, idempotency: None, precondition: None }
    }

    /// What was asked for, for the audit trail.
    pub(super) fn attempt(
        &self,
        operation: &str,
        target: &str,
        decision: Decision,
        reason: &str,
    ) -> Attempt {
        Attempt {
            at: clock::now(),
            actor: None,
            token: None,
            source: self.source,
            request_id: self.request_id.to_string(),
            operation: operation.to_owned(),
            org: None,
            target: target.to_owned(),
            detail: String::new(),
            decision,
            reason: reason.to_owned(),
            count: 1,
        }
    }

    /// Counts a token that lets nobody in: what to answer with. One that is right is
    /// let in whatever else comes from its address.
    pub(super) fn failed(&self, api: &Api, problem: Problem) -> Problem {
        let few = api.limits.must_be_few_failures(self.source, "");
        api.limits.failed(self.source, "");
        few.err().unwrap_or(problem)
    }

    /// Notes a refusal.
    pub(super) fn note(&self, api: &Api, operation: &str, target: &str, reason: &str) {
        api.audit.note(self.attempt(operation, target, Decision::Deny, reason));
    }
}

/// Why a token lets nobody in.
pub(super) struct Refusal {
    /// Boxed: what is refused seldom must not make every answer large.
    pub problem: Box<Problem>,
    /// A code for the audit trail.
    pub reason: &'static str,
    /// Whose it was, when that is known.
    pub was: Option<(Actor, Id<Token>, Option<Id<Org>>)>,
}

/// Who sends this token.
pub(super) fn caller(api: &Api, sent: &TokenHash, guest: &Guest) -> Result<Caller, Refusal> {
    let who = |actor, principal, power| Who {
        actor,
        principal,
        power,
        user: None,
        token: None,
        narrowed: false,
        guest: guest.clone(),
        refused: Mutex::default(),
    };
    if *sent == api.token {
        let root = who(Actor::Token(ROOT.to_owned()), ROOT.to_owned(), Power::operator());
        return Ok(Caller::new(root));
    }
    let state = api.engine.state();
    let Some(issued) = state.issued.get(&sent.model()) else {
        let problem = Box::new(Problem::new(Code::Unauthorized, "the token is not valid here"));
        return Err(Refusal { problem, reason: "unknown_token", was: None });
    };
    let known = live(&state, issued, clock::now()).map_err(|(detail, reason)| {
        let org = match issued.owner {
            Owner::Org(org) => Some(org),
            Owner::User(_) => None,
        };
        let was = actor(&state, issued).map(|actor| (actor, issued.id, org));
        Refusal { problem: Box::new(Problem::new(Code::Unauthorized, detail)), reason, was }
    })?;
    let actor = actor(&state, issued).unwrap_or(Actor::Token(issued.id.to_string()));
    note_use(api, &state, issued.id);
    let (user, principal) = match issued.owner {
        Owner::User(user) => (Some(user), user.to_string()),
        Owner::Org(_) => (None, issued.id.to_string()),
    };
    let narrowed = user.is_some() && (known.scopes.is_some() || known.org.is_some());
    let power = power(&state, known);
    let who = Who { user, token: Some(issued.id), narrowed, ..who(actor, principal, power) };
    Ok(Caller::new(who))
}

/// Ends when the server closes, or when the caller may no longer what they could
/// when they asked: a stream must not outlive the right to it.
pub(super) fn ended(
    api: &Api,
    caller: &Caller,
) -> impl Future<Output = EndReason> + Send + 'static {
    let closed = api.closed();
    let (api, token, power) = (Arc::clone(api), caller.token, caller.power.clone());
    async move {
        let lost = async move {
            let Some(token) = token else { return std::future::pending().await };
            let mut position = api.engine.position();
            loop {
                position.mark_unchanged();
                let state = api.engine.state();
                let spec = state.tokens.get(token).map(|token| token.spec.clone());
                let now = clock::now();
                let still =
                    spec.filter(|it| it.expires_at > now && self::power(&state, it) == power);
                let Some(spec) = still else { return };
                drop(state);
                let left = u64::try_from(spec.expires_at.0 - now.0).unwrap_or(0);
                let sleep = Duration::from_millis(left).min(SLEEP_MAX);
                tokio::select! {
                    changed = position.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(sleep) => {}
                }
            }
        };
        tokio::select! {
            () = closed => EndReason::ServerClosing,
            () = lost => EndReason::AccessEnded,
        }
    }
}

/// The token, unless it lets nobody in any more: what to say, and a code.
fn live<'s>(
    state: &'s State,
    issued: &Issued,
    now: Timestamp,
) -> Result<&'s Token, (&'static str, &'static str)> {
    if issued.revoked {
        return Err(("the token was revoked", "revoked_token"));
    }
    if issued.expires_at <= now {
        return Err(("the token has expired", "expired_token"));
    }
    let token = state.tokens.get(issued.id);
    token.map(|token| &token.spec).ok_or(("the token is not valid here", "unknown_token"))
}

/// What a token may: of what its owner may, what it is for.
fn power(state: &State, token: &Token) -> Power {
    let scopes = token.scopes.unwrap_or(Permissions::ALL);
    let user = match token.owner {
        Owner::Org(org) => {
            return Power {
                everywhere: of_machines(scopes),
                orgs: BTreeMap::from([(org, scopes)]),
            };
        }
        Owner::User(user) => user,
    };
    let runs_all = state.users.get(user).is_some_and(|user| user.spec.operator);
    let memberships = state.memberships.get(&user);
    let mut orgs: BTreeMap<_, _> = memberships
        .into_iter()
        .flatten()
        .filter(|(org, _)| token.org.is_none_or(|only| only == **org))
        .map(|(org, role)| (*org, role.permissions().intersection(scopes)))
        .collect();
    let everywhere = match token.org {
        _ if !runs_all => Permissions::NONE,
        None => scopes,
        Some(only) => {
            orgs.insert(only, scopes);
            Permissions::NONE
        }
    };
    Power { everywhere, orgs }
}

/// What a service token may in the whole installation: link machines, if an
/// operator said so, and pull the images that run on them.
fn of_machines(scopes: Permissions) -> Permissions {
    if scopes.contains(Permission::NodesLink) {
        return Permissions::of(&[Permission::NodesLink, Permission::ReleasesRead]);
    }
    Permissions::NONE
}

/// As whom a token acts.
fn actor(state: &State, issued: &Issued) -> Option<Actor> {
    Some(match issued.owner {
        Owner::User(user) => Actor::User(state.users.get(user)?.name.to_string()),
        Owner::Org(org) => Actor::Token(format!("{}/{}", state.orgs.get(org)?.name, issued.name)),
    })
}

/// Notes that a token is in use, now and then and beside the request.
fn note_use(api: &Api, state: &State, id: Id<Token>) {
    let now = clock::now();
    let last = state.tokens.get(id).and_then(|token| token.status.last_used_at);
    if last.is_some_and(|last| now.0 - last.0 < USE_NOTED_EVERY_MS) || !api.uses.begins(id) {
        return;
    }
    let origin = Origin::system("tokens", entropy::request_id());
    let api = Arc::clone(api);
    tokio::spawn(async move {
        if let Err(problem) = api.engine.submit(Command::NoteTokenUse(id), origin).await {
            tracing::warn!(%problem, "the use of a token was not noted");
        }
        api.uses.ends(id);
    });
}

/// Tokens whose use is being noted right now, so that a burst notes it once.
#[derive(Default)]
pub(crate) struct Uses(Mutex<std::collections::HashSet<Id<Token>>>);

impl Uses {
    fn begins(&self, id: Id<Token>) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id)
    }

    fn ends(&self, id: Id<Token>) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&id);
    }
}
