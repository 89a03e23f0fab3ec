//! Unpacking layers into a directory, whoever wrote them. Start at
//! [`Unpacker::layer`], or [`unpack_layer`] for a single archive.
//!
//! `ahead` decompresses, `stream` hashes and counts, `inside` finds the place of a name without
//! ever leaving the root, `entry` makes one file, directory or link, `whiteout`
//! deletes what an upper layer hides.
//!
//! The directory must be private to the caller until unpacking is over: places
//! are checked and then used by path, which is sound because nobody else
//! changes the tree in between. The alternative, a directory descriptor per
//! step, guards against a race that a private directory does not have.

mod ahead;
mod entry;
mod inside;
mod stream;
#[cfg(test)]
mod tests;
mod whiteout;

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::{ENTRIES_MAX, UNPACKED_IMAGE_BYTES_MAX};
use ahead::{Ahead, read_ahead};
use entry::LayerWriter;
use inside::Inside;
pub(crate) use inside::create_open_directory;
use stream::LayerStream;

/// What may still be unpacked into one root, over all its layers.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Bytes, counted both as decompressed and as written: sparse files can be
    /// larger than their archive.
    pub bytes: u64,
    /// Archive entries.
    pub entries: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: UNPACKED_IMAGE_BYTES_MAX, entries: ENTRIES_MAX }
    }
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The compression or the tar structure is broken.
    #[error("the archive is damaged")]
    Archive(#[source] std::io::Error),
    /// An entry's name or link target leads where it must not.
    #[error("entry `{path}` {reason}")]
    Path {
        /// Name of the entry, cut when long.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry could not be made.
    #[error("cannot {action} `{path}`")]
    Entry {
        /// What was attempted, an infinitive.
        action: &'static str,
        /// Name in the image.
        path: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A limit was reached.
    #[error("the layer {what}")]
    TooLarge {
        /// Which limit, as the end of a sentence.
        what: &'static str,
    },
}

impl UnpackError {
    /// Puts the error into the crate's terms: the archive's fault, a limit, or
    /// this machine's disk.
    pub(crate) fn for_layer(self, layer: Digest) -> ImageError {
        match self {
            Self::TooLarge { what } => ImageError::TooLarge {
                what: format!("layer {layer} {what}"),
                limit: format!("{UNPACKED_IMAGE_BYTES_MAX} bytes and {ENTRIES_MAX} entries"),
            },
            Self::Entry { action, path, source } if is_local(&source) => {
                ImageError::Storage { action, path: PathBuf::from(path), source }
            }
            source => ImageError::LayerInvalid { layer, source },
        }
    }
}

/// Failures no archive can cause.
fn is_local(error: &std::io::Error) -> bool {
    use nix::libc::{EDQUOT, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS};
    let local = [EDQUOT, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS];
    error.raw_os_error().is_some_and(|code| local.contains(&code))
}

/// Applies layers to one root directory, base first.
pub struct Unpacker {
    root: PathBuf,
    /// As root: owners and set-uid bits as the image says. Otherwise all is ours
    /// and set-uid would lend our own rights to whoever can reach the file.
    privileged: bool,
}

impl Unpacker {
    /// Prepares to unpack into `root`, an existing directory private to the
    /// caller.
    pub fn new(root: &Path) -> std::io::Result<Self> {
        let root = root.canonicalize()?;
        Ok(Self { root, privileged: nix::unistd::geteuid().is_root() })
    }

    /// Applies one layer, tar or tar compressed with gzip or zstd, and returns
    /// the digest of the uncompressed archive (its diff id).
    pub fn layer(
        &self,
        input: impl Read + Send,
        budget: &mut Budget,
    ) -> Result<Digest, UnpackError> {
        read_ahead(input, |ahead| self.decompressed(ahead, budget))
    }

    fn decompressed(&self, input: Ahead, budget: &mut Budget) -> Result<Digest, UnpackError> {
        let stream = LayerStream::new(input, budget.bytes);
        let meter = stream.meter();
        let mut archive = tar::Archive::new(stream);
        let outcome = self.entries(&mut archive, &meter, budget);
        if let Some(what) = meter.exceeded() {
            return Err(UnpackError::TooLarge { what });
        }
        outcome?;
        let finished = archive.into_inner().finish();
        if let Some(what) = meter.exceeded() {
            return Err(UnpackError::TooLarge { what });
        }
        budget.bytes = meter.bytes_left();
        finished.map_err(UnpackError::Archive)
    }

    fn entries(
        &self,
        archive: &mut tar::Archive<LayerStream>,
        meter: &stream::Meter,
        budget: &mut Budget,
    ) -> Result<(), UnpackError> {
        let mut writer = LayerWriter::new(Inside::new(&self.root), meter, self.privileged);
        let mut entries = archive.entries().map_err(UnpackError::Archive)?;
        loop {
            meter.expect_header();
            let Some(entry) = entries.next() else { break };
            meter.expect_content();
            let mut entry = entry.map_err(UnpackError::Archive)?;
            budget.entries = budget
                .entries
                .checked_sub(1)
                .ok_or(UnpackError::TooLarge { what: "has too many entries" })?;
            writer.apply(&mut entry)?;
            // Read to its end here, so that only headers are left for `next`.
            std::io::copy(&mut entry, &mut std::io::sink()).map_err(UnpackError::Archive)?;
        }
        meter.expect_content();
        writer.finish()
    }
}

/// Unpacks one archive from any reader into an existing directory, with the
/// limits of `budget`. What fuzz targets call.
pub fn unpack_layer(
    input: impl Read + Send,
    directory: &Path,
    budget: &mut Budget,
) -> Result<Digest, UnpackError> {
    let unpacker = Unpacker::new(directory).map_err(|source| UnpackError::Entry {
        action: "open",
        path: directory.display().to_string(),
        source,
    })?;
    unpacker.layer(input, budget)
}
