//! `/v1/envs/{env}/secrets`: changing them, and seeing what there is. No answer has
//! a value in it, and no refusal repeats what was sent.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};
use helix_model::api::{
    SecretsReport, SecretsRequest, SecretsRollbackRequest, SecretsStepRequest, SecretsVersion,
};
use helix_model::bundle::{self, Pin, Set, Step, Version, VersionId};
use helix_model::reference::Scope;
use helix_model::secret_file::{self, Key, Secrets, Value};
use helix_model::{
    Bundle, Code, Command, Env, Id, Kind, Problem, Receipt, Resource, State as World, reference,
    view,
};
use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Path, Query};
use crate::engine::Origin;
use crate::secrets::{self, Place};

/// The body as it came. Read here and not by the framework, whose refusals repeat
/// what was sent.
type Sent = Result<Bytes, BytesRejection>;

/// How often a change is made anew because another came between.
const ATTEMPTS_MAX: usize = 8;

/// Which keys and versions there are.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
) -> Result<Json<SecretsReport>, ApiProblem> {
    let state = api.engine.state();
    let env = named(&state, &caller, &reference, &scope)?;
    Ok(Json(report(&state, env)))
}

/// Sets and takes out, all of it or nothing.
pub(super) async fn change(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    body: Sent,
) -> Result<Json<Receipt>, ApiProblem> {
    let body = body.map_err(ApiProblem::from)?;
    let asked = Asked::new(&api, &caller, &headers, (&reference, &scope), "set", &body).await?;
    let request: SecretsRequest = asked.body(&body)?;
    if let Some(receipt) = asked.remembered(&api).await? {
        return Ok(Json(receipt));
    }
    let wanted = Wanted::new(&request)?;
    let SecretsRequest { stage, expected_version, .. } = request;
    let values = Values::Changed { wanted, replace: request.replace };
    Ok(Json(asked.repeatedly(&api, expected_version, stage, &values).await?))
}

/// Makes the values of an older version a new one.
pub(super) async fn rollback(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    body: Sent,
) -> Result<Json<Receipt>, ApiProblem> {
    let body = body.map_err(ApiProblem::from)?;
    let asked =
        Asked::new(&api, &caller, &headers, (&reference, &scope), "rollback", &body).await?;
    let request: SecretsRollbackRequest = asked.body(&body)?;
    if let Some(receipt) = asked.remembered(&api).await? {
        return Ok(Json(receipt));
    }
    let state = api.engine.state();
    let known = bundle::of(&state, asked.env.id);
    let target = match request.to {
        Some(number) => known.and_then(|known| known.version_of(number)),
        None => known.and_then(before),
    };
    let target = target.cloned().ok_or_else(|| {
        let detail = match request.to {
            Some(number) => format!("there is no version {number} of the secrets"),
            None => "there is no earlier version of the secrets".to_owned(),
        };
        Problem::new(Code::NotFound, detail).hint("`helix secrets status` shows which are kept")
    })?;
    let values = Values::Of(target.pin);
    Ok(Json(asked.repeatedly(&api, request.expected_version, false, &values).await?))
}

/// Lets what is staged take effect.
pub(super) async fn apply(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    body: Sent,
) -> Result<Json<Receipt>, ApiProblem> {
    let body = body.map_err(ApiProblem::from)?;
    let asked = Asked::new(&api, &caller, &headers, (&reference, &scope), "apply", &body).await?;
    Ok(Json(asked.step(&api, &body, Command::StepSecrets(Step::Apply(asked.env.id))).await?))
}

/// Gives up what is staged.
pub(super) async fn discard(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    body: Sent,
) -> Result<Json<Receipt>, ApiProblem> {
    let body = body.map_err(ApiProblem::from)?;
    let asked = Asked::new(&api, &caller, &headers, (&reference, &scope), "discard", &body).await?;
    let staged = bundle::of(&api.engine.state(), asked.env.id).and_then(Resource::staged).cloned();
    let receipt =
        asked.step(&api, &body, Command::StepSecrets(Step::Discard(asked.env.id))).await?;
    // Here, too: one that came and went between two looks is seen by nobody else.
    if let Some(staged) = staged {
        asked.remove_unused(&api, staged.pin.id).await;
    }
    Ok(Json(receipt))
}

/// Notes that the env needs none.
pub(super) async fn confirm_none(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    body: Sent,
) -> Result<Json<Receipt>, ApiProblem> {
    let body = body.map_err(ApiProblem::from)?;
    let asked = Asked::new(&api, &caller, &headers, (&reference, &scope), "confirm", &body).await?;
    Ok(Json(asked.step(&api, &body, Command::StepSecrets(Step::ConfirmNone(asked.env.id))).await?))
}

