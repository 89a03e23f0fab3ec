//! Why the agent could not do what it was asked.

use std::path::{Path, PathBuf};

use helix_model::{Id, Instance};
use helix_runtime::Failure;

/// A refusal of the agent.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The agent's own files failed it.
    #[error("cannot {action} {}", path.display())]
    Files {
        /// What was attempted, an infinitive.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file of the agent is not what the agent writes.
    #[error("cannot understand {}", path.display())]
    Garbled {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The image store failed.
    #[error("cannot open the image store")]
    Images(#[source] helix_image::ImageError),
    /// The isolation level asked for does not work on this machine.
    #[error("isolation `{level}` does not work on this machine: {reason}")]
    Isolation {
        /// The level.
        level: &'static str,
        /// Why not.
        reason: String,
    },
    /// The pool that volumes are to be kept in cannot be used.
    #[error("volumes cannot be kept in the pool `{pool}`: {reason}")]
    Pool {
        /// The pool, as it was named.
        pool: String,
        /// Why not.
        reason: String,
    },
    /// The instance does not run here.
    #[error("the instance {0} is not running on this node")]
    NotRunning(Id<Instance>),
    /// The runtime refused.
    #[error("cannot run the command in the instance")]
    Exec(#[source] Failure),
}

impl NodeError {
    /// What a person can do about it, where one thing is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            NodeError::Files { .. } => Some("check the data directory, its owner and free space"),
            NodeError::Garbled { .. } => Some("remove the file; the control plane sends it anew"),
            NodeError::Images(error) => Some(error.hint()),
            NodeError::Isolation { .. } => Some("leave the isolation level out to take the best"),
            NodeError::Pool { .. } => Some(
                "`lvs -o vg_name,lv_name,segtype` shows the thin pools there are; leave \
                 --volume-pool (HELIX_VOLUME_POOL) out to keep volumes in files",
            ),
            NodeError::NotRunning(_) => None,
            NodeError::Exec(failure) => failure.reason.hint(),
        }
    }

    pub(crate) fn files(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> NodeError {
        move |source| NodeError::Files { action, path: path.to_owned(), source }
    }
}
