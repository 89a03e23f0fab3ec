//! One request: find its service, find a backend that takes it, stream both ways.

use std::sync::Arc;

use helix_model::manifest::BackendProtocol;
use helix_tunnel::protocol::PATH;
use http::header::TRANSFER_ENCODING;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Body;

use super::account::Account;
use super::body::Requested;
use super::exchange::{Exchange, Undelivered};
use super::front::Front;
use super::headers::{self, X_REQUEST_ID};
use super::host;
use super::multiplexed;
use super::reply::{Download, Refused, Reply, Source};
use super::turn::{Conversation, Turn};
use super::upgrade::{self, Wish};
use super::upload::{Limit, Upload};
use crate::agents::door::{self, Closed};
use crate::service::Service;
use crate::shared::Shared;
use crate::stats::count;
use crate::upstream::Upstream;
use crate::work::OpenWork;

/// How often a request may move on to the backends of a newer table because
/// those of the one it started with have all gone.
const TABLES: usize = 3;

/// Port that a URL leaves out.
const HTTPS_PORT: u16 = 443;

/// Where authorities look, with the token behind it.
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// A backend's response head, and what its body needs.
struct Answer {
    response: Response<Source>,
    upstream: Arc<Upstream>,
    work: OpenWork,
}

/// What is known of a request before it is rewritten.
#[derive(Clone, Copy)]
struct Asked {
    head_bytes: usize,
    takes_trailers: bool,
}

/// What one backend made of a request.
enum Outcome {
    Answered(Response<Source>),
    /// Another backend may have it.
    Again(Request<Upload>, Refused),
    Failed(Refused),
}

/// Answers a client's request, from a backend if there is one.
pub(crate) async fn forward(
    shared: &Arc<Shared>,
    front: &Front,
    conversation: &Arc<Conversation>,
    request: Request<Requested>,
) -> Response<Reply> {
    count(&shared.counters.http_requests);
    let turn = conversation.begin();
    let mut account = Account::open(shared, front, &request);
    if let Some(entered) = agent(shared, front, conversation, &request).await {
        return match entered {
            Ok(response) => response.map(|()| Reply::switching(turn)),
            Err(closed) => Refused::Agent(closed).into_response(turn, account),
        };
    }
    match attempt(shared, front, conversation, request, &mut account).await {
        Ok((answer, wish, id)) => respond(shared, answer, wish, id, (turn, account)),
        Err(refused) => {
            if !matches!(refused, Refused::Elsewhere(_) | Refused::Challenged(_)) {
                count(&shared.counters.http_refused);
            }
            tracing::debug!(client = %front.client, %refused, "request refused");
            account.refused(shared, &refused);
            refused.into_response(turn, account)
        }
    }
}

/// What an agent of a tunnel is answered, if it is one that asks.
async fn agent(
    shared: &Arc<Shared>,
    front: &Front,
    conversation: &Conversation,
    request: &Request<Requested>,
) -> Option<Result<Response<()>, Closed>> {
    if request.uri().path() != PATH {
        return None;
    }
    let sent = host::as_sent(request).ok()?;
    let host = host::name(&sent).ok()?;
    match door::is_agent(shared, &host) {
        true => Some(Box::pin(door::enter(shared, front, conversation, request)).await),
        false => None,
    }
}

async fn attempt(
    shared: &Arc<Shared>,
    front: &Front,
    conversation: &Arc<Conversation>,
    mut request: Request<Requested>,
    account: &mut Account,
) -> Result<(Answer, Option<Wish>, HeaderValue), Refused> {
    check(&request)?;
    let sent = host::as_sent(&request)?;
    let host = host::name(&sent)?;
    if let Some(answer) = challenged(shared, &host, &request) {
        return Err(Refused::Challenged(answer));
    }
    direct(shared, front, &host, &request)?;
    let asked = Asked {
        head_bytes: headers::size(&request),
        takes_trailers: headers::takes_trailers(request.headers()),
    };
    let protocol = headers::upgrade_of(request.headers());
    let id = headers::prepare(&mut request, sent.clone(), front);
    account.is_called(&id);
    let wish = protocol.zip(conversation.upgrading()).map(|(protocol, client)| {
        headers::set_upgrade(request.headers_mut(), protocol.clone());
        Wish { protocol, client }
    });
    tracing::debug!(client = %front.client, %host, method = %request.method(), path = request.uri().path(), request_id = ?id, "request");
    let request = request.map(|body| Upload::new(body, conversation));
    let answer = deliver(shared, &host, (request, asked), account).await;
    // Not for want of an app that answers.
    let blame = |refused| match refused {
        Refused::NoResponse if conversation.has_broken_upload() => Refused::Body,
        refused => refused,
    };
    let answer = answer.map_err(blame)?;
    Ok((answer, wish, id))
}

