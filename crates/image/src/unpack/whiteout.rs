//! Whiteouts: how an upper layer deletes (OCI image spec, `layer.md`).
//!
//! `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` hides everything
//! below in its directory. Neither touches what its own layer brings, in
//! whatever order the entries come.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::UnpackError;
use super::entry::LayerWriter;
use super::inside::{failed, shown};

pub(super) const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..opq";

/// Applies one whiteout found in directory `parent`; `hidden` is its name
/// without the prefix.
pub(super) fn apply(
    writer: &mut LayerWriter<'_>,
    parent: &Path,
    hidden: &[u8],
    names: &[OsString],
) -> Result<(), UnpackError> {
    if hidden == OPAQUE {
        return clear_lower(writer, parent, names);
    }
    if hidden.starts_with(PREFIX) {
        // Bookkeeping of an old union file system, meaningless here.
        return Ok(());
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(UnpackError::Path {
            path: shown(names),
            reason: "is a whiteout of a directory's own name",
        });
    }
    remove_lower(writer, &parent.join(OsStr::from_bytes(hidden)), names)
}

fn remove_lower(
    writer: &mut LayerWriter<'_>,
    place: &Path,
    names: &[OsString],
) -> Result<(), UnpackError> {
    if !writer.made.contains(place) {
        return writer.clear(place, names);
    }
    match std::fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_dir() => clear_lower(writer, place, names),
        _ => Ok(()),
    }
}

fn clear_lower(
    writer: &mut LayerWriter<'_>,
    directory: &Path,
    names: &[OsString],
) -> Result<(), UnpackError> {
    let entries = std::fs::read_dir(directory).map_err(failed("list", shown(names)))?;
    for entry in entries {
        let entry = entry.map_err(failed("list", shown(names)))?;
        remove_lower(writer, &entry.path(), names)?;
    }
    Ok(())
}
