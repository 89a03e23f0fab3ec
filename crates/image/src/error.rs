//! What can go wrong with an image, with a stable code for each reason.
//!
//! Codes are part of the product's contract: conditions, events and `helix
//! explain` use them. Messages say what was attempted on what; the cause is the
//! `source`, never repeated in the message.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::Digest;
use crate::manifest::Platform;
use crate::reference::ParseReferenceError;
use crate::unpack::UnpackError;

/// A boxed cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why work on an image failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is no image reference.
    #[error("`{text}` is not an image reference")]
    ReferenceInvalid {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        #[source]
        source: ParseReferenceError,
    },
    /// The registry has no such manifest or blob.
    #[error("{what} was not found")]
    NotFound {
        /// The reference or digest asked for.
        what: String,
    },
    /// The registry could not be reached or answered with an error.
    #[error("cannot fetch {what}")]
    PullFailed {
        /// What was being fetched.
        what: String,
        /// Whether trying again can help.
        retryable: bool,
        /// The underlying failure.
        #[source]
        source: Cause,
    },
    /// The registry refused or broke an upload.
    #[error("cannot upload {what}")]
    PushFailed {
        /// What was being uploaded.
        what: String,
        /// Whether trying again can help.
        retryable: bool,
        /// The underlying failure.
        #[source]
        source: Cause,
    },
    /// A transfer took longer than allowed.
    #[error("{what} was not finished within {} s", limit.as_secs())]
    PullTimeout {
        /// What was being transferred.
        what: String,
        /// How long it was given.
        limit: Duration,
    },
    /// A limit on size or count is exceeded.
    #[error("{what}, more than the limit of {limit}")]
    TooLarge {
        /// What is too large, and how large it is.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// A layer is no proper archive, or a hostile one.
    #[error("layer {layer} cannot be unpacked")]
    LayerInvalid {
        /// The layer's digest.
        layer: Digest,
        /// What is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// Content is not what its digest or size says.
    #[error("{what} does not match its digest: expected {expected}, got {actual}")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// Digest (or size) it should have.
        expected: String,
        /// Digest (or size) it has.
        actual: String,
    },
    /// The image is not offered for this machine.
    #[error("{reference} has no image for {wanted}; it has {offered}")]
    PlatformMissing {
        /// What was asked for.
        reference: String,
        /// This machine.
        wanted: Platform,
        /// Platforms on offer.
        offered: String,
    },
    /// The registry wants other credentials.
    #[error("{registry} refused access to {repository}")]
    Unauthorized {
        /// Registry host.
        registry: String,
        /// Repository asked for.
        repository: String,
    },
    /// A manifest or config document cannot be understood.
    #[error("the document {digest} is not a usable manifest or config: {reason}")]
    ManifestInvalid {
        /// The document.
        digest: Digest,
        /// What is wrong.
        reason: String,
        /// Parser's complaint.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// An image archive cannot be understood.
    #[error("{} is not an image archive: {reason}", path.display())]
    ArchiveInvalid {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The local disk failed.
    #[error("cannot {action} {}", path.display())]
    Storage {
        /// What was attempted, an infinitive.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Work on another thread was cut short, as at shutdown.
    #[error("the work was interrupted")]
    Interrupted,
}

impl ImageError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ReferenceInvalid { .. } => "image_reference_invalid",
            Self::NotFound { .. } => "image_not_found",
            Self::PullFailed { .. } | Self::Interrupted => "image_pull_failed",
            Self::PushFailed { .. } => "image_push_failed",
            Self::PullTimeout { .. } => "image_pull_timeout",
            Self::TooLarge { .. } => "image_too_large",
            Self::LayerInvalid { .. } => "image_layer_invalid",
            Self::DigestMismatch { .. } => "image_digest_mismatch",
            Self::PlatformMissing { .. } => "image_platform_missing",
            Self::Unauthorized { .. } => "registry_unauthorized",
            Self::ManifestInvalid { .. } => "image_manifest_invalid",
            Self::ArchiveInvalid { .. } => "image_archive_invalid",
            Self::Storage { source, .. } if is_full(source) => "disk_full",
            Self::Storage { .. } => "image_store_failed",
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self.code() {
            "image_reference_invalid" => "write it as host/name:tag or host/name@sha256:…",
            "image_not_found" => "check the name and the tag, and that the image was pushed",
            "image_pull_failed" | "image_push_failed" => {
                "check that the registry is reachable from this machine"
            }
            "image_pull_timeout" => "check the network to the registry, or use a smaller image",
            "image_too_large" => "make the image smaller: fewer layers, a slimmer base",
            "image_layer_invalid" => "build and push the image again",
            "image_digest_mismatch" => {
                "the registry or something before it serves wrong content; pull from another one"
            }
            "image_platform_missing" => "build the image for this machine's processor",
            "registry_unauthorized" => {
                "give a login that may use this repository: `helix registries add HOST`"
            }
            "image_manifest_invalid" => "build and push the image again with a current tool",
            "image_archive_invalid" => "make it with `docker save` or as an OCI archive",
            "disk_full" => "free disk space in the data directory",
            _ => "check the data directory and its permissions",
        }
    }

    /// Whether the same call may succeed later without anything being changed.
    pub fn retryable(&self) -> bool {
        match self {
            Self::PullFailed { retryable, .. } | Self::PushFailed { retryable, .. } => *retryable,
            Self::PullTimeout { .. } | Self::Interrupted | Self::Storage { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn storage(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Storage { action, path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn manifest_invalid(digest: Digest, source: serde_json::Error) -> Self {
        Self::ManifestInvalid {
            digest,
            reason: "it does not have the fields it must have".to_owned(),
            source: Some(source),
        }
    }
}

impl From<tokio::task::JoinError> for ImageError {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Interrupted
    }
}

pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
