//! Which processes belong to something that was started, and how much memory they hold, read
//! from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Memory of a set of processes, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, pages shared with others counted in full each time.
    pub rss_kib: u64,
    /// Proportional: a page shared by n processes counts 1/n in each.
    pub pss_kib: u64,
}

impl Memory {
    /// Sums over processes; one that ended meanwhile counts nothing.
    pub fn of(pids: &BTreeSet<u32>) -> Self {
        let rollups = pids
            .iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok());
        rollups.fold(Self::default(), |sum, rollup| Self {
            rss_kib: sum.rss_kib + kib(&rollup, "Rss:"),
            pss_kib: sum.pss_kib + kib(&rollup, "Pss:"),
        })
    }
}

fn kib(rollup: &str, field: &str) -> u64 {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// A process and all its living descendants.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn tree(root: u32) -> Result<BTreeSet<u32>> {
    let parents: Vec<(u32, u32)> =
        pids()?.into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}

/// Processes that name `path` in their arguments: how an engine's helpers are
/// found after they have detached from it. The path must be one only the
/// caller's own processes can know, such as a temporary directory.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn mentioning(path: &Path) -> Result<BTreeSet<u32>> {
    let wanted = path.to_string_lossy();
    let own = std::process::id();
    let names = |pid: u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|arguments| String::from_utf8_lossy(&arguments).contains(&*wanted))
    };
    Ok(pids()?.into_iter().filter(|pid| *pid != own && names(*pid)).collect())
}

/// Those of `pids` that are not inside an instance, which has process ids of its
/// own.
pub fn outside_instances(pids: BTreeSet<u32>) -> BTreeSet<u32> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace("self");
    pids.into_iter().filter(|pid| namespace(&pid.to_string()) == own).collect()
}

fn pids() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("list /proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Owned;
    use std::process::Command;

    #[test]
    fn a_child_is_in_the_tree_and_has_memory() {
        let child = Owned::spawn(Command::new("sleep").arg("600")).unwrap();
        let tree = tree(std::process::id()).unwrap();
        assert!(tree.contains(&child.id()));
        let memory = Memory::of(&BTreeSet::from([child.id()]));
        assert!(memory.rss_kib >= memory.pss_kib && memory.pss_kib > 0, "{memory:?}");
    }

    #[test]
    fn processes_are_found_by_a_path_among_their_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("tail");
        command.args(["--follow", "--retry"]).arg(directory.path().join("nothing"));
        let child = Owned::spawn(command.stderr(std::process::Stdio::null())).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while mentioning(directory.path()).unwrap() != BTreeSet::from([child.id()]) {
            assert!(std::time::Instant::now() < deadline, "not found in time");
        }
    }
}
