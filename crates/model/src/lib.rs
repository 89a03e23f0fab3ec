//! The nouns of the platform: ids, manifest, resources, commands, events and
//! the state they fold into.
//!
//! Start from [`State`], the fold over every [`Event`]; then [`Command`], what
//! may be asked of it; then [`plan`], what nodes and edges are told. Each noun
//! has one file (`app.rs`, `deploy.rs`, …) that holds its spec, its commands'
//! payloads, its events and how they apply.
//!
//! This crate knows nothing else: no I/O, no clock, no randomness, no async.
//! Time and fresh ids arrive as parameters inside events.

pub mod acme;
pub mod address;
pub mod admin;
pub mod api;
pub mod app;
pub mod audit;
pub mod bundle;
pub mod certificate;
pub mod command;
pub mod condition;
pub mod config;
pub mod deploy;
pub mod destroy;
pub mod diff;
pub mod domain;
pub mod edge;
pub mod endpoint;
pub mod env;
pub mod event;
pub mod explain;
pub mod host;
pub mod id;
pub mod index;
pub mod installation;
pub mod instance;
pub mod kind;
pub mod link;
pub mod log_filter;
pub mod manifest;
pub mod member;
pub mod name;
pub mod network;
pub mod node;
pub mod org;
pub mod past;
pub mod permission;
pub mod plan;
pub mod policy;
pub mod ports;
pub mod problem;
pub mod project;
pub mod quota;
pub mod reason;
pub mod receipt;
pub mod reference;
pub mod registry;
pub mod release;
pub mod release_command;
pub mod resource;
mod schema;
pub mod secret_file;
pub mod snapshot;
pub mod state;
pub mod state_file;
pub mod tally;
pub mod timestamp;
pub mod token;
pub mod traffic;
pub mod tunnel;
pub mod usage;
pub mod user;
pub mod version;
pub mod view;
pub mod volume;

pub use app::App;
pub use bundle::Bundle;
pub use certificate::Certificate;
pub use command::Command;
pub use condition::Condition;
pub use deploy::Deploy;
pub use domain::Domain;
pub use edge::Edge;
pub use endpoint::Endpoint;
pub use env::Env;
pub use event::{Actor, Event, Recorded};
pub use id::{AnyId, Id};
pub use instance::Instance;
pub use kind::{Kind, Noun};
pub use log_filter::{LogFilter, LogMatcher, LogStream};
pub use manifest::Manifest;
pub use member::Member;
pub use name::Name;
pub use node::Node;
pub use org::Org;
pub use permission::{Permission, Permissions, Role};
pub use problem::{Code, Problem};
pub use project::Project;
pub use reason::Reason;
pub use receipt::Receipt;
pub use release::Release;
pub use resource::{Resource, Table};
pub use snapshot::Snapshot;
pub use state::State;
pub use timestamp::Timestamp;
pub use token::Token;
pub use tunnel::Tunnel;
pub use user::User;
pub use volume::Volume;
