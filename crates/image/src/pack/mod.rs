//! Build packs: from a folder to an image in a store. Start at [`detect`], then
//! [`build`].
//!
//! | pack | takes | makes |
//! |---|---|---|
//! | `dockerfile` | a `Dockerfile` | whatever docker, buildah or podman build from it |
//! | `static` | files to serve | the `helix` binary as file server, and the files |
//! | `binary` | a static executable | the executable, and the other files beside it |

pub mod binary;
mod detect;
pub mod dockerfile;
pub mod elf;
mod ignored;
mod lines;
pub mod static_files;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use detect::detect;
pub use dockerfile::builder;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::BUILD_TIMEOUT;
use crate::store::Store;

/// What the manifest's `[build]` says.
#[derive(Debug, Clone, Default)]
pub struct PackSettings {
    /// Which pack; detected when absent.
    pub pack: Option<PackKind>,
    /// The Dockerfile, below the folder.
    pub dockerfile: Option<String>,
    /// The executable, below the folder.
    pub binary: Option<String>,
    /// The folder to serve, below the folder.
    pub static_root: Option<String>,
}

/// Kinds of packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackKind {
    /// Build a Dockerfile.
    Dockerfile,
    /// Serve files.
    Static,
    /// Run a static executable.
    Binary,
}

/// What will be built and from what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pack {
    /// Build this Dockerfile.
    Dockerfile {
        /// The Dockerfile.
        file: PathBuf,
    },
    /// Serve these files.
    Static {
        /// The folder to serve.
        root: PathBuf,
    },
    /// Run this executable.
    Binary {
        /// The executable.
        path: PathBuf,
    },
}

/// Receives build output, line by line.
pub type BuildOutput = std::sync::Arc<dyn Fn(&str) + Send + Sync>;

/// Why a folder does not become an image.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Nothing in the folder says how to build it.
    #[error("{} cannot be built: {looked_for}", folder.display())]
    Undetected {
        /// The folder.
        folder: PathBuf,
        /// What was looked for and what was found instead.
        looked_for: String,
    },
    /// What the settings name is not there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// What was named.
        path: PathBuf,
    },
    /// What the settings name lies outside the folder.
    #[error("`{name}` leads out of the folder")]
    Outside {
        /// What was named.
        name: String,
    },
    /// The executable does not run in an empty image.
    #[error("{} {reason}", path.display())]
    Executable {
        /// The executable.
        path: PathBuf,
        /// Why not, as the end of a sentence.
        reason: String,
    },
    /// No program that builds Dockerfiles is usable here.
    #[error("building {} needs docker, buildah or podman; {found}", file.display())]
    BuilderMissing {
        /// The Dockerfile.
        file: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// The builder said no.
    #[error("`{builder}` failed with {status}")]
    BuildFailed {
        /// The program.
        builder: String,
        /// Its exit status.
        status: String,
    },
    /// The builder took too long.
    #[error("the build was not finished within {} s", BUILD_TIMEOUT.as_secs())]
    BuildTimeout,
    /// Reading the folder or running the builder failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Making the image failed.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl PackError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Undetected { .. } => "pack_undetected",
            Self::Missing { .. } | Self::Outside { .. } => "build_input_missing",
            Self::Executable { .. } => "binary_unusable",
            Self::BuilderMissing { .. } => "builder_missing",
            Self::BuildFailed { .. } | Self::Io { .. } => "build_failed",
            Self::BuildTimeout => "build_timeout",
            Self::Image(error) => error.code(),
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Undetected { .. } => "set `pack` in the `[build]` section, or add a Dockerfile",
            Self::Missing { .. } | Self::Outside { .. } => {
                "paths in `[build]` are relative to the folder of helix.toml"
            }
            Self::Executable { .. } => "link it statically or use a Dockerfile",
            Self::BuilderMissing { .. } => {
                "install one of the Debian packages `buildah`, `podman` or `docker.io`"
            }
            Self::BuildFailed { .. } => "the build output above says why",
            Self::BuildTimeout => "make the build faster, or build elsewhere and deploy the image",
            Self::Io { .. } => "check that the folder is readable",
            Self::Image(error) => error.hint(),
        }
    }

    /// Whether the same build may succeed later without anything being changed.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::BuildTimeout) || matches!(self, Self::Image(e) if e.retryable())
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source }
    }
}

/// Builds the folder with a detected pack and returns the image's manifest
/// digest. `helix_binary` is the program that serves files; only the `static`
/// pack reads it. Dropping the future ends the build.
pub async fn build(
    store: &Store,
    folder: &Path,
    pack: &Pack,
    helix_binary: &Path,
    output: &BuildOutput,
) -> Result<Digest, PackError> {
    match pack {
        Pack::Static { root } => static_files::build(store, folder, root, helix_binary).await,
        Pack::Binary { path } => binary::build(store, folder, path).await,
        Pack::Dockerfile { file } => dockerfile::build(store, folder, file, output).await,
    }
}
