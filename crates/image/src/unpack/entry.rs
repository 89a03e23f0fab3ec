//! Making one archive entry: file, directory, link or pipe.
//!
//! Device nodes are left out: an instance gets its own `/dev`, and a node made
//! from an image would be a door to this machine's disks.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, FileTimes, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use tar::EntryType;

use super::inside::{Inside, Missing, failed, names, shown};
use super::stream::Meter;
use super::{UnpackError, whiteout};

const COPY_BYTES: usize = 128 * 1024;
const PERMISSIONS: u32 = 0o777;
const PERMISSIONS_AND_SET_ID: u32 = 0o7777;
/// What we need on a directory of our own to go on filling and to remove it.
const OWNER_ALL: u32 = 0o700;

/// Applies the entries of one layer.
pub(super) struct LayerWriter<'a> {
    pub(super) inside: Inside,
    pub(super) made: Made,
    meter: &'a Meter,
    privileged: bool,
    /// Set at the end: filling a directory changes its time.
    directory_times: Vec<(PathBuf, SystemTime)>,
    buffer: Vec<u8>,
}

/// Places this layer has made something at, which its own whiteouts spare. Only
/// hashes, keyed at random: two million paths would be half a gigabyte.
#[derive(Default)]
pub(super) struct Made {
    hashes: HashSet<u64>,
    key: RandomState,
}

impl Made {
    pub(super) fn contains(&self, place: &Path) -> bool {
        self.hashes.contains(&self.key.hash_one(place))
    }

    /// Directories on the way count as made: they hold something of this layer.
    fn insert(&mut self, place: &Path, root: &Path) {
        let on_the_way = place.ancestors().take_while(|&above| above != root);
        for above in on_the_way {
            if !self.hashes.insert(self.key.hash_one(above)) {
                break;
            }
        }
    }
}

/// Owner, mode and time of an entry.
struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    modified: Option<SystemTime>,
}

impl<'a> LayerWriter<'a> {
    pub(super) fn new(inside: Inside, meter: &'a Meter, privileged: bool) -> Self {
        Self {
            inside,
            made: Made::default(),
            meter,
            privileged,
            directory_times: Vec::new(),
            buffer: vec![0; COPY_BYTES],
        }
    }

    pub(super) fn apply<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<(), UnpackError> {
        let raw = entry.path_bytes().into_owned();
        let names = names(&raw)?;
        let kind = entry.header().entry_type();
        // Before there was a type for directories, a final slash meant one.
        let is_directory = kind.is_dir() || (kind.is_file() && raw.ends_with(b"/"));
        let attributes = Attributes::of(entry.header(), &names)?;
        let Some((name, parents)) = names.split_last() else {
            return if is_directory { self.root(&attributes) } else { Ok(()) };
        };
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let parent = self.inside.directory(parents, Missing::Create)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(whiteout::PREFIX) {
            return whiteout::apply(self, &parent, hidden, &names);
        }
        let place = parent.join(name);
        if is_directory {
            self.directory(&place, &attributes, &names)?;
        } else {
            self.other(entry, &place, &attributes, &names)?;
        }
        self.made.insert(&place, self.inside.root());
        Ok(())
    }

    /// Sets the times of directories, deepest last-made first.
    pub(super) fn finish(self) -> Result<(), UnpackError> {
        for (place, modified) in self.directory_times.iter().rev() {
            // One that a later entry replaced is not there any more.
            if let Ok(directory) = open_directory(place) {
                let times = FileTimes::new().set_modified(*modified);
                directory
                    .set_times(times)
                    .map_err(failed("set the time of", place.display().to_string()))?;
            }
        }
        Ok(())
    }

    fn root(&mut self, attributes: &Attributes) -> Result<(), UnpackError> {
        let root = self.inside.root().to_owned();
        self.dress_directory(&root, attributes, &[])
    }

