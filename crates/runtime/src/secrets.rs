//! The secrets of an instance: from a file in this machine's memory to one that its
//! program alone reads. Start at [`place`], [`memory_dir`] for whoever keeps the
//! first.
//!
//! Nothing here is ever on a disk. It must not know what is in the files, nor
//! where they came from.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::failure::{Failure, Reason};

/// Directory of the file inside an instance.
pub(crate) const DIRECTORY: &str = "/run/secrets";

/// Where programs find the file, with a root of their own.
pub const SECRETS_PATH: &str = "/run/secrets/platform.env";

/// The variable that names the file, wherever it is.
pub const SECRETS_VARIABLE: &str = "HELIX_SECRETS_FILE";

/// The file's own name.
pub const SECRETS_FILE: &str = "platform.env";

/// Largest file; what is larger was not made by the platform.
const BYTES_MAX: u64 = 256 << 10;

/// Twice the largest file, for the moment when there are two.
const SIZE: &str = "mode=0555,size=640k,nr_inodes=8";

/// `ramfs` is memory, too, and is never swapped.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Mounts a file system in memory at `at` and puts a copy of `source` there that
/// only one user can read. Runs in a mount namespace that ends with the instance,
/// and so does the copy. The ids are as seen from the calling process.
pub(crate) fn place(source: &Path, at: &Path, uid: u32, gid: u32) -> Result<(), Failure> {
    let failed = |verb: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error: &dyn std::fmt::Display| {
            Failure::io(Reason::SecretsInjectionFailed, verb, &path, error)
        }
    };
    let contents = read(source).map_err(|error| failed("read", source)(&error))?;
    fs::create_dir_all(at).map_err(|error| failed("create", at)(&error))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(SIZE))
        .map_err(|errno| failed("mount memory at", at)(&errno))?;
    let path = at.join(SECRETS_FILE);
    write(&path, &contents, Some((uid, gid))).map_err(|error| failed("write", &path)(&error))?;
    let sealed = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, at, None::<&str>, sealed, None::<&str>)
        .map_err(|errno| failed("make read-only", at)(&errno))
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut contents = Zeroizing::new(Vec::with_capacity(BYTES_MAX as usize + 1));
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(contents)
}

/// Writes beside `path` and moves there, so that nobody reads half a file.
fn write(path: &Path, contents: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o400).open(&draft)?;
    file.write_all(contents)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    fs::rename(&draft, path)
}

/// Keeps contents at `path`, for this user's eyes. The directory must be one below
/// [`memory_dir`].
///
/// # Errors
/// When the file cannot be written.
pub fn keep_secrets(path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    write(path, contents, None)
}

/// A directory in memory for this user alone: what is in it is gone when the
/// machine starts anew, and survives everything else. `None` where this machine
/// has none.
pub fn memory_dir() -> Option<PathBuf> {
    let uid = geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|_| uid != 0);
    let own = if uid == 0 { Some(PathBuf::from("/run")) } else { runtime };
    let shared = PathBuf::from("/dev/shm");
    let places = own.map(|own| own.join("helix")).into_iter();
    let mut places = places.chain([shared.join(format!("helix-{uid}"))]);
    places.find(|place| place.parent().is_some_and(is_memory) && make_private(place, uid).is_ok())
}

/// The part of [`memory_dir`] that belongs to whoever has its files in `data_dir`; `what`
/// says what is in it. It need not be there yet.
pub fn memory_dir_of(what: &str, data_dir: &Path) -> Option<PathBuf> {
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(memory_dir()?.join(what).join(name))
}

fn is_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|it| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&it.filesystem_type()))
}

/// Makes a directory, or takes one that nobody else could have made or can read:
/// the one it is in may be open to all.
fn make_private(path: &Path, uid: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let is_ours =
        found.is_dir() && found.uid() == uid && found.permissions().mode() & 0o777 == 0o700;
    if is_ours { Ok(()) } else { Err(io::Error::from(io::ErrorKind::PermissionDenied)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_for_one_user_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one/platform.env");
        for contents in ["first", "second"] {
            keep_secrets(&path, contents.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap().as_slice(), contents.as_bytes());
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o400, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_others_can_read_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let uid = geteuid().as_raw();
        let path = dir.path().join("helix");
        make_private(&path, uid).unwrap();
        make_private(&path, uid).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make_private(&path, uid).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(make_private(&link, uid).is_err());
    }
}
