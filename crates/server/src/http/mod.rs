//! The HTTP API: one file per noun or verb, this one ties them together.
//!
//! [`routes`] has every path with who may ask for it. Every request passes
//! [`gate`]: it gets a request id, proves who it is, and leaves with the log
//! position it reflects. [`access`] tells tenants apart.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::server::Shared;

pub(crate) use exec_tokens::ExecTokens;
pub(crate) use identity::Uses;
pub(crate) use images::new_registry;
pub use openapi::document as openapi_document;
pub use routes::{ROUTES, Route, Rule};

mod access;
mod addresses;
mod admin;
mod answer;
mod audit;
mod certificates;
mod config;
mod create;
mod cursor;
mod deploys;
mod destroy;
mod domains;
mod endpoints;
mod events;
mod exec;
mod exec_tokens;
mod forward;
mod gate;
mod identity;
mod images;
mod link;
mod login;
mod logs;
mod members;
mod nodes;
mod openapi;
mod pages;
mod problem;
mod quotas;
mod receipts;
mod registries;
mod releases;
mod replicas;
mod resources;
mod routes;
mod scale;
mod secrets;
mod sender;
mod snapshots;
mod streams;
mod tokens;
mod traffic;
mod tunnels;
mod usage;
mod users;
mod verify;
mod version;
mod volumes;
mod wait;

type Api = Arc<Shared>;

/// Serves until the server is closing and open requests have ended.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let done = shared.closed();
    let service = routes::router(shared).into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(done).await {
        tracing::error!(%error, "the API listener failed");
    }
}
