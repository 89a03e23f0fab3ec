//! `/v1/tunnels`: having one, fresh tokens for one, and taking one out of use. Reading
//! tunnels is like any other kind.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::{
    ChangeTunnel, CreateTunnel, DestroyQuery, DisableTunnel, RefreshTunnel, ReserveTunnel,
    TunnelGrant,
};
use helix_model::destroy::Destroy;
use helix_model::org::FIRST_NAME;
use helix_model::reference::Scope;
use helix_model::tunnel::{
    self, ANONYMOUS_KEPT_FOR, Ask, KEPT_FOR, KEPT_FOR_MAX, KEPT_FOR_MIN, Owner, Protocol, Wish,
};
use helix_model::{
    AnyId, Code, Command, Id, Kind, Name, Org, Permission, Problem, Receipt, Resource,
    State as Model, Tunnel,
};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::access::Caller;
use super::identity::Guest;
use super::problem::{ApiProblem, Body, Path, Query};
use super::scale::request_hash;
use super::{Api, gate};
use crate::engine::Origin;
use crate::tunnels::{Asked, Claimed};

/// Longest region that is looked for: operators' own words are short.
const REGION_BYTES_MAX: usize = 64;

/// Gives the caller a tunnel, or again the one of theirs that has this name. Who is no
/// caller was let in as nobody in particular.
pub(super) async fn create(
    State(api): State<Api>,
    caller: Option<Extension<Caller>>,
    guest: Option<Extension<Guest>>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<CreateTunnel>,
) -> Result<(StatusCode, Json<TunnelGrant>), ApiProblem> {
    let caller = match (caller, guest) {
        (Some(Extension(caller)), _) => caller,
        (None, Some(Extension(guest))) => return anonymous(&api, &guest, &scope, &request).await,
        (None, None) => return Err(Problem::new(Code::Unauthorized, "no token was sent").into()),
    };
    let origin = caller.origin(&headers, || request_hash("tunnels", &(&scope, &request)))?;
    let state = api.engine.state();
    let org = org(&caller, &state, &scope)?;
    let region = checked_region(request.region_hint.as_deref())?;
    let (kept_for, note) = kept_for(request.recreate_token_ttl_seconds);
    let claimed = match &request.recreate_token {
        Some(token) => api.claimed(token, org)?,
        None => None,
    };
    let (owner, name) = wanted(&caller, &request, claimed.as_ref())?;
    let create = tunnel::Create {
        org,
        owner,
        may_take_over: caller.has(&state, org.any(), Permission::TunnelsAdmin),
        protocol: request.protocol,
        name,
        hostname: request.hostname.as_ref().map(|host| plain_host(host)),
        port: request.port,
        kept_for_seconds: kept_for.as_secs(),
    };
    drop(state);
    // Before anything is made that nobody could use.
    api.must_have_edge()?;
    let asked = Asked { kept_for, region, note };
    granted(&api, Ask::Create(create), origin, asked).await
}

/// Gives a tunnel to who has no login, or again the one whose recreate token they have.
async fn anonymous(
    api: &Api,
    guest: &Guest,
    scope: &Scope,
    request: &CreateTunnel,
) -> Result<(StatusCode, Json<TunnelGrant>), ApiProblem> {
    refuse_choice(scope, request)?;
    let region = checked_region(request.region_hint.as_deref())?;
    let org = api.engine.state().anonymous_tunnels.open();
    let claimed = match request.recreate_token.as_ref().zip(org) {
        Some((token, org)) => {
            api.limits.must_be_few_failures(guest.source, "")?;
            api.claimed(token, org).map_err(|problem| guest.failed(api, problem))?
        }
        None => None,
    };
    api.limits.must_be_few_anonymous_tunnels(guest.source)?;
    api.must_have_edge()?;
    let ask = Ask::CreateAnonymous { name: claimed.map(|it| it.name) };
    let origin = guest.origin(Owner::anonymous().actor);
    let minutes = ANONYMOUS_KEPT_FOR.as_secs() / 60;
    let note = format!(
        "without a login the name is random, and kept for {minutes} minutes after its agent has gone"
    );
    let asked = Asked { kept_for: ANONYMOUS_KEPT_FOR, region, note: Some(note) };
    granted(api, ask, origin, asked).await
}

/// Refuses what only who is known may choose.
fn refuse_choice(scope: &Scope, request: &CreateTunnel) -> Result<(), Problem> {
    let (field, what) = if scope.org.is_some() {
        ("org", "an org")
    } else if request.requested_name.is_some() {
        ("requested_name", "a name")
    } else if request.hostname.is_some() {
        ("hostname", "a host")
    } else if request.port.is_some() {
        ("port", "a port")
    } else if request.protocol != Protocol::Http {
        ("protocol", "another protocol than http")
    } else {
        return Ok(());
    };
    let detail = format!("{what} is not to be had for a tunnel without a login");
    Err(Problem::new(Code::AnonymousTunnel, detail).field(field, "only with a login"))
}

