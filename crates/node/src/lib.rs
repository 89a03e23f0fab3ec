//! The agent on a machine: makes this machine match its node plan.
//!
//! Start at [`Agent`]. A plan is complete and the latest wins; what it names is
//! fetched, started, probed and started again when it ends, what it does not
//! name is stopped and removed. One task per instance feeds a pure state
//! machine (`lifecycle`) and does what that asks for (`actor`); one task owns
//! the set (`supervisor`). Instances outlive the agent: being killed at any
//! moment costs nothing but the observations made meanwhile.
//!
//! It must not know users, organisations, routes, how a plan came to be, or
//! how a control plane is reached.

mod actor;
mod address;
mod agent;
mod board;
mod boot;
mod config;
mod disk;
mod egress;
mod error;
mod facts;
mod files;
mod gone;
mod images;
mod lifecycle;
mod logs;
mod machine;
mod peers;
mod probe;
mod retention;
mod rules;
mod secrets;
mod shared;
mod slot;
mod supervisor;
mod volume;

pub use agent::{Agent, Snapshots, Stop, Volumes};
pub use board::Observation;
pub use config::{Config, Entropy, OwnRegistry};
pub use disk::{DiskLimits, DiskSeen};
pub use error::NodeError;
pub use helix_runtime::{ExecEvent, ExecInput, ExecOutput, ExecSession, Isolation};
pub use logs::{LogQuery, LogStream};
pub use secrets::SecretSource;
pub use volume::{BackupKeeper, BackupRefusal};
