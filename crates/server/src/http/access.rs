//! Tenants told apart: the one place that says whether a caller may know of a
//! resource and do something to it.
//!
//! Start from [`Caller`], which every handler gets as a request extension. A
//! resource of an org the caller is not in does not exist for them; one in an
//! org they are in, whose permission they lack, is forbidden by name. How the
//! caller proved who they are is [`super::gate`]'s business.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use helix_image::registry::Verdict;
use helix_model::audit::{Attempt, Decision};
use helix_model::event::Subject;
use helix_model::reference::{self, Scope};
use helix_model::{
    Actor, AnyId, Code, Id, Kind, Member, Name, Noun, Org, Permission, Permissions, Problem, State,
    Token, User, view,
};
use http::HeaderMap;
use serde::Serialize;

use super::identity::Guest;
use super::scale::request_hash;
use super::{Api, gate};
use crate::engine::{Idempotency, Origin};

/// What is kept of what a caller named and was refused.
const TARGET_CHARS_MAX: usize = 128;

/// Bounds on an idempotency key, so that it is neither guessable nor a payload.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 8..=128;

/// Who asks, and what for. Cheap to clone: every handler gets one of its own.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    who: Arc<Who>,
    /// What the route asks for; `None` where it follows from the kind.
    pub need: Option<Permission>,
}

impl Deref for Caller {
    type Target = Who;

    fn deref(&self) -> &Who {
        &self.who
    }
}

/// Who asks, and what they may.
#[derive(Debug)]
pub(super) struct Who {
    /// As events and receipts name them.
    pub actor: Actor,
    /// What keeps the idempotency keys of two callers apart.
    pub principal: String,
    pub power: Power,
    /// Whose the token is, when it is a person's.
    pub user: Option<Id<User>>,
    /// The token; `None` for the installation's own.
    pub token: Option<Id<Token>>,
    /// Whether the token may less than its owner.
    pub narrowed: bool,
    pub guest: Guest,
    /// What the caller was refused last, for the audit trail.
    pub refused: Mutex<Option<Refused>>,
}

/// What a caller was refused.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub org: Option<Id<Org>>,
    pub target: String,
}

/// What a caller may, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Power {
    /// In every org, and for what belongs to none.
    pub everywhere: Permissions,
    pub orgs: BTreeMap<Id<Org>, Permissions>,
}

impl Power {
    /// Of who runs the installation.
    pub(super) fn operator() -> Power {
        Power { everywhere: Permissions::ALL, orgs: BTreeMap::new() }
    }

    /// The one org it is bounded to, if it is.
    pub(super) fn only_org(&self) -> Option<Id<Org>> {
        let mut orgs = self.orgs.keys();
        let first = orgs.next().copied();
        first.filter(|_| self.everywhere.is_empty() && orgs.next().is_none())
    }

    fn within(&self, org: Option<Id<Org>>) -> Permissions {
        let here = org.and_then(|org| self.orgs.get(&org)).copied().unwrap_or_default();
        self.everywhere.union(here)
    }

    /// In at least one place.
    fn anywhere(&self) -> Permissions {
        self.orgs.values().fold(self.everywhere, |all, here| all.union(*here))
    }

    /// Whether it reaches into an org at all; what is no org's is the
    /// installation's.
    fn reaches(&self, org: Option<Id<Org>>) -> bool {
        !self.everywhere.is_empty() || org.is_some_and(|org| self.orgs.contains_key(&org))
    }
}

impl Caller {
    /// Somebody, who has not asked for anything yet.
    pub(super) fn new(who: Who) -> Caller {
        Caller { who: Arc::new(who), need: None }
    }

    /// The same, with what the route asks for.
    pub(super) fn asking(self, need: Option<Permission>) -> Caller {
        Caller { need, ..self }
    }

    /// Refuses who has the permission nowhere.
    pub(super) fn must_have(&self, permission: Permission) -> Result<(), Problem> {
        if self.power.anywhere().contains(permission) {
            return Ok(());
        }
        Err(forbidden(permission))
    }

