//! The shell round the core: one writer that decides and records, and
//! everything that speaks to it.
//!
//! Start from [`Server::start`]: it replays the log, runs the [`engine`], the
//! reconciler and the HTTP API. Nodes and edges are reached through the traits
//! in [`links`]; what isolation is, or how user traffic flows, is not known
//! here.

pub mod engine;
pub mod links;

mod acme;
mod attach;
mod audit;
mod auth;
mod backups;
mod certificates;
mod clock;
mod domains;
mod elsewhere;
mod entropy;
mod exec_sessions;
mod http;
mod machines;
mod observe;
mod reconciler;
mod registries;
mod replicas;
mod retention;
mod secrets;
mod server;
mod storage;
mod token;
mod traffic;
mod tunnels;

pub use acme::Acme;
pub use attach::{Attached, AttachedEdge};
pub use domains::Domains;
pub use engine::{Engine, EngineError, Idempotency, Origin, Writers};
pub use helix_dns::Resolver;
pub use http::{ROUTES, Route, Rule, openapi_document};
pub use registries::Registries;
pub use server::{Advertise, Config, Server, ServerError};
pub use storage::{ExportError, ImportError, Keep, StateImportError, Storage, StorageError};
pub use token::{Token, TokenHash};
