//! User traffic: listeners, routing and proxying.
//!
//! Start from [`Edge`]: it takes an [`EdgePlan`](helix_model::plan::EdgePlan),
//! the whole of what it should be serving, and answers with an
//! [`EdgeReport`](helix_model::plan::EdgeReport), where each endpoint can be
//! reached and which draining instances have no work left. Inside, one loop
//! (`director`) owns listeners and turns plans into immutable routing tables;
//! `http`, `tcp` and `udp` only read the table in force. `tls` decrypts what is then
//! `http`, with certificates that it fetches by the plan, and hands what is not to be
//! decrypted to `tcp`. The last plan is kept on disk,
//! so an edge serves with the control plane gone.
//!
//! This crate must not know how a route was decided: no users, orgs, releases
//! or HTTP API. It never invents a route and never checks an instance's health.

mod access_log;
mod admission;
mod agents;
mod any_ip;
mod backend;
mod config;
mod director;
mod edge;
mod error;
mod hosts;
mod http;
mod meter;
mod meters;
mod metrics;
mod ports;
mod proxy_protocol;
mod report;
mod saved_plan;
mod scratch;
mod service;
mod shards;
mod shared;
mod sockets;
mod stats;
mod table;
mod takeover;
mod tcp;
mod tls;
mod udp;
mod unread;
mod upstream;
mod work;

pub use access_log::{AccessLogConfig, Clients, LogTarget};
pub use config::{AnyIp, Config, QuicPort, Takeover};
pub use edge::Edge;
pub use error::EdgeError;
pub use proxy_protocol::{Ends, Header, HeaderError, read_header};
pub use stats::Stats;
pub use tls::{CertificateSource, Fetched, Hello, read_hello};