/// A request for a change, once it is known whose secrets it is about.
struct Asked {
    env: Resource<Env>,
    origin: Origin,
}

impl Asked {
    async fn new(
        api: &Api,
        caller: &Caller,
        headers: &HeaderMap,
        (reference, scope): (&str, &Scope),
        what: &str,
        body: &[u8],
    ) -> Result<Asked, Problem> {
        let env = named(&api.engine.state(), caller, reference, scope)?.clone();
        let id = env.id.to_string();
        let hash = api.vault.request_hash(&[what.as_bytes(), id.as_bytes(), body]).await?;
        let origin = caller.origin(headers, || hash)?;
        Ok(Asked { env, origin })
    }

    /// The body, read. What is wrong with one that cannot be is told by place
    /// alone: any word of it may be a secret.
    fn body<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Problem> {
        let body = if body.is_empty() { b"{}" } else { body };
        serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let detail = format!("the request cannot be read at line {line}, column {column}");
            Problem::new(Code::InvalidArgument, detail).hint("docs/api.md describes the body")
        })
    }

    /// The receipt that the same request was given before: what it asked for may
    /// not make sense a second time.
    async fn remembered(&self, api: &Api) -> Result<Option<Receipt>, Problem> {
        let Some(idempotency) = &self.origin.idempotency else { return Ok(None) };
        let stored = api.engine.log().receipt(&idempotency.key).await;
        let stored = stored.map_err(|error| {
            Problem::new(Code::Unavailable, format!("an earlier receipt cannot be read: {error}"))
        })?;
        let same = stored.filter(|stored| stored.request_hash == idempotency.request_hash);
        Ok(same.and_then(|stored| serde_json::from_slice(&stored.body).ok()))
    }

    /// Whom a change is made for, refused when it is not what its author saw.
    fn expecting(
        &self,
        known: Option<&Resource<Bundle>>,
        expected: Option<u64>,
    ) -> Result<Origin, Problem> {
        let origin = self.origin.clone();
        match (known, expected) {
            (Some(known), _) => Ok(super::gate::expecting(origin, known.id.any(), expected)),
            (None, None) => Ok(origin),
            (None, Some(_)) => {
                let detail = "nothing has been set yet, so there is no version to expect";
                Err(Problem::new(Code::VersionConflict, detail))
            }
        }
    }

    async fn step(&self, api: &Api, body: &[u8], command: Command) -> Result<Receipt, Problem> {
        let request: SecretsStepRequest = self.body(body)?;
        let state = api.engine.state();
        let origin = self.expecting(bundle::of(&state, self.env.id), request.expected_version)?;
        api.engine.submit(command, origin).await
    }

    /// Makes a version of what `values` says, anew when another came between.
    async fn repeatedly(
        &self,
        api: &Api,
        expected: Option<u64>,
        stage: bool,
        values: &Values,
    ) -> Result<Receipt, Problem> {
        let env = self.env.id;
        let place = Place { org: self.env.spec.org, env };
        let mut last = Problem::new(Code::Conflict, "others keep changing the secrets");
        for _ in 0..ATTEMPTS_MAX {
            let state = api.engine.state();
            let known = bundle::of(&state, env);
            let origin = self.expecting(known, expected)?;
            let base = known.map_or(0, |known| known.status.latest);
            let secrets = values.of(api, known, place).await?;
            let draft = api.vault.seal(place, &secrets).await?;
            let id = draft.id;
            let set = Set { env, base, draft, stage, restored_from: values.restored_from() };
            let made = api.engine.submit(Command::SetSecrets(Box::new(set)), origin).await;
            // Whether a version came of it is not known while the log cannot be read.
            if !made.as_ref().is_err_and(|problem| problem.code == Code::Unavailable) {
                self.remove_unused(api, id).await;
            }
            // What made room for it was among these: it was decided on this very list.
            for version in known.map(|it| it.status.versions.as_slice()).unwrap_or_default() {
                if made.is_ok() {
                    self.remove_unused(api, version.pin.id).await;
                }
            }
            match made {
                Err(problem) if problem.code == Code::Conflict => last = problem,
                made => return made,
            }
        }
        Err(last)
    }

    /// Removes the values again when nothing leads to them.
    async fn remove_unused(&self, api: &Api, id: VersionId) {
        let env = self.env.id;
        if !secrets::is_in_use(&api.engine.state(), env, id) {
            api.vault.forget(Place { org: self.env.spec.org, env }, id).await;
        }
    }
}

/// What a new version is made of.
enum Values {
    /// What there is, changed; or only what is set.
    Changed { wanted: Wanted, replace: bool },
    /// An older version.
    Of(Pin),
}

