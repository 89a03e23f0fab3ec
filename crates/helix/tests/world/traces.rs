//! What a platform leaves on the machine: finding it, and removing it.
//!
//! Looks with the kernel's and `ip`'s eyes, not with the product's, and only at
//! what carries this world's folder, network or instances in its name: other
//! platforms may run beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Processes, mounts, cgroups, links, routes and secrets that are left.
pub fn find(folder: &Path, data: &Path, instances: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (pid, words) in processes(folder) {
        found.push(format!("process {pid}: {words}"));
    }
    found.extend(mounts(folder).iter().map(|path| format!("mount {}", path.display())));
    for cgroup in cgroups(instances) {
        found.push(format!("cgroup {}", cgroup.display()));
    }
    let links = ip(&["link", "show"]).to_lowercase();
    for instance in instances {
        let link = link_of(instance);
        if links.contains(&link) {
            found.push(format!("link {link}"));
        }
    }
    found.extend(routes(data).into_iter().map(|route| format!("route {route}")));
    let kept = kept_in_memory(instances);
    found.extend(kept.iter().map(|path| format!("secrets {}", path.display())));
    found
}

/// Removes all of it. Never panics, because it runs while a test does.
pub fn remove(folder: &Path, data: &Path) {
    for instance in instances(data) {
        // The product's own broom knows best; what it misses is swept below.
        let _ = helix_runtime::cleanup(&data.join("node/instances").join(instance));
    }
    for path in kept_in_memory(&instances(data)) {
        let _ = fs::remove_dir_all(path);
    }
    for (pid, _) in processes(folder) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for mount in mounts(folder).iter().rev() {
        let _ = umount2(mount, MntFlags::MNT_DETACH);
    }
    for route in routes(data) {
        let words: Vec<&str> = route.split_whitespace().collect();
        // `local PREFIX dev DEV …` or `PREFIX dev DEV …`
        let named = if words.first() == Some(&"local") { 4 } else { 3 };
        let mut arguments = vec!["-6", "route", "del"];
        arguments.extend(words.iter().take(named));
        ip(&arguments);
    }
}

/// Ids of the instances the node knows of.
pub fn instances(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("node/instances")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Where nodes of this machine keep secrets of these instances in memory:
/// `…/secrets/AGENT/INSTANCE`.
pub fn kept_in_memory<'i>(instances: impl IntoIterator<Item = &'i String>) -> Vec<PathBuf> {
    let shared = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let places = shared.map(|entry| entry.path()).chain([PathBuf::from("/run/helix")]);
    let agents = places.flat_map(|place| fs::read_dir(place.join("secrets")).into_iter().flatten());
    let agents: Vec<PathBuf> = agents.flatten().map(|entry| entry.path()).collect();
    let of = |instance: &'i String| agents.iter().map(move |agent| agent.join(instance));
    let all: Vec<PathBuf> = instances.into_iter().flat_map(of).collect();
    all.into_iter().filter(|path| path.exists()).collect()
}

/// The process id of an instance's program, as the machine counts.
pub fn workload_pid(data: &Path, instance: &str) -> Option<i32> {
    pid_of(data, instance, "workload")
}

/// The process id of the shim that owns an instance.
pub fn shim_pid(data: &Path, instance: &str) -> Option<i32> {
    pid_of(data, instance, "shim")
}

/// Whether a process is there and not only waiting to be buried.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

fn pid_of(data: &Path, instance: &str, whose: &str) -> Option<i32> {
    let path = data.join("node/instances").join(instance).join("status.json");
    let status: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    i32::try_from(status[whose]["pid"].as_i64()?).ok()
}

/// Processes whose command line names the folder.
fn processes(folder: &Path) -> Vec<(i32, String)> {
    let folder = folder.to_string_lossy();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        words.contains(&*folder).then_some((pid, words))
    });
    named.collect()
}

/// Mount points below the folder, outermost first.
fn mounts(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(folder)).collect()
}

/// Cgroups of instances: `/sys/fs/cgroup[/HIERARCHY]/…/ID`.
fn cgroups(instances: &BTreeSet<String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    named_after(Path::new("/sys/fs/cgroup"), instances, 5, &mut found);
    found
}

fn named_after(folder: &Path, names: &BTreeSet<String>, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if names.iter().any(|name| entry.file_name().to_string_lossy().contains(name)) {
            found.push(entry.path());
        } else if depth > 0 {
            named_after(&entry.path(), names, depth - 1, found);
        }
    }
}

/// The host's end of an instance's link is named after the id's end.
fn link_of(instance: &str) -> String {
    let start = instance.len().saturating_sub(12);
    format!("hx-{}", instance[start..].to_lowercase())
}

/// Routes into this platform's own network, as `ip` prints them.
fn routes(data: &Path) -> Vec<String> {
    let Some(network) = network(data) else {
        return Vec::new();
    };
    let table = ip(&["-6", "route", "show", "table", "all"]);
    let ours = table.lines().filter(|line| line.contains(&network));
    ours.map(|line| line.trim().to_owned()).collect()
}

/// The first 48 bits of the platform's network, as they are written:
/// `fd12:3456:789a:`.
fn network(data: &Path) -> Option<String> {
    let plan = fs::read_to_string(data.join("node/plan.json")).ok()?;
    let plan: Value = serde_json::from_str(&plan).ok()?;
    let address = plan["network"].as_str()?;
    let groups: Vec<&str> = address.split(':').take(3).collect();
    Some(groups.iter().map(|group| format!("{group}:")).collect())
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
