//! A small, fast server of static files: what answers inside an instance that
//! was made from a folder.
//!
//! Start from [`serve`], or from [`Server`] to learn the bound addresses first.
//! A request goes through the files in this order: [`server`] (connections),
//! `respond` (which answer), `target` (what the URL names), `root` (the file,
//! and nothing outside), `conditions` (whether and which part), `body` (bytes).
//!
//! Invariants, all of them absences:
//! * It knows nothing of the platform that starts it, and reads no environment.
//! * No request opens a file outside the root, whatever links lie in it.
//! * It writes nothing but the access log, and no request waits for that.
//! * Memory does not depend on the size of a file.

mod access;
mod body;
mod conditions;
mod error;
mod listen;
mod options;
mod respond;
mod root;
mod server;
mod target;

pub use access::AccessLog;
pub use error::FilesError;
pub use options::Options;
pub use server::{Server, serve, termination};
