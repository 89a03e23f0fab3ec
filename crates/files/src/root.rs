//! The served folder: opening what lies in it and nothing outside.
//!
//! Start at [`Root::open`]. The kernel resolves the path and refuses to leave
//! the folder (`openat2` with `RESOLVE_BENEATH`), so there is no moment between
//! a check and a use. Where `openat2` is missing or forbidden (an old kernel,
//! an old container profile) the path is resolved first and compared.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;

use crate::error::FilesError;

/// A FIFO or a device must not hold up the server at open.
const FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

pub(crate) struct Root {
    folder: OwnedFd,
    /// Absolute and free of links.
    path: PathBuf,
}

/// What a path below the root turned out to be.
pub(crate) enum Found {
    File(OpenFile),
    Folder,
}

pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) metadata: Metadata,
}

impl Root {
    pub(crate) fn new(path: &Path) -> Result<Root, FilesError> {
        let failed = |source| FilesError::Root { path: path.to_owned(), source };
        let canonical = path.canonicalize().map_err(failed)?;
        let folder = File::options()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(&canonical)
            .map_err(failed)?;
        Ok(Root { folder: folder.into(), path: canonical })
    }

    /// `None` for what does not exist, lies outside, may not be read, or is
    /// neither file nor folder: to the outside these are the same.
    pub(crate) fn open(&self, relative: &Path) -> io::Result<Option<Found>> {
        let file = match self.open_any(relative) {
            Ok(file) => file,
            Err(error) if is_absence(error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        Ok(match (kind.is_file(), kind.is_dir()) {
            (true, _) => Some(Found::File(OpenFile { file, metadata })),
            (_, true) => Some(Found::Folder),
            _ => None,
        })
    }

    fn open_any(&self, relative: &Path) -> Result<File, Errno> {
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        match self.open_beneath(relative) {
            // Leaves the folder, or comes back to it through an absolute link.
            Err(Errno::EXDEV) => self.open_beneath(&self.resolve(relative)?),
            Err(Errno::ENOSYS | Errno::EPERM) => self.open_resolved(relative),
            outcome => outcome,
        }
    }

    fn open_beneath(&self, relative: &Path) -> Result<File, Errno> {
        let how = OpenHow::new()
            .flags(FLAGS)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(self.folder.as_fd(), relative, how).map(File::from)
    }

    fn open_resolved(&self, relative: &Path) -> Result<File, Errno> {
        let resolved = self.path.join(self.resolve(relative)?);
        let flags = (FLAGS | OFlag::O_NOFOLLOW).bits();
        File::options().read(true).custom_flags(flags).open(resolved).map_err(|it| errno_of(&it))
    }

    /// Follows all links; relative to the root.
    fn resolve(&self, relative: &Path) -> Result<PathBuf, Errno> {
        let resolved = self.path.join(relative).canonicalize().map_err(|it| errno_of(&it))?;
        let inside = resolved.strip_prefix(&self.path).map_err(|_| Errno::EXDEV)?;
        Ok(if inside.as_os_str().is_empty() { PathBuf::from(".") } else { inside.to_owned() })
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn is_absence(error: Errno) -> bool {
    matches!(
        error,
        Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::EACCES
            | Errno::EXDEV
            | Errno::ELOOP
            | Errno::ENAMETOOLONG
            | Errno::EINVAL
            | Errno::ENXIO
            | Errno::ENODEV
    )
}

impl OpenFile {
    pub(crate) fn len(&self) -> u64 {
        self.metadata.len()
    }

    /// Seconds since the Unix epoch.
    pub(crate) fn modified_s(&self) -> i64 {
        self.metadata.mtime()
    }

    /// Changes with every change of the file's content: the kernel sets the
    /// change time, and no archive tool can set it back.
    pub(crate) fn version(&self) -> (i64, i64, u64, u64) {
        let it = &self.metadata;
        (it.ctime(), it.ctime_nsec(), it.ino(), it.len())
    }
}
