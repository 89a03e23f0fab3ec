//! Certificates and keys in a directory of this machine's memory, so that an edge that is
//! killed and started again serves HTTPS while no server is in reach.
//!
//! They are of one installation, whose name is beside them: another's clients do not
//! believe them. Not on a disk: there the keys would outlive the machine. What cannot be
//! kept or read is fetched again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use helix_model::certificate::Pin;
use zeroize::Zeroizing;

use super::certificates::{Held, Missing, Wanted};

/// A key with a long chain has a tenth of it.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The file that says which installation they are of.
const INSTALLATION_FILE: &str = "installation";

/// Where they are kept; nowhere when the machine has no such memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    dir: Option<PathBuf>,
}

impl Kept {
    /// Keeps them in a directory, which is made for this user alone.
    pub(crate) fn at(dir: Option<PathBuf>) -> Kept {
        let made = dir.filter(|dir| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.inspect_err(|error| {
                tracing::warn!(dir = %dir.display(), %error, "certificates are not kept");
            })
            .is_ok()
        });
        Kept { dir: made }
    }

    /// They are of this installation from now on. Those that are not known to be are
    /// removed, and whether there were any is told.
    pub(crate) fn is_of(&self, installation: Ipv6Addr) -> bool {
        let Some(dir) = &self.dir else { return false };
        let (path, name) = (dir.join(INSTALLATION_FILE), installation.to_string());
        if fs::read_to_string(&path).is_ok_and(|known| known == name) {
            return false;
        }
        let removed = self.remove_all_but(&BTreeSet::new());
        if let Err(error) = write(&path, name.as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "certificates are not kept for long");
        }
        removed > 0
    }

    /// What was kept of what is missing, as long as it is valid.
    pub(crate) fn load(&self, missing: &Missing, now: SystemTime) -> Option<Held> {
        let path = self.dir.as_ref()?.join(name(missing.hosts.first()?, missing.pin));
        if fs::metadata(&path).ok()?.len() > FILE_BYTES_MAX {
            return None;
        }
        let pem = Zeroizing::new(fs::read(&path).ok()?);
        Held::read(&pem, missing.pin, now).ok().filter(|held| held.is_valid(now))
    }

    /// Keeps what was fetched, whole or not at all.
    pub(crate) fn keep(&self, missing: &Missing, pem: &[u8]) {
        let (Some(dir), Some(host)) = (&self.dir, missing.hosts.first()) else { return };
        let path = dir.join(name(host, missing.pin));
        if let Err(error) = write(&path, pem) {
            tracing::warn!(path = %path.display(), %error, "a certificate is not kept");
        }
    }

    /// Removes what no host needs any more.
    pub(crate) fn keep_only(&self, wanted: &Wanted) {
        let names = wanted.iter().map(|(host, pin)| name(host, *pin).into());
        let needed = names.chain([INSTALLATION_FILE.into()]).collect();
        self.remove_all_but(&needed);
    }

    fn remove_all_but(&self, needed: &BTreeSet<OsString>) -> usize {
        let entries = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok());
        let entries = entries.into_iter().flatten().flatten();
        let others = entries.filter(|entry| !needed.contains(&entry.file_name()));
        // Absent is as good as removed.
        others.filter(|entry| fs::remove_file(entry.path()).is_ok()).count()
    }
}

/// For this user alone, whole or not at all.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(content)?;
    fs::rename(&next, path)
}

/// One file for each certificate that an org brought, one for each host otherwise. Hosts
/// are lower case and have no slash.
fn name(host: &str, pin: Option<Pin>) -> String {
    match pin {
        Some(pin) => format!("{}-{}.pem", pin.certificate, pin.record),
        None => format!("host-{}.pem", host.replace(['/', '*'], "_")),
    }
}
