//! Certificates and keys in a directory of this machine's memory, so that an edge that is
//! killed and started again serves HTTPS while no server is in reach.
//!
//! Not on a disk: there the keys would outlive the machine. What cannot be kept or read
//! is fetched again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use helix_model::certificate::Pin;
use zeroize::Zeroizing;

use super::certificates::{Held, Missing, Wanted};

/// A key with a long chain has a tenth of it.
const FILE_BYTES_MAX: u64 = 256 * 1024;

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
        let next = path.with_extension("next");
        let written = || -> io::Result<()> {
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
            file.write_all(pem)?;
            fs::rename(&next, &path)
        };
        if let Err(error) = written() {
            tracing::warn!(path = %path.display(), %error, "a certificate is not kept");
        }
    }

    /// Removes what no host needs any more.
    pub(crate) fn keep_only(&self, wanted: &Wanted) {
        let Some(entries) = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok()) else {
            return;
        };
        let needed: BTreeSet<OsString> =
            wanted.iter().map(|(host, pin)| name(host, *pin).into()).collect();
        for entry in entries.flatten().filter(|entry| !needed.contains(&entry.file_name())) {
            // Absent is as good as removed.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// One file for each certificate that an org brought, one for each host otherwise. Hosts
/// are lower case and have no slash.
fn name(host: &str, pin: Option<Pin>) -> String {
    match pin {
        Some(pin) => format!("{}-{}.pem", pin.certificate, pin.record),
        None => format!("host-{}.pem", host.replace(['/', '*'], "_")),
    }
}
