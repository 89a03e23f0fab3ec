//! Finding the place of an archive name inside the root, and nowhere else.
//!
//! Symbolic links in a name's directories are followed as the finished image
//! would see them: absolute targets start at the root, `..` stops there. Real
//! images need this (`lib -> usr/lib` below, `lib/x` above). The result is a
//! path whose every directory is a real one.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::UnpackError;
use crate::limits::SYMLINKS_MAX;

/// The inside of one root directory.
pub(super) struct Inside {
    root: PathBuf,
    /// Directory of the entry before, as named and as found: archives list the
    /// files of one directory together.
    last: Option<(Vec<OsString>, PathBuf)>,
}

/// Whether directories on the way are made when missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Fail,
}

impl Inside {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), last: None }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// To be called after anything was removed: a directory known to be real
    /// may be gone.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// The real directory that `names` lead to.
    pub(super) fn directory(
        &mut self,
        names: &[OsString],
        missing: Missing,
    ) -> Result<PathBuf, UnpackError> {
        if let Some((_, found)) = self.last.as_ref().filter(|(known, _)| known == names) {
            return Ok(found.clone());
        }
        let found = self.walk(names, missing)?;
        self.last = Some((names.to_vec(), found.clone()));
        Ok(found)
    }

    fn walk(&self, names: &[OsString], missing: Missing) -> Result<PathBuf, UnpackError> {
        let whole = || shown(names);
        let mut pending: VecDeque<OsString> = names.iter().cloned().collect();
        let mut place = self.root.clone();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                if place != self.root {
                    place.pop();
                }
                continue;
            }
            place.push(&name);
            let metadata = match std::fs::symlink_metadata(&place) {
                Ok(metadata) => metadata,
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && missing == Missing::Create =>
                {
                    create_open_directory(&place)
                        .map_err(failed("create a directory for", whole()))?;
                    continue;
                }
                Err(error) => return Err(failed("find the directory of", whole())(error)),
            };
            if metadata.is_symlink() {
                links += 1;
                if links > SYMLINKS_MAX {
                    return Err(UnpackError::Path {
                        path: whole(),
                        reason: "goes through too many symbolic links",
                    });
                }
                let target = std::fs::read_link(&place).map_err(failed("follow", whole()))?;
                place.pop();
                if target.is_absolute() {
                    place.clone_from(&self.root);
                }
                for name in components(target.as_os_str().as_bytes()).rev() {
                    pending.push_front(name.to_owned());
                }
            } else if !metadata.is_dir() {
                return Err(UnpackError::Path {
                    path: whole(),
                    reason: "lies below something that is no directory",
                });
            }
        }
        Ok(place)
    }
}

/// Makes a directory that every user of the image may enter, whatever our own
/// umask is.
pub(crate) fn create_open_directory(place: &Path) -> std::io::Result<()> {
    std::fs::create_dir(place)?;
    std::fs::set_permissions(place, Permissions::from_mode(0o755))
}

/// Splits an archive name. Leading slashes mean the image's root; `..` is
/// refused, since no honest archiver writes it.
pub(super) fn names(path: &[u8]) -> Result<Vec<OsString>, UnpackError> {
    let names: Vec<OsString> = components(path).map(OsStr::to_owned).collect();
    if names.iter().any(|name| name == "..") {
        return Err(UnpackError::Path { path: shown(&names), reason: "climbs with `..`" });
    }
    if names.iter().any(|name| name.as_bytes().contains(&0)) {
        return Err(UnpackError::Path { path: shown(&names), reason: "contains a zero byte" });
    }
    Ok(names)
}

/// A name for an error message.
pub(super) fn shown(names: &[OsString]) -> String {
    const CHARACTERS_MAX: usize = 200;
    let joined = names.join(OsStr::new("/"));
    joined.to_string_lossy().chars().take(CHARACTERS_MAX).collect()
}

pub(super) fn failed(
    action: &'static str,
    path: String,
) -> impl FnOnce(std::io::Error) -> UnpackError {
    move |source| UnpackError::Entry { action, path, source }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &OsStr> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(OsStr::from_bytes)
}
