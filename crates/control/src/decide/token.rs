//! Deciding on tokens: who may have how many, for how long, and when they end.

use helix_model::token::{LIFE_DAYS_MAX, Owner, USE_NOTED_EVERY_MS, Which};
use helix_model::{
    AnyId, Code, Event, Id, Kind, Permission, Permissions, Problem, Timestamp, Token, token,
};

use super::Draft;

/// More are not kept apart by their names any more.
const TOKENS_PER_OWNER_MAX: usize = 100;

/// How long an expired token is still listed, so that one sees why it stopped.
const EXPIRED_SHOWN_MS: i64 = 30 * DAY_MS;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What clocks of replicas may differ by.
const CLOCK_SLACK_MS: i64 = 60 * 1000;

/// Forgotten at once at most, so that no command grows without bound.
const FORGOTTEN_MAX: usize = 50;

/// What no service token may: operators are people, or hold the root token.
const NOT_FOR_SERVICES: Permissions = Permissions::of(&[Permission::NodesAdmin]);

/// Makes a token; its name is unique with its owner.
pub(super) fn create(
    draft: &mut Draft<'_, '_>,
    command: &token::Create,
) -> Result<Option<AnyId>, Problem> {
    forget(draft, command.spec.owner);
    must_be_possible(draft, command)?;
    let owner = command.spec.owner.any();
    if draft.state.tokens.named(Some(owner), &command.name).is_some() {
        let detail = format!("there is already a token `{}`", command.name);
        return Err(Problem::new(Code::NameTaken, detail)
            .hint("choose another name, or revoke that one: `helix tokens revoke`"));
    }
    if draft.state.tokens.children(owner).count() >= TOKENS_PER_OWNER_MAX {
        let detail =
            format!("there are {TOKENS_PER_OWNER_MAX} tokens already, the most there may be");
        return Err(Problem::new(Code::PreconditionFailed, detail)
            .hint("revoke what is no longer used: `helix tokens list` shows when each was"));
    }
    let id = draft.fresh_id();
    let (name, spec, hash) = (command.name.clone(), command.spec.clone(), command.hash);
    draft.emit(Event::TokenCreated(token::Created { id, name, spec, hash }));
    Ok(Some(id.any()))
}

fn must_be_possible(draft: &Draft<'_, '_>, command: &token::Create) -> Result<(), Problem> {
    let state = &draft.state;
    let spec = &command.spec;
    let now = draft.context.now.0;
    let latest = now + i64::from(LIFE_DAYS_MAX) * DAY_MS + CLOCK_SLACK_MS;
    if spec.expires_at.0 <= now || spec.expires_at.0 > latest {
        let detail = format!("a token lives for 1 to {LIFE_DAYS_MAX} days");
        return Err(
            Problem::new(Code::InvalidArgument, detail).field("expires_in_days", "out of range")
        );
    }
    if spec.scopes.is_some_and(Permissions::is_empty) {
        let detail = "a token without any scope would be of no use";
        return Err(Problem::new(Code::InvalidArgument, detail).field("scopes", "empty"));
    }
    match spec.owner {
        Owner::User(user) if state.users.get(user).is_none() => {
            Err(Problem::not_found(Kind::User, &user.to_string()))
        }
        Owner::Org(org) if state.orgs.get(org).is_none() => {
            Err(Problem::not_found(Kind::Org, &org.to_string()))
        }
        Owner::Org(_)
            if !spec.scopes.is_some_and(|it| it.intersection(NOT_FOR_SERVICES).is_empty()) =>
        {
            let detail = "a service token needs scopes, and none that runs the installation";
            Err(Problem::new(Code::InvalidArgument, detail)
                .field("scopes", "name what it is for, such as deploys:write"))
        }
        _ if state.issued.contains_key(&command.hash) => {
            Err(Problem::new(Code::Conflict, "this token is known already"))
        }
        _ => Ok(()),
    }
}

/// Ends a token.
pub(super) fn revoke(draft: &mut Draft<'_, '_>, id: Id<Token>) -> Result<Option<AnyId>, Problem> {
    let of = which(draft, id).ok_or_else(|| Problem::not_found(Kind::Token, &id.to_string()))?;
    draft.emit(Event::TokenRevoked(token::Revoked { of }));
    Ok(Some(id.any()))
}

/// Ends every token of an owner that is about to go.
pub(super) fn revoke_all(draft: &mut Draft<'_, '_>, owner: Owner) {
    let all: Vec<_> = draft.state.tokens.children(owner.any()).map(|token| token.id).collect();
    for of in all.into_iter().filter_map(|id| which(draft, id)).collect::<Vec<_>>() {
        draft.emit(Event::TokenRevoked(token::Revoked { of }));
    }
}

/// A token was used. Other replicas may have noted it already.
pub(super) fn note_use(draft: &mut Draft<'_, '_>, id: Id<Token>) -> Option<AnyId> {
    let token = draft.state.tokens.get(id)?;
    let last = token.status.last_used_at.unwrap_or(Timestamp(0));
    if draft.context.now.0 - last.0 >= USE_NOTED_EVERY_MS {
        let of = which(draft, id)?;
        draft.emit(Event::TokenUsed(token::Used { of }));
    }
    Some(id.any())
}

fn which(draft: &Draft<'_, '_>, id: Id<Token>) -> Option<Which> {
    let (hash, issued) = draft.state.issued.iter().find(|(_, it)| it.id == id && !it.revoked)?;
    Some(Which { id, owner: issued.owner, name: issued.name.clone(), hash: *hash })
}

/// Forgets what has ended long ago, when its owner makes the next.
fn forget(draft: &mut Draft<'_, '_>, owner: Owner) {
    let now = draft.context.now.0;
    let ended = draft.state.issued.iter().filter(|(_, it)| {
        let shown = if it.revoked { 0 } else { EXPIRED_SHOWN_MS };
        it.owner == owner && it.expires_at.0 + shown < now
    });
    let ended: Vec<_> = ended
        .take(FORGOTTEN_MAX)
        .map(|(hash, it)| Which { id: it.id, owner, name: it.name.clone(), hash: *hash })
        .collect();
    for of in ended {
        draft.emit(Event::TokenForgotten(token::Forgotten { of }));
    }
}
