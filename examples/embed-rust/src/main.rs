//! A program in Rust that has a public URL and listens nowhere: visitors come through its
//! own agent of a tunnel.
//!
//! ```text
//! embed-rust URL TOKEN NAME
//! ```
//!
//! It says the URL once visitors come, and runs until it is ended.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use helix_client::{Client, TunnelGrants};
use helix_model::api::CreateTunnel;
use helix_model::reference::Scope;
use helix_tunnel::{Agent, ByteStream, Choice, Config, Phase, Service, Visitor};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// Answers visitors itself.
struct Page;

#[async_trait]
impl Service for Page {
    async fn carry(&self, visitor: Visitor) {
        let stream = TokioIo::new(ByteStream::from(visitor.stream));
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(stream, service_fn(greet));
        // A visitor that breaks off is nobody's mistake.
        let _ = connection.await;
    }
}

async fn greet(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("hello from rust, at {}\n", request.uri().path());
    Ok(Response::new(Full::new(text.into())))
}

/// Has the tunnel of this name, and an agent for it. Dropping the agent ends it.
pub async fn offer(
    url: &str,
    token: &str,
    name: &str,
) -> Result<(Agent, String), Box<dyn Error + Send + Sync>> {
    let client = Client::new(url, Some(token))?;
    let ask = CreateTunnel { requested_name: Some(name.parse()?), ..CreateTunnel::default() };
    let (grants, granted) = TunnelGrants::ask(client, Scope::default(), ask).await?;
    let agent = Agent::start(Config {
        first: Some(TunnelGrants::read(&granted)),
        grants: Arc::new(grants),
        service: Arc::new(Page),
        proxy_protocol: false,
        transport: Choice::Auto,
        proxy: None,
        version: "embed-rust".to_owned(),
    });
    Ok((agent, granted.public_url))
}

/// See the top of this file.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, token, name] = arguments.as_slice() else {
        return Err("usage: embed-rust URL TOKEN NAME".into());
    };
    let (agent, public_url) = offer(url, token, name).await?;
    let mut phases = agent.phases();
    let settled = |phase: &Phase| matches!(phase, Phase::Attached { .. } | Phase::Ended { .. });
    let phase = phases.wait_for(settled).await?.clone();
    if let Phase::Ended { why } = phase {
        return Err(why.into());
    }
    writeln!(std::io::stdout(), "{public_url}")?;
    phases.wait_for(|phase| matches!(phase, Phase::Ended { .. })).await?;
    Ok(())
}
