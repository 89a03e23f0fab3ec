//! One order, from the question to the chain and its key.

use std::time::Duration;

use helix_model::acme::{Challenge, Offer, Way};
use helix_model::{Certificate, Command, Id};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use tokio::time::timeout;
use zeroize::Zeroizing;

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
    pub(super) way: Way,
}

/// Has a host proven and a certificate made for it; the chain and the key, in PEM.
pub(super) async fn place(
    engine: &Engine,
    account: &Account,
    to: To<'_>,
) -> Result<(String, Zeroizing<String>), OrderError> {
    let To { certificate, host, way } = to;
    let identifiers = [Identifier::Dns(host.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let challenges = challenges(&mut order, to).await?;
    if !challenges.is_empty() {
        let offer = Offer { certificate, challenges };
        submit(engine, Command::OfferChallenges(offer)).await?;
        answered(engine, certificate).await?;
        set_ready(&mut order, way).await?;
    }
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid) => {}
        // Of the order it says that it is invalid, of the host why.
        Ok(_) | Err(instant_acme::Error::Api(_)) => return Err(why(&mut order).await),
        Err(error) => return Err(error.into()),
    }
    let key = Zeroizing::new(order.finalize().await?);
    let chain = order.poll_certificate(&POLL).await?;
    Ok((chain, key))
}

fn kind(way: Way) -> ChallengeType {
    match way {
        Way::Http => ChallengeType::Http01,
        Way::Tls => ChallengeType::TlsAlpn01,
    }
}

/// What is to be answered; nothing when the authority remembers the host.
async fn challenges(order: &mut Order, to: To<'_>) -> Result<Vec<Challenge>, OrderError> {
    let mut challenges = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let challenge = authorization.challenge(kind(to.way));
        let challenge = challenge.ok_or(OrderError::NoChallenge)?;
        challenges.push(Challenge {
            host: to.host.to_owned(),
            way: to.way,
            token: challenge.token.clone(),
            answer: challenge.key_authorization().as_str().to_owned(),
        });
    }
    Ok(challenges)
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

async fn set_ready(order: &mut Order, way: Way) -> Result<(), OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending {
            let challenge = authorization.challenge(kind(way));
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
