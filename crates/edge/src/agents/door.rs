//! The door for agents: a request over TLS for a host of the edge itself, with a token,
//! that becomes a WebSocket (RFC 6455). What a token opens, it opens over QUIC, too.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use helix_link::websocket;
use helix_model::{Id, Tunnel, tunnel};
use helix_tunnel::protocol::{SUBPROTOCOL, TOKEN_QUERY, TOKEN_SUBPROTOCOL};
use helix_tunnel::token::{self, Audience, Claims, TokenError};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::replays::Use;
use super::session::{self, Guest};
use crate::http::{Conversation, Front, Requested};
use crate::shared::Shared;

/// The only version there is (RFC 6455 §4.4).
const WEBSOCKET_VERSION: &str = "13";

/// Why an agent is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("agents come over TLS: begin the URL with wss")]
    Plain,
    #[error("agents speak WebSocket here, version 13")]
    Upgrade,
    #[error(
        "a token is needed: `Authorization: Bearer`, `Sec-WebSocket-Protocol: nb_token|…` or `?nb_token=`; over QUIC the first message has it"
    )]
    NoToken,
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error(
        "this token has been used at this edge: each lets an agent in once over each transport; ask for another"
    )]
    Replayed,
    #[error("this edge is asked by more agents than it can take; try again in a moment")]
    Flooded,
    #[error("this token is of before the tunnel's tokens were taken back: ask for another")]
    Revoked,
    #[error(
        "there is no such tunnel here: it was deleted or disabled, or this edge has not heard of it yet"
    )]
    NoTunnel,
    #[error("this edge is going to stop: another takes agents")]
    Draining,
}

impl Closed {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Closed::Plain | Closed::Upgrade => StatusCode::UPGRADE_REQUIRED,
            Closed::NoToken | Closed::Token(_) | Closed::Replayed | Closed::Revoked => {
                StatusCode::UNAUTHORIZED
            }
            Closed::NoTunnel => StatusCode::NOT_FOUND,
            Closed::Flooded | Closed::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// For programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Closed::Plain | Closed::Upgrade => "agent_upgrade",
            Closed::NoToken => "agent_no_token",
            Closed::Token(TokenError::Expired) => "agent_token_expired",
            Closed::Token(_) => "agent_token_invalid",
            Closed::Replayed => "agent_token_used",
            Closed::Revoked => "agent_token_revoked",
            Closed::NoTunnel => "agent_no_tunnel",
            Closed::Flooded => "agent_flood",
            Closed::Draining => "agent_draining",
        }
    }
}

/// Whether a host in lower case is one that agents are taken at.
pub(crate) fn is_agent(shared: &Shared, host: &str) -> bool {
    shared.agents.hosts.contains(host)
}

/// Lets an agent in: the response that changes the protocol, after which its link runs
/// in a task of its own.
pub(crate) async fn enter(
    shared: &Arc<Shared>,
    front: &Front,
    conversation: &Conversation,
    request: &Request<Requested>,
) -> Result<Response<()>, Closed> {
    if front.secure.is_none() {
        return Err(Closed::Plain);
    }
    let accepted = accept_key(request.headers()).ok_or(Closed::Upgrade)?;
    if shared.draining.has_come() {
        return Err(Closed::Draining);
    }
    let token = token_of(request).ok_or(Closed::NoToken)?;
    let guest = admit(shared, &token, front.client, tunnel::Transport::Wss).await?;
    let upgrading = conversation.upgrading().ok_or(Closed::Upgrade)?;
    let stages = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let upgraded = match upgrading.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "an agent did not stay"),
        };
        match websocket::over(upgraded, &[], websocket::Role::Server) {
            Ok(transport) => session::run(stages, transport, guest).await,
            Err(error) => tracing::debug!(%error, "an agent did not stay"),
        }
    });
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    if listed(request.headers(), &SEC_WEBSOCKET_PROTOCOL).any(|it| it == SUBPROTOCOL) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

/// Whom a token lets in that comes over this transport, over which it is used up by this.
pub(super) async fn admit(
    shared: &Shared,
    token: &str,
    from: SocketAddr,
    transport: tunnel::Transport,
) -> Result<Guest, Closed> {
    let claims = spend(shared, token, transport)?;
    let tunnel: Id<Tunnel> = claims.sub.parse().map_err(|_| TokenError::Malformed)?;
    let seat = shared.agents.seat_soon(tunnel).await.ok_or(Closed::NoTunnel)?;
    let generation = claims.generation;
    if generation < seat.generation() {
        return Err(Closed::Revoked);
    }
    Ok(Guest { reachable: seat.reachable(), tunnel, seat, from, transport, generation })
}

/// What the token says. Both transports may be tried with one.
fn spend(shared: &Shared, token: &str, transport: tunnel::Transport) -> Result<Claims, Closed> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = token::verify(token, &shared.agents.keys.load(), Audience::Edge, now_s)?;
    let used = format!("{transport} {}", claims.jti);
    match shared.agents.replays().spend(&used, claims.exp, now_s) {
        Use::First => Ok(claims),
        Use::Again => Err(Closed::Replayed),
        Use::Flooded => Err(Closed::Flooded),
    }
}

/// The first of the three places a token may be in that has one.
fn token_of<B>(request: &Request<B>) -> Option<String> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let offered = || {
        let mut offered = listed(request.headers(), &SEC_WEBSOCKET_PROTOCOL);
        offered.find_map(|it| it.strip_prefix(TOKEN_SUBPROTOCOL).map(str::to_owned))
    };
    let asked = || {
        let query = request.uri().query()?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, token) = pairs.find(|(name, _)| *name == TOKEN_QUERY)?;
        percent_decode_str(token).decode_utf8().ok().map(Cow::into_owned)
    };
    bearer.or_else(offered).or_else(asked)
}

/// What answers the key of a handshake, if the request is one.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrades = listed(headers, &UPGRADE).any(|it| it.eq_ignore_ascii_case("websocket"));
    let is_current = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|it| it == WEBSOCKET_VERSION);
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| upgrades && is_current)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

/// The members of a list in headers of this name.
fn listed<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_token_is_taken_from_the_first_of_three_places() {
        let bearer = ("authorization", "Bearer a");
        let offered = ("sec-websocket-protocol", "helix-tunnel.v1, nb_token|b");
        let token = |uri, headers: &[_]| token_of(&request(uri, headers));
        assert_eq!(token("/x?nb_token=c", &[bearer, offered]).as_deref(), Some("a"));
        assert_eq!(token("/x?nb_token=c", &[offered]).as_deref(), Some("b"));
        assert_eq!(token("/x?a=1&nb_token=c%2e", &[]).as_deref(), Some("c."));
        let basic = ("authorization", "Basic a");
        assert_eq!(token("/x?nb_tokens=c", &[basic]), None);
    }

    #[test]
    fn what_is_no_handshake_gets_no_key() {
        let whole = [
            ("upgrade", "h2c, WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let key = |headers: &[_]| accept_key(request("/", headers).headers());
        // The example of RFC 6455 §1.3.
        assert_eq!(key(&whole).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for missing in 0..3 {
            let mut part = whole.to_vec();
            part.remove(missing);
            assert_eq!(key(&part), None);
        }
    }
}
