//! One order, from the question to the chain and its key.

use std::path::Path;
use std::time::Duration;

use helix_model::acme::{Challenge, Offer, Way};
use helix_model::{Certificate, Command, Id, host};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, KeyAuthorization, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::hook::{self, Act, Record};
use super::{OrderError, submit};
use crate::engine::Engine;

/// How long edges have to get their plan: one that is linked has it at once.
const EDGES_WAIT: Duration = Duration::from_secs(30);

/// How an authority is asked how far it is: it says itself when to, or else this often.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));

/// What is ordered.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) certificate: Id<Certificate>,
    pub(super) host: &'a str,
    pub(super) by: By<'a>,
}

/// How the authority is shown whose a host is.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    /// It comes to the edges.
    Edges(Way),
    /// It looks into DNS, where this program of the operator's makes records.
    Hook(&'a Path),
}

/// What it asks to be shown.
struct Asked {
    token: String,
    agreed: KeyAuthorization,
}

/// Has a host proven and a certificate made for it; the chain and the key, in PEM.
pub(super) async fn place(
    engine: &Engine,
    account: &Account,
    to: To<'_>,
) -> Result<(String, Zeroizing<String>), OrderError> {
    let identifiers = [Identifier::Dns(to.host.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let asked = asked(&mut order, to.by).await?;
    match to.by {
        // The authority remembers the host.
        _ if asked.is_empty() => ready(&mut order).await?,
        By::Edges(way) => {
            offer(engine, to, way, &asked).await?;
            set_ready(&mut order, to.by).await?;
            ready(&mut order).await?;
        }
        By::Hook(path) => {
            let domain = host::exact_part(to.host);
            let values = asked.iter().map(|it| it.agreed.dns_value());
            let records: Vec<_> = values.map(|it| Record::of(domain, it)).collect();
            let shown = shown(&mut order, to.by, path, &records).await;
            for record in &records {
                if let Err(error) = hook::run(path, Act::Remove, record).await {
                    tracing::warn!(%error, host = to.host, "a record is not removed from DNS");
                }
            }
            shown?;
        }
    }
    let key = Zeroizing::new(order.finalize().await?);
    let chain = order.poll_certificate(&POLL).await?;
    Ok((chain, key))
}

/// Makes the records and has the authority look.
async fn shown(
    order: &mut Order,
    by: By<'_>,
    path: &Path,
    records: &[Record],
) -> Result<(), OrderError> {
    for record in records {
        hook::run(path, Act::Set, record).await?;
    }
    set_ready(order, by).await?;
    ready(order).await
}

/// Waits until the authority has seen what it asked for.
async fn ready(order: &mut Order) -> Result<(), OrderError> {
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid) => Ok(()),
        // Of the order it says that it is invalid, of the host why.
        Ok(_) | Err(instant_acme::Error::Api(_)) => Err(why(order).await),
        Err(error) => Err(error.into()),
    }
}

fn kind(by: By<'_>) -> ChallengeType {
    match by {
        By::Edges(Way::Http) => ChallengeType::Http01,
        By::Edges(Way::Tls) => ChallengeType::TlsAlpn01,
        By::Hook(_) => ChallengeType::Dns01,
    }
}

/// What is to be shown; nothing when the authority remembers the host.
async fn asked(order: &mut Order, by: By<'_>) -> Result<Vec<Asked>, OrderError> {
    let mut asked = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let challenge = authorization.challenge(kind(by)).ok_or(OrderError::NoChallenge)?;
        asked.push(Asked { token: challenge.token.clone(), agreed: challenge.key_authorization() });
    }
    Ok(asked)
}

/// Has all edges answer.
async fn offer(engine: &Engine, to: To<'_>, way: Way, asked: &[Asked]) -> Result<(), OrderError> {
    let challenge = |it: &Asked| Challenge {
        host: to.host.to_owned(),
        way,
        token: it.token.clone(),
        answer: it.agreed.as_str().to_owned(),
    };
    let challenges = asked.iter().map(challenge).collect();
    let offer = Offer { certificate: to.certificate, challenges };
    submit(engine, Command::OfferChallenges(offer)).await?;
    answered(engine, to.certificate).await
}

/// Waits until every edge answers: the authority may come to any of them.
async fn answered(engine: &Engine, certificate: Id<Certificate>) -> Result<(), OrderError> {
    let mut position = engine.position();
    let waited = timeout(EDGES_WAIT, async {
        loop {
            position.mark_unchanged();
            match silent(engine, certificate) {
                Ok(()) => return,
                Err(_) if position.changed().await.is_err() => return,
                Err(_) => {}
            }
        }
    });
    match waited.await {
        Ok(()) => Ok(()),
        Err(_) => silent(engine, certificate),
    }
}

/// Whether an edge does not answer yet, and which.
fn silent(engine: &Engine, certificate: Id<Certificate>) -> Result<(), OrderError> {
    let state = engine.state();
    if !state.edges.iter().any(|edge| edge.status.connected) {
        return Err(OrderError::NoEdge);
    }
    // It was given up meanwhile, and what is issued will be thrown away.
    let Some(known) = state.certificates.get(certificate) else { return Ok(()) };
    match state.unanswering(known).first() {
        Some(edge) => Err(OrderError::Silent(edge.name.to_string())),
        None => Ok(()),
    }
}

async fn set_ready(order: &mut Order, by: By<'_>) -> Result<(), OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending {
            let challenge = authorization.challenge(kind(by));
            challenge.ok_or(OrderError::NoChallenge)?.set_ready().await?;
        }
    }
    Ok(())
}

/// What the authority found when it came for the host.
async fn why(order: &mut Order) -> OrderError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Err(error) = authorization.refresh().await {
            return error.into();
        }
        let mut errors = authorization.challenges.iter().filter_map(|it| it.error.as_ref());
        if let Some(detail) = errors.find_map(|error| error.detail.clone()) {
            return OrderError::Invalid(detail);
        }
    }
    OrderError::Invalid("it gives no reason".to_owned())
}