/// Has it made, and gives what an agent needs for it.
async fn granted(
    api: &Api,
    create: Ask,
    origin: Origin,
    asked: Asked,
) -> Result<(StatusCode, Json<TunnelGrant>), ApiProblem> {
    let receipt = api.engine.submit(ask(create), origin).await?;
    let id = receipt.subject.as_ref().and_then(|subject| subject.id.typed::<Tunnel>());
    let id = id.ok_or_else(|| Problem::new(Code::Internal, "the receipt names no tunnel"))?;
    let mut grant = api.grant(id, asked).await?;
    grant.receipt = Some(receipt);
    Ok((StatusCode::CREATED, Json(grant)))
}

/// As whom a tunnel is asked for, and by which name: who has its recreate token counts
/// as its owner.
fn wanted(
    caller: &Caller,
    request: &CreateTunnel,
    claimed: Option<&Claimed>,
) -> Result<(Owner, Option<Name>), Problem> {
    let Some(Claimed { owner, name }) = claimed else {
        return Ok((owner_of(caller), request.requested_name.clone()));
    };
    match &request.requested_name {
        Some(other) if other != name => {
            let detail = format!("the recreate token is that of `{name}`, not of `{other}`");
            Err(Problem::new(Code::InvalidArgument, detail)
                .hint("leave one of the two out")
                .field("requested_name", "another's"))
        }
        _ => Ok((owner.clone(), Some(name.clone()))),
    }
}

/// Fresh tokens for who has the recreate token of a tunnel, and for nobody else.
pub(super) async fn refresh(
    State(api): State<Api>,
    Extension(guest): Extension<Guest>,
    Body(request): Body<RefreshTunnel>,
) -> Result<Json<TunnelGrant>, ApiProblem> {
    let region = checked_region(request.region_hint.as_deref())?;
    api.limits.must_be_few_failures(guest.source, "")?;
    let claims = match api.recreate_claims(&request.recreate_token) {
        Ok(claims) => claims,
        Err(problem) => {
            guest.note(&api, "refresh_tunnel", "", "bad_token");
            return Err(guest.failed(&api, problem).into());
        }
    };
    api.limits.must_be_few_refreshes(claims.tunnel)?;
    let known = api.engine.state().tunnels.get(claims.tunnel).cloned();
    let id = claims.tunnel.to_string();
    let known = known.ok_or_else(|| Problem::not_found(Kind::Tunnel, &id))?;
    if known.spec.generation != claims.generation || known.spec.org != claims.org {
        guest.note(&api, "refresh_tunnel", &id, "old_token");
        return Err(guest.failed(&api, crate::tunnels::refused("is not good any more")).into());
    }
    api.must_have_edge()?;
    let kept_for = claims.life.clamp(KEPT_FOR_MIN, KEPT_FOR_MAX);
    let change = Wish::Keep { kept_for_seconds: kept_for.as_secs() };
    let keep = tunnel::Set { tunnel: known.id, change };
    let origin = guest.origin(known.spec.owner.actor);
    api.engine.submit(ask(Ask::Set(keep)), origin).await?;
    Ok(Json(api.grant(known.id, Asked { kept_for, region, note: None }).await?))
}

/// Keeps a name for good, or no longer.
pub(super) async fn reserve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<ReserveTunnel>,
) -> Result<Json<Receipt>, ApiProblem> {
    let (at, version) = ((reference.as_str(), &scope), request.expected_version);
    let change = Wish::Reserve { reserved: request.reserved };
    own_change(&api, &caller, &headers, at, (&request, version), change).await
}

/// Has every token that was given out before let nobody in any more.
pub(super) async fn rotate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<ChangeTunnel>,
) -> Result<Json<Receipt>, ApiProblem> {
    let (at, version) = ((reference.as_str(), &scope), request.expected_version);
    own_change(&api, &caller, &headers, at, (&request, version), Wish::Rotate).await
}

/// Takes a tunnel out of use.
pub(super) async fn disable(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<DisableTunnel>,
) -> Result<Json<Receipt>, ApiProblem> {
    let (at, version) = ((reference.as_str(), &scope), request.expected_version);
    let (reason, by_operator) = (request.reason.clone(), caller.runs_installation());
    let change = Wish::Disable { reason, by_operator };
    let (origin, tunnel) = caller.change_of(&api, &headers, at, &("disable", &request), version)?;
    set(&api, origin, tunnel, change).await
}

/// Takes it into use again.
pub(super) async fn enable(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<ChangeTunnel>,
) -> Result<Json<Receipt>, ApiProblem> {
    let (at, version) = ((reference.as_str(), &scope), request.expected_version);
    let change = Wish::Enable { by_operator: caller.runs_installation() };
    let (origin, tunnel) = caller.change_of(&api, &headers, at, &("enable", &request), version)?;
    set(&api, origin, tunnel, change).await
}

