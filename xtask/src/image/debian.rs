//! Programs with their libraries, taken out of Debian packages without
//! installing anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{packages, process};

/// Directories that are links into `/usr` on every current Debian and Ubuntu.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Unpacks packages and the libraries they need, and no more: no maintainer
/// scripts, no package manager, no shell unless asked for.
///
/// # Errors
/// When apt does not know a package, or cannot fetch or unpack one.
pub fn unpack_programs(names: &[&str], root: &Path) -> Result<()> {
    for name in MERGED {
        let merged = Path::new("usr").join(name);
        fs::create_dir_all(root.join(&merged)).with_context(|| format!("create /usr/{name}"))?;
        symlink(&merged, root.join(name)).with_context(|| format!("link /{name}"))?;
    }
    let wanted = with_libraries(names)?;
    let downloads = tempfile::tempdir().context("make a download directory")?;
    let archives = packages::download(&wanted, downloads.path())?;
    packages::unpack(&archives, root)?;
    for unneeded in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"] {
        remove(root, unneeded)?;
    }
    Ok(())
}

/// Removes a directory of the unpacked files, where it is.
///
/// # Errors
/// When it is there and stays.
pub fn remove(root: &Path, directory: &str) -> Result<()> {
    match fs::remove_dir_all(root.join(directory)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove /{directory}"))
        }
        _ => Ok(()),
    }
}

/// The packages, those of the same family that they need (nginx-common), and
/// the libraries of all of them, each as `NAME=VERSION`.
fn with_libraries(names: &[&str]) -> Result<Vec<String>> {
    let asked: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let of_family =
        |name: &String| asked.iter().any(|asked| name.starts_with(&format!("{asked}-")));
    let (mut seen, mut to_visit) = (asked.clone(), asked.clone());
    let mut wanted = BTreeMap::new();
    // All that are equally far away at once: each question of apt takes a second where
    // it keeps no cache.
    while !to_visit.is_empty() {
        let records = if wanted.is_empty() { known(&asked)? } else { records(&to_visit)? };
        to_visit.clear();
        for (name, record) in records {
            if asked.contains(&name) || of_family(&name) || is_library(&name, &record) {
                to_visit.extend(dependencies(&record).difference(&seen).cloned());
                let version = field(&record, "Version").unwrap_or_default();
                wanted.insert(name, version.to_owned());
            }
        }
        seen.extend(to_visit.iter().cloned());
    }
    Ok(wanted.into_iter().map(|(name, version)| format!("{name}={version}")).collect())
}

/// The package with a version in its name that one without stands for:
/// `postgresql` for `postgresql-15`, `python3` for `python3.11`.
///
/// # Errors
/// When apt does not know the package, or it stands for nothing.
pub fn newest(name: &str) -> Result<String> {
    let records = known(&BTreeSet::from([name.to_owned()]))?;
    let needed = records.values().flat_map(|record| dependencies(record));
    let found = needed.into_iter().find(|needed| is_version(name, needed));
    found.with_context(|| format!("find out which version of {name} there is"))
}

/// The one package that another, without files of its own, stands for: the kernel
/// with its version in its name.
///
/// # Errors
/// When apt does not know the package, or it stands for nothing.
pub fn stands_for(name: &str) -> Result<String> {
    let records = known(&BTreeSet::from([name.to_owned()]))?;
    let needed = records.values().flat_map(|record| dependencies(record)).next();
    needed.with_context(|| format!("find out what {name} stands for"))
}

fn is_version(name: &str, needed: &str) -> bool {
    let version = needed.strip_prefix(name).and_then(|rest| rest.strip_prefix(['-', '.']));
    version.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// How modules in JavaScript are named: Debian's Node keeps parts of itself in some
/// and does not start without them.
const MODULES: &str = "node-";

/// What a program can do without, however it was linked: the compiler behind
/// PostgreSQL's optional query compilation is larger than all the rest.
const LEFT_OUT: &str = "libllvm";

fn is_library(name: &str, record: &str) -> bool {
    if name.starts_with(LEFT_OUT) {
        return false;
    }
    // A module of nginx has the section of nginx, so this leaves it out.
    let section = field(record, "Section").unwrap_or_default();
    section == "libs" || section.ends_with("/libs") || name.starts_with(MODULES)
}

/// What apt knows about packages that must be there.
fn known(names: &BTreeSet<String>) -> Result<BTreeMap<String, String>> {
    let missing = |found: &BTreeMap<String, String>| {
        names.iter().find(|name| !found.contains_key(*name)).cloned()
    };
    let found = records(names).unwrap_or_default();
    if missing(&found).is_none() {
        return Ok(found);
    }
    // A fresh machine or container has no package index.
    packages::refresh_index()?;
    let found = records(names)?;
    match missing(&found) {
        Some(name) => bail!("apt knows no source of package {name}"),
        None => Ok(found),
    }
}

/// What apt knows about packages, in the versions it would install. Where one of these
/// came from nowhere it can be fetched again, such as a source that is switched off, the
/// newest of those that can be: files are taken out of archives, never from this machine.
/// What apt has no record of is left out: a virtual package is nobody's library.
fn records(names: &BTreeSet<String>) -> Result<BTreeMap<String, String>> {
    let show = |options: &[&str], names: &BTreeSet<String>| {
        process::capture(Command::new("apt-cache").arg("show").args(options).args(names))
    };
    let mut found = fetchable(&show(&["--no-all-versions"], names)?);
    let others: BTreeSet<String> =
        names.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
    if !others.is_empty() {
        // Fails when apt knows none of them.
        found.extend(fetchable(&show(&[], &others).unwrap_or_default()));
    }
    Ok(found)
}

/// By name, the first record of each package that names an archive; apt lists the newest
/// version first.
fn fetchable(records: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for record in records.split("\n\n").filter(|record| field(record, "Filename").is_some()) {
        let name = field(record, "Package").unwrap_or_default();
        found.entry(name.to_owned()).or_insert_with(|| record.to_owned());
    }
    found
}

fn field<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Names of what a package depends on, the first of alternatives.
fn dependencies(record: &str) -> BTreeSet<String> {
    ["Depends", "Pre-Depends"]
        .iter()
        .filter_map(|name| field(record, name))
        .flat_map(|list| list.split(','))
        .filter_map(|choice| choice.split('|').next())
        .filter_map(|first| first.trim().split([' ', '(', ':']).next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_lose_versions_architectures_and_alternatives() {
        let record = "Package: a\nDepends: libc6 (>= 2.34), perl:any, b | c, libc6 (<< 3)\n\
                      Pre-Depends: d\nDescription: x\n";
        let expected = ["b", "d", "libc6", "perl"].map(str::to_owned);
        assert_eq!(dependencies(record), BTreeSet::from(expected));
    }

    #[test]
    fn a_name_with_a_version_is_told_from_a_name_that_goes_on() {
        assert!(is_version("postgresql", "postgresql-15") && is_version("python3", "python3.11"));
        for other in ["python3-minimal", "python3.11-minimal", "python31", "python3"] {
            assert!(!is_version("python3", other), "{other}");
        }
    }

    #[test]
    fn a_version_that_nobody_offers_any_more_is_passed_over() {
        let records = "Package: a\nStatus: install ok installed\nVersion: 3\n\n\
                       Package: a\nVersion: 2\nFilename: pool/a_2.deb\n\n\
                       Package: a\nVersion: 1\nFilename: pool/a_1.deb\n";
        let found = fetchable(records);
        assert_eq!(field(&found["a"], "Version"), Some("2"));
        assert!(fetchable("Package: a\nVersion: 3\n").is_empty());
    }
}