impl Values {
    async fn of(
        &self,
        api: &Api,
        known: Option<&Resource<Bundle>>,
        place: Place,
    ) -> Result<Secrets, Problem> {
        match self {
            Values::Of(pin) => api.vault.read(place, pin).await,
            Values::Changed { wanted, replace } => {
                let mut secrets = match present(known).filter(|_| !replace) {
                    Some(version) => api.vault.read(place, &version.pin).await?,
                    None => Secrets::default(),
                };
                wanted.carry_out(&mut secrets)?;
                Ok(secrets)
            }
        }
    }

    fn restored_from(&self) -> Option<u64> {
        match self {
            Values::Of(pin) => Some(pin.number),
            Values::Changed { .. } => None,
        }
    }
}

/// What a request wants set and taken out.
struct Wanted {
    set: Secrets,
    unset: Vec<Key>,
}

impl Wanted {
    fn new(request: &SecretsRequest) -> Result<Wanted, Problem> {
        let mut set = match &request.file {
            Some(file) => secret_file::parse(file.expose().as_bytes())?,
            None => Secrets::default(),
        };
        for (key, value) in &request.values {
            set.set(key_of(key, "values")?, Value::new(value.expose()));
        }
        let unset = request.unset.iter().map(|key| key_of(key, "unset"));
        let unset = unset.collect::<Result<Vec<_>, _>>()?;
        if set.is_empty() && unset.is_empty() && !request.replace {
            let detail = "nothing is set and nothing is taken out";
            return Err(Problem::new(Code::InvalidArgument, detail)
                .hint("name keys under `values` or `unset`, or give a `file`"));
        }
        Ok(Wanted { set, unset })
    }

    fn carry_out(&self, secrets: &mut Secrets) -> Result<(), Problem> {
        for key in &self.unset {
            if !secrets.unset(key) {
                let detail = format!("`{key}` is not set");
                return Err(Problem::new(Code::InvalidArgument, detail)
                    .hint("`helix secrets list` shows the keys there are")
                    .field("unset", format!("`{key}` is not set")));
            }
        }
        secrets.extend(self.set.clone());
        Ok(())
    }
}

/// A key, or a refusal that does not repeat it: it may be a value in the wrong
/// place.
fn key_of(text: &str, field: &str) -> Result<Key, Problem> {
    text.parse::<Key>().map_err(|error| {
        Problem::new(Code::InvalidArgument, error.to_string()).field(field, "not a key")
    })
}

/// What a change builds on.
fn present(bundle: Option<&Resource<Bundle>>) -> Option<&Version> {
    bundle.and_then(|bundle| bundle.staged().or(bundle.desired()))
}

/// The newest version before the desired one with other values.
fn before(bundle: &Resource<Bundle>) -> Option<&Version> {
    let desired = bundle.desired()?;
    let older = bundle.status.versions.iter().rev();
    let mut older = older.filter(|it| it.pin.number < desired.pin.number);
    older.find(|it| it.pin.hash != desired.pin.hash)
}

fn named<'s>(
    state: &'s World,
    caller: &Caller,
    reference: &str,
    scope: &Scope,
) -> Result<&'s Resource<Env>, Problem> {
    let id = caller.resolve(state, Kind::Env, reference, scope)?;
    let env = id.typed::<Env>().and_then(|id: Id<Env>| state.envs.get(id));
    env.ok_or_else(|| Problem::not_found(Kind::Env, reference))
}

fn report(state: &World, env: &Resource<Env>) -> SecretsReport {
    let known = bundle::of(state, env.id);
    let versions = known.map(|known| known.status.versions.as_slice()).unwrap_or_default();
    let view = known.and_then(|known| view::view(state, known.id.any()));
    SecretsReport {
        env: reference::path(state, env.id.any()),
        version: known.map(|known| known.version),
        confirmed_none: known.is_some_and(|known| known.spec.confirmed_none),
        desired: known.and_then(|known| known.spec.desired),
        applied: env.status.secrets.map(|pin| pin.number),
        staged: known.and_then(|known| known.spec.staged),
        difference: view.and_then(|view| view.difference),
        versions: versions.iter().rev().map(version).collect(),
        position: state.position,
    }
}

fn version(version: &Version) -> SecretsVersion {
    let Version { pin, keys, bytes, made_at, restored_from } = version;
    SecretsVersion {
        number: pin.number,
        id: pin.id.to_string(),
        hash: pin.hash.to_string(),
        keys: keys.iter().map(|(key, size)| (key.to_string(), *size)).collect(),
        bytes: *bytes,
        made_at: *made_at,
        restored_from: *restored_from,
    }
}