    /// Refuses who does not have it for the whole installation.
    pub(super) fn must_run_installation(&self, permission: Permission) -> Result<(), Problem> {
        if self.power.everywhere.contains(permission) {
            return Ok(());
        }
        Err(forbidden(permission))
    }

    /// Whether the permission the route is for holds in the whole installation.
    pub(super) fn runs_installation(&self) -> bool {
        self.need.is_some_and(|need| self.power.everywhere.contains(need))
    }

    /// Refuses who may read no kind of thing.
    pub(super) fn must_read_something(&self) -> Result<(), Problem> {
        let mut kinds = Kind::ALL.into_iter();
        if kinds.any(|kind| self.power.anywhere().contains(Permission::to_read(kind))) {
            return Ok(());
        }
        Err(forbidden(Permission::AppsRead))
    }

    /// The id of what a reference names, if the caller may do with it what the
    /// route is for.
    pub(super) fn resolve(
        &self,
        state: &State,
        kind: Kind,
        text: &str,
        scope: &Scope,
    ) -> Result<AnyId, Problem> {
        let id = match self.own_token(state, kind, text) {
            Some(own) => own,
            None => reference::resolve(state, kind, text, scope)?,
        };
        self.must_reach(state, id, text)?;
        Ok(id)
    }

    /// A token of the caller by its plain name.
    fn own_token(&self, state: &State, kind: Kind, text: &str) -> Option<AnyId> {
        let user = self.user.filter(|_| kind == Kind::Token)?;
        let name = text.parse::<Name>().ok()?;
        state.tokens.named(Some(user.any()), &name).map(|token| token.id.any())
    }

    /// Refuses what the caller may not know of or not do this to.
    pub(super) fn must_reach(&self, state: &State, id: AnyId, text: &str) -> Result<(), Problem> {
        if self.need.is_none() && self.owns(state, id) {
            return Ok(());
        }
        let org = org_of(state, id);
        let permission = self.need.unwrap_or(Permission::to_read(id.kind()));
        if !self.power.reaches(org) {
            self.remember(org, text);
            return Err(Problem::not_found(id.kind(), text));
        }
        if self.power.within(org).contains(permission) {
            return Ok(());
        }
        self.remember(org, text);
        Err(forbidden(permission))
    }

    /// Whether it is the caller themselves, a token or a membership of theirs:
    /// everyone sees those.
    fn owns(&self, state: &State, id: AnyId) -> bool {
        let user = self.user.map(Id::any);
        match id.kind() {
            Kind::User => user == Some(id),
            Kind::Token => {
                let token = id.typed::<Token>().and_then(|id| state.tokens.get(id));
                self.token.map(Id::any) == Some(id)
                    || token.is_some_and(|it| it.parent.is_some() && it.parent == user)
            }
            Kind::Member => {
                let member = id.typed::<Member>().and_then(|id| state.members.get(id));
                self.user.is_some() && member.map(|it| it.spec.user) == self.user
            }
            _ => false,
        }
    }

    fn remember(&self, org: Option<Id<Org>>, target: &str) {
        let refused = Refused { org, target: target.chars().take(TARGET_CHARS_MAX).collect() };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }

    /// The org of this name, if the caller may do there what the route is for.
    pub(super) fn org(&self, state: &State, name: &Name) -> Result<Id<Org>, Problem> {
        let org = state.orgs.named(None, name);
        let org = org.ok_or_else(|| Problem::not_found(Kind::Org, name.as_str()))?.id;
        self.must_reach(state, org.any(), name.as_str())?;
        Ok(org)
    }

    /// The same for another permission than the route's.
    pub(super) fn org_for(
        &self,
        state: &State,
        name: &Name,
        permission: Permission,
    ) -> Result<Id<Org>, Problem> {
        self.clone().asking(Some(permission)).org(state, name)
    }

    /// The org a scope names, if the caller may do there what the route is for.
    pub(super) fn named_org(&self, state: &State, scope: &Scope) -> Result<Id<Org>, Problem> {
        let Some(org) = &scope.org else {
            return Err(Problem::new(Code::InvalidArgument, "it is not said which org it is for")
                .hint("set `org` in the query")
                .field("org", "missing"));
        };
        let found = self.resolve(state, Kind::Org, org, scope)?;
        found.typed().ok_or_else(|| Problem::not_found(Kind::Org, org))
    }

