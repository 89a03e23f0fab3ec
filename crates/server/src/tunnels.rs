//! What agents of tunnels are let in by: the key of the installation that signs their
//! tokens, and what goes with a tunnel to whoever may have it.
//!
//! Start from [`Shared::grant`]. The key is made at the first start, is sealed, and is
//! the same for all replicas; edges know its public half and ask nobody. Who may ask for
//! a tunnel is not known here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use helix_control::plan;
use helix_model::api::{SecretText, TunnelGrant};
use helix_model::bundle::VersionId;
use helix_model::installation::Settle;
use helix_model::tunnel::{self, Owner};
use helix_model::{Code, Command, Id, Kind, Name, Org, Problem, Timestamp, Tunnel};
use helix_tunnel::token::{self, Audience, Claims, KeyError, SigningKey, VerifyingKey};

use crate::engine::{Engine, Origin};
use crate::secrets::Vault;
use crate::server::Shared;
use crate::{clock, entropy};

/// What the ids of the records begin with: one, unless two servers started at once.
const RECORDS: &str = "tunnel-key/";

/// How long a token lets an agent connect to an edge. Short, because an edge that is cut
/// off from the server knows nothing of what was disabled since.
const EPHEMERAL_LIFE: Duration = Duration::from_secs(300);

/// How long the list of edges is good: as long as the token that goes with it.
const CANDIDATES_LIFE: Duration = EPHEMERAL_LIFE;

/// The key, once it was opened.
#[derive(Default)]
pub(crate) struct Keys(Mutex<Option<(String, Arc<SigningKey>)>>);

/// How a tunnel is wanted.
pub(crate) struct Asked {
    pub kept_for: Duration,
    pub region: Option<String>,
    /// What is not as it was asked for.
    pub note: Option<String>,
}

/// Whose recreate token was shown.
pub(crate) struct Claimed {
    pub owner: Owner,
    pub name: Name,
}

/// What a good recreate token says.
pub(crate) struct Recreate {
    pub tunnel: Id<Tunnel>,
    pub org: Id<Org>,
    pub generation: u64,
    /// How long it was good in all.
    pub life: Duration,
}

fn record_name(record: VersionId) -> String {
    format!("{RECORDS}{record}")
}

fn bound_to(public: &str, record: VersionId) -> Vec<u8> {
    format!("helix-tunnel-key-v1|public:{public}|record:{record}").into_bytes()
}

/// Makes the key of the installation at its first start. Without one there are no
/// tunnels; everything else there is.
pub(crate) async fn ensure_key(engine: &Engine, vault: &Vault) {
    if !engine.state().tunnel_keys.is_empty() {
        return;
    }
    if let Err(problem) = make_key(engine, vault).await {
        tracing::error!(%problem, "the key for tokens of tunnels cannot be made");
    }
}

async fn make_key(engine: &Engine, vault: &Vault) -> Result<(), Problem> {
    let record = VersionId::new(clock::now(), entropy::for_ids());
    let made = SigningKey::generate().map_err(unusable)?;
    let public = made.verifying().to_base64url();
    vault.put(&record_name(record), made.to_pkcs8(), &bound_to(&public, record)).await?;
    let key = tunnel::Key { id: made.verifying().id().to_owned(), public, record };
    let command = Command::Settle(Settle::TunnelKey(tunnel::SetKey { key }));
    engine.submit(command, Origin::system("bootstrap", entropy::request_id())).await?;
    // Another server that starts at the same moment may have been first.
    if engine.state().tunnel_keys.iter().all(|key| key.record != record) {
        vault.remove(&record_name(record)).await;
    }
    Ok(())
}

/// The problem of a token that lets nobody in.
pub(crate) fn refused(why: &str) -> Problem {
    Problem::new(Code::AccessDenied, format!("the recreate token {why}"))
        .hint("ask for the tunnel anew, for example with `helix http PORT --name NAME`")
        .field("recreate_token", why)
}

impl Shared {
    /// Refuses to begin where no agent could connect.
    pub(crate) fn must_have_edge(&self) -> Result<(), Problem> {
        let state = self.engine.state();
        let takes_agents = state.edges.iter().any(|edge| {
            let facts = edge.status.facts.as_ref();
            edge.status.connected && facts.is_some_and(|facts| !facts.agents.is_empty())
        });
        takes_agents.then_some(()).ok_or_else(no_edge)
    }

