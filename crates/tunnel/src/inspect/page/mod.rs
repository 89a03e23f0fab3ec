//! The local page: an HTTP server on this machine, and what it answers.
//!
//! `/` is the page; it lives off the API, which programs may use as well:
//!
//! * `GET /api/requests`: `{"requests": […]}`, the newest first; with `?follow=true` a
//!   line for each, the oldest first, and then one whenever something changes (NDJSON);
//! * `GET /api/requests/ID`: all that may be shown of one;
//! * `POST /api/requests/ID/replay`: sends it to the program again.

mod answers;
mod api;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::answers::{Body, fixed, problem};
use super::guard;
use super::service::Inspector;

/// Where the page is if nothing else is asked for.
pub const DEFAULT_PORT: u16 = 4040;

/// Ports that are tried in turn if the first is taken: one for each agent of a machine.
pub const PORTS: u16 = 10;

/// Browsers hold some six; more than a few browsers are not at one page.
const CONNECTIONS_MAX: usize = 64;

/// Who sends nothing for so long holds a place for nobody.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What goes wrong with `accept` passes, or is there again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("{0} is not an address of this machine alone: everybody there could see the requests")]
    NotLoopback(SocketAddr),
    #[error("{at} cannot be listened at")]
    Bind { at: SocketAddr, source: io::Error },
}

/// A page that listens, and is not served yet.
#[derive(Debug)]
pub struct Page {
    listener: TcpListener,
    address: SocketAddr,
}

impl Page {
    /// Takes an address of this machine.
    ///
    /// # Errors
    /// When it is not one of the loopback, or cannot be had.
    pub async fn bind(at: SocketAddr) -> Result<Page, PageError> {
        if !at.ip().is_loopback() {
            return Err(PageError::NotLoopback(at));
        }
        let listen = async {
            let listener = TcpListener::bind(at).await?;
            let address = listener.local_addr()?;
            Ok(Page { listener, address })
        };
        listen.await.map_err(|source| PageError::Bind { at, source })
    }

    /// Takes the first free one of the usual ports.
    ///
    /// # Errors
    /// When none can be had: says why of the first.
    pub async fn bind_usual() -> Result<Page, PageError> {
        let mut first = None;
        for port in DEFAULT_PORT..DEFAULT_PORT + PORTS {
            let at = SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), port));
            match Page::bind(at).await {
                Ok(page) => return Ok(page),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        match first {
            Some(error) => Err(error),
            None => Page::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))).await,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows what an inspector keeps, until dropped.
    pub async fn serve(self, inspector: Arc<Inspector>) {
        let mut connections = JoinSet::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "the inspector takes no connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let inspector = Arc::clone(&inspector);
            connections.spawn(async move {
                converse(stream, inspector).await;
                drop(place);
            });
        }
    }
}

async fn converse(stream: TcpStream, inspector: Arc<Inspector>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&inspector, &request.into_parts().0);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

fn answer(inspector: &Arc<Inspector>, parts: &Parts) -> Response<Body> {
    if let Err(foreign) = guard::check(parts) {
        return problem(StatusCode::FORBIDDEN, "foreign", &foreign.to_string());
    }
    let Some(journal) = &inspector.journal else {
        return problem(StatusCode::NOT_FOUND, "not_kept", "requests are not kept");
    };
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (&parts.method, segments.as_slice()) {
        (&Method::GET, [""]) => fixed("text/html; charset=utf-8", include_str!("page.html")),
        (&Method::GET, ["page.js"]) => {
            fixed("text/javascript; charset=utf-8", include_str!("page.js"))
        }
        (&Method::GET, ["page.css"]) => fixed("text/css; charset=utf-8", include_str!("page.css")),
        (&Method::GET, ["api", "requests"]) => api::list(journal, query),
        (&Method::GET, ["api", "requests", id]) => api::one(journal, id),
        (&Method::POST, ["api", "requests", id, "replay"]) => api::replay(inspector, id),
        (&Method::GET | &Method::POST, _) => {
            problem(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
        }
        _ => problem(StatusCode::METHOD_NOT_ALLOWED, "method", "GET and POST only"),
    }
}
