//! Programs with their libraries, taken out of Debian packages without
//! installing anything.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

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
    if record(names.first().unwrap_or(&"libc6")).is_err() {
        // A fresh machine or container has no package index.
        packages::refresh_index()?;
    }
    let wanted = with_libraries(names)?;
    let downloads = tempfile::tempdir().context("make a download directory")?;
    let archives = packages::download(&wanted, downloads.path())?;
    packages::unpack(&archives, root)?;
    for unneeded in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"] {
        match fs::remove_dir_all(root.join(unneeded)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove /{unneeded}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The packages, those of the same family that they need (nginx-common), and
/// the libraries of all of them.
fn with_libraries(names: &[&str]) -> Result<Vec<String>> {
    let mut wanted = BTreeSet::new();
    let mut to_visit: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = to_visit.pop() {
        if wanted.contains(&name) {
            continue;
        }
        let record = record(&name)?;
        for needed in dependencies(&record) {
            let same_family = names.iter().any(|asked| needed.starts_with(&format!("{asked}-")));
            if same_family || is_library(&needed) {
                to_visit.push(needed);
            }
        }
        wanted.insert(name);
    }
    Ok(wanted.into_iter().collect())
}

/// The package with a version in its name that one without stands for:
/// `postgresql` for `postgresql-15`.
///
/// # Errors
/// When apt does not know the package, or it stands for nothing.
pub fn newest(name: &str) -> Result<String> {
    if record(name).is_err() {
        packages::refresh_index()?;
    }
    let versioned = |needed: &String| {
        let version = needed.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        version.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let found = dependencies(&record(name)?).into_iter().find(versioned);
    found.with_context(|| format!("find out which version of {name} there is"))
}

/// What a program can do without, however it was linked: the compiler behind
/// PostgreSQL's optional query compilation is larger than all the rest.
const LEFT_OUT: &str = "libllvm";

fn is_library(name: &str) -> bool {
    if name.starts_with(LEFT_OUT) {
        return false;
    }
    // A name apt has no record of is a virtual package: nobody's library. A
    // module of nginx has the section of nginx, so this leaves it out.
    record(name).is_ok_and(|record| {
        let section = field(&record, "Section").unwrap_or_default();
        section == "libs" || section.ends_with("/libs")
    })
}

/// What apt knows about a package.
fn record(name: &str) -> Result<String> {
    process::capture(Command::new("apt-cache").args(["show", "--no-all-versions", name]))
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
}
