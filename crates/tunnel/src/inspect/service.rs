//! Takes visitors that speak HTTP, and passes what they ask for on to the program.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use helix_link::ByteStream;
use http::header::HeaderValue;
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy;
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::HEAD_BYTES_MAX;
use super::exchange::{Answered, Asked};
use super::journal::{Journal, Record, Side};
use super::policy::{Instead, Policy, refusal};
use super::program::{Body, Program, upgrade_of};
use super::tap::Tap;
use crate::protocol::Carries;
use crate::service::{Service, Visitor};

/// What an inspector does with requests.
#[derive(Default)]
pub struct Options {
    /// Where the program listens: `127.0.0.1:3000`, or a name and a port.
    pub to: String,
    /// What the program is told as `Host`, in place of what the visitor asked for.
    pub host: Option<HeaderValue>,
    /// All of them let a request in, in this order, or it is not.
    pub policies: Vec<Box<dyn Policy>>,
    /// Where requests are kept, if anywhere.
    pub journal: Option<Arc<Journal>>,
}

/// Passes requests on to a program that listens, and keeps the last of them.
pub struct Inspector {
    pub(super) program: Program,
    policies: Vec<Box<dyn Policy>>,
    pub(super) journal: Option<Arc<Journal>>,
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("to", &self.program.to()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Service for Arc<Inspector> {
    async fn carry(&self, visitor: Visitor) {
        let Visitor { opening, stream } = visitor;
        if opening.carries == Carries::Datagrams {
            return stream.sender.reset("only HTTP is passed on here");
        }
        let upgraded = TaskTracker::new();
        let service = service_fn(|request| {
            let (inspector, upgraded) = (Arc::clone(self), upgraded.clone());
            async move { Ok::<_, Infallible>(inspector.answer(request, &upgraded).await) }
        });
        let connection = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(ByteStream::from(stream)), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(to = self.program.to(), %error, "a visitor was not served to the end");
        }
        upgraded.close();
        upgraded.wait().await;
    }
}

impl Inspector {
    pub fn new(options: Options) -> Arc<Inspector> {
        let Options { to, host, policies, journal } = options;
        Arc::new(Inspector { program: Program::new(to, host), policies, journal })
    }

    async fn answer(&self, request: Request<Incoming>, upgraded: &TaskTracker) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let client = client(&parts);
        let verdict = self.admit(&mut parts, client).await;
        let record = self.journal.as_ref().map(|it| it.begin(asked(&parts), client, None));
        if let Err(answer) = verdict {
            return given(*answer, record);
        }
        let tap = Tap::new(body, record.clone(), Side::Request);
        let on_visitor = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let request = Request::from_parts(parts, tap.map_err(Into::into).boxed_unsync());
        let mut response = match self.program.ask(request).await {
            Ok(response) => response,
            Err(error) => return self.unanswered(&error, record),
        };
        if let Some(record) = &record {
            record.answered(head(&response));
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let on_program = hyper::upgrade::on(&mut response);
            upgraded.spawn(pass(on_visitor, on_program, record.clone()));
            // There is no body to look at: what follows is another protocol.
            return response.map(|_| empty());
        }
        response
            .map(|body| Tap::new(body, record, Side::Response).map_err(Into::into).boxed_unsync())
    }

    async fn admit(&self, parts: &mut Parts, client: Option<IpAddr>) -> Result<(), Instead> {
        for policy in &self.policies {
            policy.admits(parts, client).await?;
        }
        Ok(())
    }

    /// What the visitor is told when the program is not. Where the program is, is no
    /// business of visitors.
    fn unanswered(&self, error: &legacy::Error, record: Option<Arc<Record>>) -> Response<Body> {
        let why = match error.is_connect() {
            true => "the program behind this tunnel does not answer",
            false => "the program behind this tunnel broke off before it answered",
        };
        let cause = self.cause(error);
        tracing::debug!("{cause}");
        if let Some(record) = &record {
            record.failed(&cause);
        }
        given(*refusal(StatusCode::BAD_GATEWAY, "tunnel_target_down", why), record)
    }

    /// What went wrong, for whoever works on the program.
    pub(super) fn cause(&self, error: &legacy::Error) -> String {
        let what = if error.is_connect() { "does not answer" } else { "broke off" };
        format!("{} {what}: {}", self.program.to(), root(error))
    }
}

/// What lies below all that was said above it.
fn root(error: &legacy::Error) -> &dyn std::error::Error {
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

/// Where the edge says that the visitor comes from. It has one address there; if there
/// were several, only the last would be the edge's word.
fn client(parts: &Parts) -> Option<IpAddr> {
    let value = parts.headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next()?.trim().parse().ok()
}

fn asked(parts: &Parts) -> Asked {
    Asked {
        method: parts.method.clone(),
        target: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers: parts.headers.clone(),
        is_upgrade: upgrade_of(&parts.headers).is_some(),
    }
}

pub(super) fn head<B>(response: &Response<B>) -> Answered {
    Answered { status: response.status(), headers: response.headers().clone() }
}

/// An answer that is there already, kept as if the program had given it.
fn given(answer: Response<Bytes>, record: Option<Arc<Record>>) -> Response<Body> {
    if let Some(record) = &record {
        record.answered(head(&answer));
    }
    let (mut parts, body) = answer.into_parts();
    parts.version = Version::HTTP_11;
    let tap = Tap::new(Full::new(body), record, Side::Response);
    Response::from_parts(parts, tap.map_err(Into::into).boxed_unsync())
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(Into::into).boxed_unsync()
}

/// Passes bytes both ways until both ends have ended.
async fn pass(
    visitor: Option<hyper::upgrade::OnUpgrade>,
    program: hyper::upgrade::OnUpgrade,
    record: Option<Arc<Record>>,
) {
    let Some(visitor) = visitor else { return };
    let passed = async {
        let (visitor, program) = tokio::try_join!(visitor, program)?;
        let (mut visitor, mut program) = (TokioIo::new(visitor), TokioIo::new(program));
        tokio::io::copy_bidirectional(&mut visitor, &mut program).await.map_err(BoxedIo::from)
    };
    match passed.await {
        Ok((sent, received)) => {
            if let Some(record) = &record {
                record.body(Side::Request, |kept| kept.size = sent);
                record.body(Side::Response, |kept| kept.size = received);
            }
        }
        Err(BoxedIo(error)) => tracing::debug!(%error, "an upgraded connection broke off"),
    }
}

/// Either error of an upgraded connection.
struct BoxedIo(tower::BoxError);

impl From<hyper::Error> for BoxedIo {
    fn from(error: hyper::Error) -> BoxedIo {
        BoxedIo(error.into())
    }
}

impl From<std::io::Error> for BoxedIo {
    fn from(error: std::io::Error) -> BoxedIo {
        BoxedIo(error.into())
    }
}