    /// The org of this name, if the caller may know of it.
    pub(super) fn known_org(&self, state: &State, name: &Name) -> Result<Id<Org>, Problem> {
        let org = state.orgs.named(None, name).map(|org| org.id);
        let known = org.filter(|org| self.power.reaches(Some(*org)));
        known.ok_or_else(|| Problem::not_found(Kind::Org, name.as_str()))
    }

    /// Refuses who does not have the permission in this org.
    pub(super) fn must_have_in(&self, org: Id<Org>, permission: Permission) -> Result<(), Problem> {
        if self.power.within(Some(org)).contains(permission) {
            return Ok(());
        }
        self.remember(Some(org), "");
        Err(forbidden(permission))
    }

    /// Refuses to hand out what the caller does not have.
    pub(super) fn must_hold_in(&self, org: Id<Org>, wanted: Permissions) -> Result<(), Problem> {
        wanted.iter().try_for_each(|permission| self.must_have_in(org, permission))
    }

    /// Refuses a token that may less than its owner: it must not make up for it.
    pub(super) fn must_not_be_narrowed(&self) -> Result<(), Problem> {
        if !self.narrowed {
            return Ok(());
        }
        let detail = "a token that may less than its user may not manage the user's tokens";
        Err(Problem::new(Code::Forbidden, detail).hint("log in with `helix auth login`"))
    }

    /// Whether the caller may read the audit trail of an org; of none is the
    /// installation's.
    pub(super) fn reads_audit_of(&self, org: Option<Id<Org>>) -> bool {
        self.power.within(org).contains(Permission::AuditRead)
    }

    /// Records that the caller is allowed something sensitive. When it cannot be
    /// recorded, it must not happen.
    pub(super) async fn recorded(
        &self,
        api: &Api,
        operation: &str,
        id: AnyId,
    ) -> Result<(), Problem> {
        self.recorded_with(api, operation, id, ("allowed", String::new())).await
    }

    /// The same with a reason and what it was in particular.
    pub(super) async fn recorded_with(
        &self,
        api: &Api,
        operation: &str,
        id: AnyId,
        (reason, detail): (&str, String),
    ) -> Result<(), Problem> {
        let state = api.engine.state();
        let (org, target) = (org_of(&state, id), reference::path(&state, id));
        drop(state);
        let attempt = self.attempt(operation, Decision::Allow, reason);
        api.audit.record(Attempt { org, target, detail, ..attempt }).await
    }

    /// What the caller asked for, for the audit trail.
    pub(super) fn attempt(&self, operation: &str, decision: Decision, reason: &str) -> Attempt {
        let attempt = self.guest.attempt(operation, "", decision, reason);
        Attempt { actor: Some(self.actor.clone()), token: self.token, ..attempt }
    }

    /// What a scope narrows a list to, if the caller may know of it.
    pub(super) fn narrow(&self, state: &State, scope: &Scope) -> Result<Option<AnyId>, Problem> {
        let Some(id) = view::narrow(state, scope)? else { return Ok(None) };
        if self.power.reaches(org_of(state, id)) {
            return Ok(Some(id));
        }
        let given = [&scope.env, &scope.app, &scope.project, &scope.org];
        let given = given.into_iter().flatten().next();
        Err(Problem::not_found(id.kind(), given.map_or("", String::as_str)))
    }

    /// Refuses who may read things of this kind nowhere.
    pub(super) fn must_read(&self, kind: Kind) -> Result<(), Problem> {
        if matches!(kind, Kind::User | Kind::Token | Kind::Member) {
            return Ok(());
        }
        self.must_have(Permission::to_read(kind))
    }

    /// Whether the caller has a permission in the org of a resource.
    pub(super) fn has(&self, state: &State, id: AnyId, permission: Permission) -> bool {
        self.power.within(org_of(state, id)).contains(permission)
    }

