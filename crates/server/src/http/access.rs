//! Tenants told apart: the one place that says whether a caller may know of a
//! resource and do something to it.
//!
//! Start from [`Caller`], which every handler gets as a request extension. A
//! resource of an org the caller is not in does not exist for them; one in an
//! org they are in, whose permission they lack, is forbidden by name. How the
//! caller proved who they are is [`super::gate`]'s business.

use std::collections::BTreeMap;
use std::net::IpAddr;

use helix_image::registry::Verdict;
use helix_model::event::Subject;
use helix_model::reference::{self, Scope};
use helix_model::{
    Actor, AnyId, Code, Id, Kind, Name, Org, Permission, Permissions, Problem, State, view,
};
use http::HeaderMap;

use crate::engine::{Idempotency, Origin};

/// Bounds on an idempotency key, so that it is neither guessable nor a payload.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 8..=128;

/// Who asks, and what they may.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// As events and receipts name them.
    pub actor: Actor,
    /// What keeps the idempotency keys of two callers apart.
    pub principal: String,
    pub power: Power,
    pub request_id: String,
    pub source: Option<IpAddr>,
    /// What the route asks for; `None` where it follows from the kind.
    pub need: Option<Permission>,
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
        let id = reference::resolve(state, kind, text, scope)?;
        self.must_reach(state, id, text)?;
        Ok(id)
    }

    /// Refuses what the caller may not know of or not do this to.
    pub(super) fn must_reach(&self, state: &State, id: AnyId, text: &str) -> Result<(), Problem> {
        let org = org_of(state, id);
        if !self.power.reaches(org) {
            return Err(Problem::not_found(id.kind(), text));
        }
        let permission = self.need.unwrap_or(Permission::to_read(id.kind()));
        if self.power.within(org).contains(permission) {
            return Ok(());
        }
        Err(forbidden(permission))
    }

    /// The org of this name, if the caller may do there what the route is for.
    pub(super) fn org(&self, state: &State, name: &Name) -> Result<Id<Org>, Problem> {
        let org = state.orgs.named(None, name);
        let org = org.ok_or_else(|| Problem::not_found(Kind::Org, name.as_str()))?.id;
        self.must_reach(state, org.any(), name.as_str())?;
        Ok(org)
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
        self.must_have(Permission::to_read(kind))
    }

    /// Whether the caller has a permission in the org of a resource.
    pub(super) fn has(&self, state: &State, id: AnyId, permission: Permission) -> bool {
        self.power.within(org_of(state, id)).contains(permission)
    }

    /// Whether the caller may see a resource.
    pub(super) fn sees(&self, state: &State, id: AnyId) -> bool {
        self.power.within(org_of(state, id)).contains(Permission::to_read(id.kind()))
    }

    /// Whether the caller may see an event about this; `None` stands for the
    /// installation itself.
    pub(super) fn sees_event(&self, state: &State, subject: Option<&Subject<'_>>) -> bool {
        let Some(subject) = subject else {
            return self.power.everywhere.contains(Permission::NodesAdmin);
        };
        // What is gone is found by where it was.
        let parent = subject.place.and_then(|(parent, _)| org_of(state, parent));
        let org = org_of(state, subject.id).or(parent);
        self.power.within(org).contains(Permission::to_read(subject.id.kind()))
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

    /// Who asks, for the engine. `request_hash` covers all that the request says.
    pub(super) fn origin(
        &self,
        headers: &HeaderMap,
        request_hash: [u8; 32],
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
                Some(Idempotency { key: self.idempotency_key(key), request_hash })
            }
        };
        Ok(Origin {
            actor: self.actor.clone(),
            request_id: self.request_id.clone(),
            source: self.source,
            idempotency,
            precondition: None,
        })
    }
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