    /// A tunnel with fresh tokens, and where its agent may connect.
    pub(crate) async fn grant(&self, id: Id<Tunnel>, asked: Asked) -> Result<TunnelGrant, Problem> {
        let key = self.signing_key().await?;
        let (state, now) = (self.engine.state(), clock::now());
        let known = state.tunnels.get(id);
        let known = known.ok_or_else(|| Problem::not_found(Kind::Tunnel, &id.to_string()))?;
        let candidates = plan::candidates(&state, known, asked.region.as_deref());
        let place = plan::public_place(&state, known, &candidates).ok_or_else(no_edge)?;
        let (public_hostname, public_url) = place;
        let token = |audience, life: Duration| {
            let claims = Claims {
                sub: id.to_string(),
                org: known.spec.org.to_string(),
                generation: known.spec.generation,
                aud: audience,
                iat: seconds(now),
                exp: seconds(now.plus(life)),
                jti: format!("{:032x}", entropy::fresh()),
            };
            let signed = key.sign(&claims).map_err(unusable)?;
            Ok::<_, Problem>(SecretText::from(signed))
        };
        let roots = state.authority.as_ref().map(|authority| authority.certificate.clone());
        Ok(TunnelGrant {
            tunnel_id: id,
            name: known.name.clone(),
            protocol: known.spec.exposure.kind(),
            public_hostname,
            public_url,
            candidates,
            candidates_expires_at: now.plus(CANDIDATES_LIFE),
            ephemeral_token: token(Audience::Edge, EPHEMERAL_LIFE)?,
            ephemeral_token_expires_at: now.plus(EPHEMERAL_LIFE),
            recreate_token: token(Audience::Recreate, asked.kept_for)?,
            recreate_token_expires_at: now.plus(asked.kept_for),
            edge_roots: roots.unwrap_or_default(),
            note: asked.note,
            receipt: None,
        })
    }

    /// What a recreate token says, if it is one of this installation and still good.
    pub(crate) fn recreate_claims(&self, text: &SecretText) -> Result<Recreate, Problem> {
        let keys = self.engine.state().tunnel_keys.clone();
        let keys = keys.iter().filter_map(|key| VerifyingKey::from_base64url(&key.public).ok());
        let keys: Vec<VerifyingKey> = keys.collect();
        let now = seconds(clock::now());
        let verified = token::verify(text.expose(), &keys, Audience::Recreate, now);
        let claims = verified.map_err(|error| refused(&format!("is refused: {error}")))?;
        let ids = claims.sub.parse().ok().zip(claims.org.parse().ok());
        let (tunnel, org) = ids.ok_or_else(|| refused("names no tunnel"))?;
        let life = Duration::from_secs(claims.exp.saturating_sub(claims.iat));
        Ok(Recreate { tunnel, org, generation: claims.generation, life })
    }

    /// Whose a recreate token is; `None` where its tunnel is gone, so that it stands for
    /// nothing any more.
    pub(crate) fn claimed(
        &self,
        text: &SecretText,
        org: Id<Org>,
    ) -> Result<Option<Claimed>, Problem> {
        let claims = self.recreate_claims(text)?;
        if claims.org != org {
            return Err(refused("is of another org"));
        }
        let state = self.engine.state();
        let Some(known) = state.tunnels.get(claims.tunnel) else { return Ok(None) };
        if known.spec.generation != claims.generation {
            return Err(refused("is not good any more"));
        }
        Ok(Some(Claimed { owner: known.spec.owner.clone(), name: known.name.clone() }))
    }

    /// The key that signs, from the sealed table the first time.
    async fn signing_key(&self) -> Result<Arc<SigningKey>, Problem> {
        let missing =
            || Problem::new(Code::Unavailable, "this installation has no key for tunnels");
        let known = self.engine.state().tunnel_keys.last().cloned().ok_or_else(missing)?;
        let held = || self.tunnel_keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, key)) = held().as_ref()
            && *id == known.id
        {
            return Ok(Arc::clone(key));
        }
        let bound_to = bound_to(&known.public, known.record);
        let kept = self.vault.get(&record_name(known.record), &bound_to).await?;
        let key = SigningKey::from_pkcs8(&kept.ok_or_else(missing)?).map_err(unusable)?;
        let key = Arc::new(key);
        *held() = Some((known.id, Arc::clone(&key)));
        Ok(key)
    }
}

/// Seconds since the epoch, as tokens have them.
fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.0.div_euclid(1000)).unwrap_or(0)
}

fn unusable(error: KeyError) -> Problem {
    Problem::new(Code::Internal, format!("the key for tokens of tunnels cannot be used: {error}"))
}

fn no_edge() -> Problem {
    Problem::new(Code::NoEdgeForTunnels, "no edge that takes agents is connected right now")
}