    /// Whether the caller may see a resource.
    pub(super) fn sees(&self, state: &State, id: AnyId) -> bool {
        self.owns(state, id)
            || self.power.within(org_of(state, id)).contains(Permission::to_read(id.kind()))
    }

    /// Whether the caller may see an event about this; `None` stands for the
    /// installation itself.
    pub(super) fn sees_event(&self, state: &State, subject: Option<&Subject<'_>>) -> bool {
        let Some(subject) = subject else {
            return self.power.everywhere.contains(Permission::NodesAdmin);
        };
        let org = org_of_subject(state, subject);
        let place = subject.place.map(|(parent, _)| parent);
        let own = place.is_some() && place == self.user.map(Id::any);
        own || self.owns(state, subject.id)
            || self.power.within(org).contains(Permission::to_read(subject.id.kind()))
    }

    /// Whether the caller may do this to the repositories of an org.
    pub(super) fn repository_verdict(&self, state: &State, org: &str, need: Permission) -> Verdict {
        let org = org.parse::<Name>().ok();
        let org = org.and_then(|name| state.orgs.named(None, &name)).map(|org| org.id);
        if !self.power.reaches(org) {
            return Verdict::Hidden;
        }
        let allowed = self.power.within(org).contains(need);
        if allowed { Verdict::Allowed } else { Verdict::Denied }
    }

    /// A key as it is kept: nobody meets another's.
    pub(super) fn idempotency_key(&self, key: &str) -> String {
        format!("{}:{key}", self.principal)
    }

    /// A change of one resource: who asks for it, with what must not have changed
    /// since, and which one it is.
    pub(super) fn change_of<N: Noun>(
        &self,
        api: &Api,
        headers: &HeaderMap,
        (reference, scope): (&str, &Scope),
        request: &impl Serialize,
        expected_version: Option<u64>,
    ) -> Result<(Origin, Id<N>), Problem> {
        let origin = self.origin(headers, || request_hash(reference, request))?;
        let found = self.resolve(&api.engine.state(), N::KIND, reference, scope)?;
        let id = found.typed().ok_or_else(|| Problem::not_found(N::KIND, reference))?;
        Ok((gate::expecting(origin, found, expected_version), id))
    }

    /// Who asks, for the engine. `request_hash` covers all that the request says,
    /// and is only asked for under a key.
    pub(super) fn origin(
        &self,
        headers: &HeaderMap,
        request_hash: impl FnOnce() -> [u8; 32],
    ) -> Result<Origin, Problem> {
        let idempotency = match headers.get("idempotency-key") {
            None => None,
            Some(key) => {
                let key = key.to_str().unwrap_or_default();
                if !KEY_LENGTH.contains(&key.len()) {
                    let detail = "an idempotency key has 8 to 128 characters";
                    return Err(Problem::new(Code::InvalidArgument, detail)
                        .field("Idempotency-Key", "wrong length"));
                }
                Some(Idempotency { key: self.idempotency_key(key), request_hash: request_hash() })
            }
        };
        Ok(Origin {
            actor: self.actor.clone(),
            request_id: self.guest.request_id.to_string(),
            source: self.guest.source,
            idempotency,
            precondition: None,
        })
    }
}

/// The org of what an event is about; what is gone is found by where it was.
pub(super) fn org_of_subject(state: &State, subject: &Subject<'_>) -> Option<Id<Org>> {
    let parent = || subject.place.and_then(|(parent, _)| org_of(state, parent));
    org_of(state, subject.id).or_else(parent)
}

/// The org a resource belongs to; `None` for the installation's own.
pub(super) fn org_of(state: &State, id: AnyId) -> Option<Id<Org>> {
    let mut id = id;
    while id.kind() != Kind::Org {
        id = view::name_and_parent(state, id)?.1?;
    }
    id.typed()
}

fn forbidden(permission: Permission) -> Problem {
    let detail = format!("this needs the scope `{permission}`: {}", permission.meaning());
    Problem::new(Code::Forbidden, detail).field("scope", permission.as_str())
}
