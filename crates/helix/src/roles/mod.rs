//! `helix server`, `helix node` and `helix edge`: one room each in a process of
//! its own, and the links between them.

mod answer;
mod dialler;
mod edge;
mod node;
mod server;

use async_trait::async_trait;
use helix_cli::{EdgeOptions, NodeOptions, Role, Roles, ServerOptions};
use helix_model::{Code, Problem};

use crate::up::LocalPlatform;

#[async_trait]
impl Roles for LocalPlatform {
    async fn server(&self, options: ServerOptions) -> Result<Box<dyn Role>, Problem> {
        Ok(Box::new(server::start(options).await?))
    }

    async fn node(&self, options: NodeOptions) -> Result<Box<dyn Role>, Problem> {
        Ok(Box::new(node::start(options).await?))
    }

    async fn edge(&self, options: EdgeOptions) -> Result<Box<dyn Role>, Problem> {
        Ok(Box::new(edge::start(options).await?))
    }
}

/// A part that ended although nobody asked it to.
fn ended_by_itself(role: &str) -> Box<helix_model::Problem> {
    let detail = format!("a part of the {role} ended by itself");
    Box::new(
        Problem::new(Code::Internal, detail).hint("start it again; HELIX_LOG=debug shows more"),
    )
}

/// A directory or a part that cannot be used.
fn unusable(error: &(dyn std::error::Error + 'static), hint: &str) -> Problem {
    Problem::new(Code::PreconditionFailed, crate::node_link::chain(error)).hint(hint)
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness pauses are only less spread.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
