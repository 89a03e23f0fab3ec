//! A volume that is a plain directory, for machines where nothing can be mounted.
//! Nobody keeps it from growing beyond its size, which is said wherever it is shown.

use std::path::{Path, PathBuf};

use helix_model::Reason;

use super::VolumeFailure;
use crate::files;
use crate::machine::chain;

/// Where what is in a volume can be found.
pub(super) fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

pub(super) fn exists(dir: &Path) -> bool {
    data(dir).is_dir()
}

pub(super) fn create(dir: &Path) -> Result<(), VolumeFailure> {
    files::make_dir(&data(dir))
        .map_err(|error| VolumeFailure::new(Reason::VolumeCreateFailed, chain(&error)))
}