    fn directory(
        &mut self,
        place: &Path,
        attributes: &Attributes,
        names: &[OsString],
    ) -> Result<(), UnpackError> {
        if !std::fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_dir()) {
            self.clear(place, names)?;
            std::fs::create_dir(place).map_err(failed("create directory", shown(names)))?;
        }
        self.dress_directory(place, attributes, names)
    }

    fn dress_directory(
        &mut self,
        place: &Path,
        attributes: &Attributes,
        names: &[OsString],
    ) -> Result<(), UnpackError> {
        let directory = open_directory(place).map_err(failed("open", shown(names)))?;
        self.dress(&directory, attributes, OWNER_ALL, names)?;
        if let Some(modified) = attributes.modified {
            self.directory_times.push((place.to_owned(), modified));
        }
        Ok(())
    }

    fn other<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        place: &Path,
        attributes: &Attributes,
        names: &[OsString],
    ) -> Result<(), UnpackError> {
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.clear(place, names)?;
                self.file(entry, place, attributes, names)
            }
            EntryType::Symlink => {
                let target = target(entry, names)?;
                self.clear(place, names)?;
                std::os::unix::fs::symlink(&target, place)
                    .map_err(failed("create symbolic link", shown(names)))?;
                self.own_link(place, attributes, names)
            }
            EntryType::Link => {
                let target = target(entry, names)?;
                self.hard_link(&target, place, names)
            }
            EntryType::Fifo => {
                self.clear(place, names)?;
                nix::unistd::mkfifo(place, nix::sys::stat::Mode::S_IRUSR)
                    .map_err(|errno| failed("create pipe", shown(names))(errno.into()))?;
                self.own_link(place, attributes, names)?;
                let permissions = Permissions::from_mode(attributes.mode & PERMISSIONS);
                std::fs::set_permissions(place, permissions)
                    .map_err(failed("set the mode of", shown(names)))
            }
            EntryType::Char | EntryType::Block => {
                tracing::debug!(entry = shown(names), "left a device node of an image out");
                Ok(())
            }
            _ => Err(UnpackError::Path {
                path: shown(names),
                reason: "is of a kind that layers do not have",
            }),
        }
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        place: &Path,
        attributes: &Attributes,
        names: &[OsString],
    ) -> Result<(), UnpackError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW)
            .open(place)
            .map_err(failed("create", shown(names)))?;
        loop {
            let count = entry.read(&mut self.buffer).map_err(UnpackError::Archive)?;
            if count == 0 {
                break;
            }
            self.meter.count_written(count).map_err(UnpackError::Archive)?;
            file.write_all(&self.buffer[..count]).map_err(failed("write", shown(names)))?;
        }
        self.dress(&file, attributes, 0, names)?;
        if let Some(modified) = attributes.modified {
            file.set_times(FileTimes::new().set_modified(modified))
                .map_err(failed("set the time of", shown(names)))?;
        }
        Ok(())
    }

    /// The target is a name in the image, found like any other; what it leads
    /// to is inside the root by construction.
    fn hard_link(
        &mut self,
        target: &Path,
        place: &Path,
        link: &[OsString],
    ) -> Result<(), UnpackError> {
        let target_names = names(target.as_os_str().as_bytes())?;
        let Some((name, parents)) = target_names.split_last() else {
            return Err(UnpackError::Path {
                path: shown(link),
                reason: "is a hard link to the root",
            });
        };
        let target = self.inside.directory(parents, Missing::Fail)?.join(name);
        if target == place {
            return Ok(());
        }
        let metadata =
            std::fs::symlink_metadata(&target).map_err(failed("find target of", shown(link)))?;
        if metadata.is_dir() {
            return Err(UnpackError::Path {
                path: shown(link),
                reason: "is a hard link to a directory",
            });
        }
        self.clear(place, link)?;
        std::fs::hard_link(&target, place).map_err(failed("create hard link", shown(link)))
    }

    /// Removes what is at the place of a new entry.
    pub(super) fn clear(&mut self, place: &Path, names: &[OsString]) -> Result<(), UnpackError> {
        let Ok(metadata) = std::fs::symlink_metadata(place) else {
            return Ok(());
        };
        let removed = if metadata.is_dir() {
            self.inside.forget();
            std::fs::remove_dir_all(place)
        } else {
            if metadata.is_symlink() {
                self.inside.forget();
            }
            std::fs::remove_file(place)
        };
        removed.map_err(failed("replace", shown(names)))
    }

    /// Owner first: changing it clears the set-id bits.
    fn dress(
        &self,
        file: &File,
        attributes: &Attributes,
        always: u32,
        names: &[OsString],
    ) -> Result<(), UnpackError> {
        let owned = self.privileged
            && accept_unmapped(std::os::unix::fs::fchown(
                file,
                Some(attributes.uid),
                Some(attributes.gid),
            ))
            .map_err(failed("set the owner of", shown(names)))?;
        let mode = if owned {
            attributes.mode & PERMISSIONS_AND_SET_ID
        } else {
            attributes.mode & PERMISSIONS | always
        };
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(failed("set the mode of", shown(names)))
    }

    fn own_link(
        &self,
        place: &Path,
        attributes: &Attributes,
        names: &[OsString],
    ) -> Result<(), UnpackError> {
        if !self.privileged {
            return Ok(());
        }
        let owner = (Some(attributes.uid), Some(attributes.gid));
        accept_unmapped(std::os::unix::fs::lchown(place, owner.0, owner.1))
            .map(|_| ())
            .map_err(failed("set the owner of", shown(names)))
    }
}

impl Attributes {
    fn of(header: &tar::Header, names: &[OsString]) -> Result<Self, UnpackError> {
        // Blank means zero: writers that have no owner to tell leave it so, and
        // every reader in use takes it so.
        let number = |field: &[u8], value: std::io::Result<u64>| {
            let blank = field.iter().all(|byte| matches!(byte, 0 | b' '));
            if blank { Ok(0) } else { value.map_err(UnpackError::Archive) }
        };
        let fields = header.as_old();
        let id = |value: u64| {
            u32::try_from(value).ok().filter(|&id| id != u32::MAX).ok_or_else(|| {
                UnpackError::Path { path: shown(names), reason: "has an impossible owner" }
            })
        };
        // Times are not worth failing for: some tools leave them blank, some
        // write what no file system can hold.
        let seconds = header.mtime().unwrap_or(0);
        Ok(Self {
            uid: id(number(&fields.uid, header.uid())?)?,
            gid: id(number(&fields.gid, header.gid())?)?,
            mode: header.mode().map_err(UnpackError::Archive)?,
            modified: i32::try_from(seconds)
                .ok()
                .and_then(|_| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
        })
    }
}

/// Inside somebody's user namespace, root may still not be able to give files
/// to ids that are not mapped there; the file then stays ours.
fn accept_unmapped(outcome: std::io::Result<()>) -> std::io::Result<bool> {
    use nix::libc::{EINVAL, EPERM};
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(EINVAL | EPERM)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn target<R: Read>(entry: &tar::Entry<'_, R>, names: &[OsString]) -> Result<PathBuf, UnpackError> {
    match entry.link_name_bytes() {
        Some(target) if !target.is_empty() => {
            Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&target)))
        }
        _ => Err(UnpackError::Path { path: shown(names), reason: "is a link to nothing" }),
    }
}

fn open_directory(place: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_DIRECTORY).open(place)
}