fn check(request: &Request<Requested>) -> Result<(), Refused> {
    if request.method() == Method::CONNECT {
        return Err(Refused::Connect);
    }
    // Any other coding would be lost with the header, and the body with it.
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if request.headers().get_all(TRANSFER_ENCODING).iter().all(is_chunked) {
        Ok(())
    } else {
        Err(Refused::Coding)
    }
}

/// What an authority is answered that wants to see who has the host (RFC 8555 §8.3).
/// Comes before all else: a host that is led to HTTPS has a certificate to renew. What
/// no order is under way for is the app's.
fn challenged(shared: &Shared, host: &str, request: &Request<Requested>) -> Option<String> {
    let token = request.uri().path().strip_prefix(CHALLENGE_PATH)?;
    shared.table.load().challenge(host, token).map(str::to_owned)
}

/// Whether the request came the way that is right for its host: over TLS where
/// somebody brought a certificate for it, and on a connection that proved to be its.
fn direct(
    shared: &Shared,
    front: &Front,
    host: &str,
    request: &Request<Requested>,
) -> Result<(), Refused> {
    match &front.secure {
        Some(secure) if secure.name == host || shared.certificates.is_same(&secure.name, host) => {
            Ok(())
        }
        Some(_) => Err(Refused::Misdirected),
        None => {
            let table = shared.table.load();
            let is_served = table.http(host).is_some_and(|site| {
                let serves = |pin| shared.certificates.serves(&site.host, pin);
                site.certificate.is_some_and(serves)
            });
            match shared.https_port.filter(|_| is_served) {
                Some(port) => Err(Refused::Elsewhere(elsewhere(host, port, request.uri()))),
                None => Ok(()),
            }
        }
    }
}

/// The same over TLS.
fn elsewhere(host: &str, port: u16, asked: &Uri) -> String {
    let path = asked.path_and_query().map(PathAndQuery::as_str);
    let path = path.filter(|path| path.starts_with('/')).unwrap_or("/");
    match port {
        HTTPS_PORT => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    }
}

/// Offers the request to one backend after another until one answers.
async fn deliver(
    shared: &Shared,
    host: &str,
    (mut request, Asked { head_bytes, takes_trailers }): (Request<Upload>, Asked),
    account: &mut Account,
) -> Result<Answer, Refused> {
    let mut last: Option<Arc<Service>> = None;
    let mut refused = Refused::NoBackend;
    for _ in 0..TABLES {
        let service = shared.table.load().http(host).map(|site| Arc::clone(&site.service));
        let service = service.ok_or_else(|| Refused::UnknownHost(host.to_owned()))?;
        if last.is_some_and(|tried| Arc::ptr_eq(&tried, &service)) {
            break;
        }
        account.is_for(&service);
        let limit = fits(&service, &mut request, head_bytes)?;
        request.body_mut().count(account.counting());
        let admitted = service.admit().map_err(Refused::full)?;
        let mut attempts = service.attempts();
        while let Some((upstream, work)) = attempts.next() {
            let outcome = match service.backend_protocol() {
                BackendProtocol::Http1 => offer(shared, &upstream, request).await,
                BackendProtocol::H2c => {
                    Box::pin(offer_h2(&upstream, request, takes_trailers)).await
                }
            };
            match outcome {
                Outcome::Answered(response) => {
                    let work = work.admitted(admitted);
                    return Ok(Answer { response, upstream, work });
                }
                Outcome::Again(again, reason) => (request, refused) = (again, reason),
                Outcome::Failed(_) if limit.is_exceeded() => return Err(Refused::BodyTooLarge),
                Outcome::Failed(reason) => return Err(reason),
            }
            count(&shared.counters.http_retries);
        }
        last = Some(service);
    }
    Err(refused)
}