/// Destroys a tunnel, unless that would be a way around its being out of use.
pub(super) async fn destroy(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    Query(query): Query<DestroyQuery>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let asked = (Kind::Tunnel.plural(), &scope, &query);
    let origin = caller.origin(&headers, || request_hash(&reference, &asked))?;
    let state = api.engine.state();
    let target = caller.resolve(&state, Kind::Tunnel, &reference, &scope)?;
    if let Some(known) = target.typed().and_then(|id| state.tunnels.get(id)) {
        must_own(&caller, &state, known)?;
        if known.spec.locked {
            caller.must_run_installation(Permission::TunnelsAdmin)?;
        } else if known.spec.disabled.is_some() {
            caller.must_have_in(known.spec.org, Permission::TunnelsAdmin)?;
        }
    }
    drop(state);
    let origin = gate::expecting(origin, target, query.expected_version);
    let command = Command::Destroy(Destroy { target, cascade: query.cascade });
    Ok(Json(api.engine.submit(command, origin).await?))
}

/// A change that is its owner's to make, and its org's admins'.
async fn own_change(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    at: (&str, &Scope),
    (request, expected_version): (&impl Serialize, Option<u64>),
    change: Wish,
) -> Result<Json<Receipt>, ApiProblem> {
    let asked = (&change, request);
    let (origin, id) = caller.change_of::<Tunnel>(api, headers, at, &asked, expected_version)?;
    let state = api.engine.state();
    if let Some(known) = state.tunnels.get(id) {
        must_own(caller, &state, known)?;
    }
    drop(state);
    set(api, origin, id, change).await
}

async fn set(
    api: &Api,
    origin: Origin,
    tunnel: Id<Tunnel>,
    change: Wish,
) -> Result<Json<Receipt>, ApiProblem> {
    let command = ask(Ask::Set(tunnel::Set { tunnel, change }));
    Ok(Json(api.engine.submit(command, origin).await?))
}

/// Refuses who is neither the owner nor an admin, as long as there is an owner.
fn must_own(caller: &Caller, state: &Model, known: &Resource<Tunnel>) -> Result<(), Problem> {
    let Tunnel { owner, org, .. } = &known.spec;
    if *owner == owner_of(caller) || !owner.is_there(state, *org) {
        return Ok(());
    }
    caller.must_have_in(*org, Permission::TunnelsAdmin)
}

/// Whose it is what the caller makes: the user's, whichever of their tokens they send.
fn owner_of(caller: &Caller) -> Owner {
    let id: Option<AnyId> = caller.user.map(Id::any).or(caller.token.map(Id::any));
    Owner { actor: caller.actor.clone(), id }
}

/// The org that is meant: the one that is named, or the only one the token is for, or
/// the one that is there from the start. That of tunnels without a login is nobody's.
fn org(caller: &Caller, state: &Model, scope: &Scope) -> Result<Id<Org>, Problem> {
    if scope.org.is_some() {
        return caller.named_org(state, scope);
    }
    if let Some(only) = caller.power.only_org() {
        caller.must_reach(state, only.any(), "")?;
        return Ok(only);
    }
    let first = FIRST_NAME.parse::<Name>().ok().filter(|_| others(state) == 0);
    match first {
        Some(first) => caller.org(state, &first),
        None => caller.named_org(state, scope),
    }
}

/// How many orgs there are besides the first.
fn others(state: &Model) -> usize {
    let of_nobody = state.anonymous_tunnels.org.filter(|org| state.orgs.get(*org).is_some());
    state.orgs.len().saturating_sub(1 + usize::from(of_nobody.is_some()))
}

fn ask(ask: Ask) -> Command {
    Command::ChangeTunnel(Box::new(ask))
}

fn plain_host(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn checked_region(region: Option<&str>) -> Result<Option<String>, Problem> {
    match region {
        Some(long) if long.len() > REGION_BYTES_MAX => {
            let detail = format!("a region has at most {REGION_BYTES_MAX} bytes");
            Err(Problem::new(Code::InvalidArgument, detail).field("region_hint", "too long"))
        }
        region => Ok(region.map(str::to_owned)),
    }
}

/// How long the name is to be kept, and what to say when that is not as asked.
fn kept_for(asked_seconds: Option<u64>) -> (Duration, Option<String>) {
    let Some(asked) = asked_seconds.map(Duration::from_secs) else { return (KEPT_FOR, None) };
    let kept = asked.clamp(KEPT_FOR_MIN, KEPT_FOR_MAX);
    let note = (kept != asked).then(|| {
        let (asked, kept) = (asked.as_secs(), kept.as_secs());
        format!("recreate_token_ttl_seconds is {kept} instead of {asked}")
    });
    (kept, note)
}
