//! Manifests and indexes, as the OCI image spec 1.1 and Docker's schema 2
//! define them.
//!
//! Types of our own rather than `oci-spec`'s: that crate keeps labels and ports
//! in hash maps, so writing the same image twice gives two digests, and "same
//! input, same digest" is what [`compose`](crate::compose) promises. Unknown
//! fields are ignored; stored manifests keep their original bytes.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::{COMPRESSED_IMAGE_BYTES_MAX, LAYERS_MAX};

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Uncompressed layer, what `compose` writes.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker schema 2 manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a puller accepts, best first.
pub(crate) const ACCEPTED: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// A pointer to content: type, digest and size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// In an index: where the manifest pointed to runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// Operating system and processor, in Go's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`, …
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// What runs here.
    pub fn current() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// Whether content for `other` runs on this platform. Variants are not
    /// compared: among several, the first listed (the baseline) is taken.
    fn runs(&self, other: &Platform) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of this document, when it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The config document.
    pub config: Descriptor,
    /// Layers, base first.
    pub layers: Vec<Descriptor>,
}

/// One name for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of this document, when it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// One manifest per platform.
    pub manifests: Vec<Descriptor>,
}

/// What a manifest address can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several, by platform.
    Index(Index),
}

impl Document {
    /// Reads either kind. The document's own shape decides, since media types
    /// are often missing or wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: Option<u32>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let digest = Digest::of(bytes);
        let invalid = |source| ImageError::manifest_invalid(digest, source);
        let shape: Shape = serde_json::from_slice(bytes).map_err(invalid)?;
        if shape.schema_version != Some(2) {
            return Err(ImageError::ManifestInvalid {
                digest,
                reason: "only schema version 2 is supported".to_owned(),
                source: None,
            });
        }
        if shape.manifests.is_some() {
            return serde_json::from_slice(bytes).map(Self::Index).map_err(invalid);
        }
        serde_json::from_slice(bytes).map(Self::Manifest).map_err(invalid)
    }

    /// The media type to serve this document with.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST),
            Self::Index(index) => index.media_type.as_deref().unwrap_or(OCI_INDEX),
        }
    }
}

impl Manifest {
    /// Sum of the layers' sizes as transferred, in bytes.
    pub fn layer_bytes(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }

    /// Checks the limits a manifest can be held to before anything is fetched.
    pub fn check_limits(&self) -> Result<(), ImageError> {
        if self.layers.len() > LAYERS_MAX {
            return Err(ImageError::TooLarge {
                what: format!("the image has {} layers", self.layers.len()),
                limit: format!("{LAYERS_MAX} layers"),
            });
        }
        if self.layer_bytes() > COMPRESSED_IMAGE_BYTES_MAX {
            return Err(ImageError::TooLarge {
                what: format!("the layers are {} bytes as transferred", self.layer_bytes()),
                limit: format!("{COMPRESSED_IMAGE_BYTES_MAX} bytes"),
            });
        }
        Ok(())
    }
}

impl Index {
    /// The manifest for `platform`.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .find(|entry| entry.platform.as_ref().is_some_and(|offered| platform.runs(offered)))
    }

    /// The platforms on offer, for an error message.
    pub fn platforms(&self) -> String {
        let offered = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        offered.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}