/// Whether a request is no larger than the endpoint takes. A body that does not say how
/// long it is is measured on its way.
fn fits(
    service: &Service,
    request: &mut Request<Upload>,
    head_bytes: usize,
) -> Result<Limit, Refused> {
    if service.head_bytes_max().is_some_and(|max| head_bytes > max) {
        return Err(Refused::HeadTooLarge);
    }
    let Some(max) = service.body_bytes_max() else { return Ok(Limit::default()) };
    if request.body().size_hint().lower() > max {
        return Err(Refused::BodyTooLarge);
    }
    Ok(request.body_mut().limit_to(max))
}

/// Offers the request to one backend: on an idle connection, and on a fresh one
/// when there is none or the backend had just closed it.
async fn offer(shared: &Shared, upstream: &Upstream, mut request: Request<Upload>) -> Outcome {
    if let Some(exchange) = upstream.idle.take(upstream.session()) {
        match send(exchange, request).await {
            Outcome::Again(again, _) => request = again,
            outcome => return outcome,
        }
        count(&shared.counters.http_retries);
    }
    // Apart, as what else is rare: each request has room for all that it may come to.
    Box::pin(offer_anew(upstream, request)).await
}

/// Offers the request on a fresh connection.
async fn offer_anew(upstream: &Upstream, request: Request<Upload>) -> Outcome {
    let stream = match upstream.connect().await {
        Ok(stream) => stream,
        Err(_) if upstream.seat().is_some() => return Outcome::Again(request, Refused::NoAgent),
        Err(_) => return Outcome::Again(request, Refused::Unreachable),
    };
    send(Box::new(Exchange::new(stream)), request).await
}

async fn send(mut exchange: Box<Exchange>, request: Request<Upload>) -> Outcome {
    match exchange.send(request).await {
        Ok(response) => Outcome::Answered(response.map(|()| Source::Exchange(exchange))),
        Err(undelivered) => not_answered(undelivered),
    }
}

/// The same over the connection that all requests share.
async fn offer_h2(
    upstream: &Upstream,
    mut request: Request<Upload>,
    takes_trailers: bool,
) -> Outcome {
    let Some(sender) = upstream.multiplexed.sender(upstream.connect()).await else {
        return Outcome::Again(request, Refused::Unreachable);
    };
    if takes_trailers {
        multiplexed::allow_trailers(&mut request);
    }
    match multiplexed::send(sender, request).await {
        Ok(response) => Outcome::Answered(response.map(Source::Shared)),
        Err(undelivered) => not_answered(undelivered),
    }
}

fn not_answered(Undelivered { request, error }: Undelivered) -> Outcome {
    tracing::debug!(%error, repeatable = request.is_some(), "no response from backend");
    match request {
        Some(request) => Outcome::Again(request, Refused::NoResponse),
        None => Outcome::Failed(Refused::NoResponse),
    }
}

fn respond(
    shared: &Arc<Shared>,
    answer: Answer,
    wish: Option<Wish>,
    id: HeaderValue,
    (turn, mut account): (Turn, Account),
) -> Response<Reply> {
    let Answer { mut response, upstream, work } = answer;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    headers::strip_hop_by_hop(response.headers_mut());
    response.headers_mut().entry(X_REQUEST_ID).or_insert(id);
    account.answered(response.status(), upstream.id);
    *response.version_mut() = Version::HTTP_11;
    if !switched {
        let download = |source| Download::new(source, upstream, work);
        return response.map(|source| Reply::download(download(source), turn, account));
    }
    let (parts, source) = response.into_parts();
    match (wish, source) {
        (Some(wish), Source::Exchange(exchange)) => {
            let mut response = Response::from_parts(parts, Reply::switching(turn));
            headers::set_upgrade(response.headers_mut(), wish.protocol);
            upgrade::tunnel(shared, wish.client, exchange.upgrade(), (work, account));
            response
        }
        // Changing protocol unasked is no answer to anything.
        _ => {
            account.refused(shared, &Refused::NoResponse);
            Refused::NoResponse.into_response(turn, account)
        }
    }
}
