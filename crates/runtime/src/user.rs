//! Turns a `user` string of an image config into ids, by the image's own
//! `/etc/passwd` and `/etc/group`. Start at [`resolve`].
//!
//! Our own parser instead of `getpwnam`: a static C library would load name
//! service plug-ins from the image into this process. It must not know
//! namespaces or id mappings.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::failure::{Failure, Reason};

/// Databases larger than this are refused; a distribution's is a few KiB.
const DATABASE_BYTES_MAX: u64 = 1 << 20;

/// Ids and home of the user a workload runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Opens a path below `rootfs` as if `rootfs` were `/`: links inside the image
/// cannot lead out of it.
pub(crate) fn open_inside(rootfs: &Path, path: &str) -> nix::Result<File> {
    let root = File::open(rootfs)
        .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO)))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how).map(File::from)
}

/// Resolves `""`, `1000`, `1000:1000`, `www-data` or `www-data:adm`.
pub(crate) fn resolve(rootfs: &Path, user: &str) -> Result<User, Failure> {
    resolve_with(user, &database(rootfs, "etc/passwd"), &database(rootfs, "etc/group"))
}

fn resolve_with(user: &str, passwd: &str, group: &str) -> Result<User, Failure> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = rows(passwd).find(|row| row.first() == Some(&name)).or_else(|| {
        rows(passwd).find(|row| name.parse::<u32>().is_ok() && row.get(2) == Some(&name))
    });
    let number = |row: &Vec<&str>, index: usize| row.get(index).and_then(|n| n.parse().ok());
    let uid = entry.as_ref().and_then(|row| number(row, 2)).or_else(|| name.parse().ok());
    let Some(uid) = uid else {
        return Err(unknown("user", name, "/etc/passwd"));
    };
    let gid = match group_name {
        Some(wanted) => {
            let row = rows(group).find(|row| row.first() == Some(&wanted));
            let gid = row.and_then(|row| number(&row, 2)).or_else(|| wanted.parse().ok());
            gid.ok_or_else(|| unknown("group", wanted, "/etc/group"))?
        }
        None => entry.as_ref().and_then(|row| number(row, 3)).unwrap_or(0),
    };
    let login = entry.as_ref().and_then(|row| row.first().copied());
    // Named explicitly, a group replaces the database's, as other runtimes do.
    let groups = match (group_name, login) {
        (None, Some(login)) => rows(group)
            .filter(|row| row.get(3).is_some_and(|m| m.split(',').any(|m| m == login)))
            .filter_map(|row| number(&row, 2))
            .collect(),
        _ => Vec::new(),
    };
    let home = entry.and_then(|row| row.get(5).copied()).filter(|home| home.starts_with('/'));
    let home = home.unwrap_or(if uid == 0 { "/root" } else { "/" }).to_owned();
    Ok(User { uid, gid, groups, home })
}

fn unknown(what: &str, name: &str, file: &str) -> Failure {
    Failure::new(
        Reason::WorkloadStartFailed,
        format!("{what} {name:?} is not in the image's {file} and is not a number"),
    )
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(':').collect())
}

/// Many images have no such file; numbers then still work.
fn database(rootfs: &Path, path: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = open_inside(rootfs, path) {
        let regular = file.metadata().is_ok_and(|meta| meta.is_file());
        if regular && file.take(DATABASE_BYTES_MAX).read_to_end(&mut text).is_err() {
            text.clear();
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:www-data\nwww-data:x:33:\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve_with(user, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn every_form_resolves() {
        assert_eq!(ids(""), (0, 0, vec![], "/root".into()));
        assert_eq!(ids("www-data"), (33, 33, vec![4], "/var/www".into()));
        assert_eq!(ids("33"), (33, 33, vec![4], "/var/www".into()));
        assert_eq!(ids("www-data:adm"), (33, 4, vec![], "/var/www".into()));
        assert_eq!(ids("1000:1001"), (1000, 1001, vec![], "/".into()));
        assert_eq!(ids("1000"), (1000, 0, vec![], "/".into()));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(resolve_with("nobody-here", PASSWD, GROUP).is_err());
        assert!(resolve_with("root:nogroup", PASSWD, GROUP).is_err());
    }

    #[test]
    fn links_in_the_image_cannot_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../../../etc/passwd", dir.path().join("etc/passwd"))
            .unwrap();
        assert_eq!(database(dir.path(), "etc/passwd"), "");
    }
}
