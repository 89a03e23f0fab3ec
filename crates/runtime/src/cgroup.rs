//! The cgroup of one instance on v2, v1 and hybrid machines: create, limit,
//! enter, measure, kill, remove. Start at [`Cgroup::create`].
//!
//! Ours rather than libcontainer's, whose managers refuse to start at all when a
//! controller is missing or the hierarchy is read-only; here a start goes on and
//! says which limits are not in force. It must not know what runs inside.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::spec::{DEFAULT_PIDS, Resources};
use crate::status::Limits;

const ROOT: &str = "/sys/fs/cgroup";

/// Directory under which all instances' cgroups live.
const PARENT: &str = "helix";

/// How long killing everything in a cgroup may take: the kernel needs
/// milliseconds, a process in uninterruptible I/O may need longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to retry while the kernel still counts dying processes.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Which interface files a cgroup has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// One directory per controller; hybrid machines count as this.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The version this machine mounts, if any.
#[must_use]
pub(crate) fn detect() -> Option<CgroupVersion> {
    let kind = statfs(ROOT).ok()?.filesystem_type();
    if kind == CGROUP2_SUPER_MAGIC {
        return Some(CgroupVersion::V2);
    }
    Path::new(ROOT).join("memory").is_dir().then_some(CgroupVersion::V1)
}

/// The directories of one instance's cgroup. Survives in the status file, so
/// that cleanup works without the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    version: CgroupVersion,
    /// One per controller on v1, exactly one on v2.
    dirs: Vec<PathBuf>,
    /// The directory with the memory files, where that controller is there.
    memory: Option<PathBuf>,
}

impl Cgroup {
    /// Makes a cgroup and applies `resources`. Never fails: what could not be
    /// done is in the returned [`Limits`], and the cgroup holds what worked.
    #[must_use]
    pub fn create(name: &str, resources: &Resources) -> (Option<Self>, Limits) {
        let mut problems = Vec::new();
        let cgroup = match detect() {
            Some(CgroupVersion::V1) if !nix::unistd::geteuid().is_root() => {
                problems.push("cgroup v1 belongs to root; run as root for limits".to_owned());
                None
            }
            Some(CgroupVersion::V1) => Self::create_v1(name, resources, &mut problems),
            Some(CgroupVersion::V2) => Self::create_v2(name, resources, &mut problems),
            None => {
                problems.push(format!("no cgroup hierarchy is mounted at {ROOT}"));
                None
            }
        };
        let limits = Limits {
            limits_enforced: problems.is_empty(),
            reason: (!problems.is_empty()).then(|| problems.join("; ")),
        };
        (cgroup, limits)
    }

    fn create_v1(name: &str, resources: &Resources, problems: &mut Vec<String>) -> Option<Self> {
        let mut cgroup = Self { version: CgroupVersion::V1, dirs: Vec::new(), memory: None };
        for controller in ["memory", "pids", "cpu"] {
            let dir = Path::new(ROOT).join(controller).join(PARENT).join(name);
            if let Err(error) = fs::create_dir_all(&dir).and_then(|()| writable(&dir)) {
                problems.push(format!("{controller} limit: {}", explain(&dir, &error)));
                continue;
            }
            let applied = apply(&dir, &v1_settings(controller, resources));
            if let Err(problem) = applied {
                problems.push(format!("{controller} limit: {problem}"));
            }
            if controller == "memory" {
                cgroup.memory = Some(dir.clone());
            }
            cgroup.dirs.push(dir);
        }
        (!cgroup.dirs.is_empty()).then_some(cgroup)
    }

    fn create_v2(name: &str, resources: &Resources, problems: &mut Vec<String>) -> Option<Self> {
        let parent = v2_parent();
        let dir = parent.join(name);
        let made = delegate(&parent).and_then(|()| fs::create_dir_all(&dir));
        if let Err(error) = made.and_then(|()| writable(&dir)) {
            problems.push(format!("limits: {}", explain(&dir, &error)));
            return None;
        }
        for (what, settings) in v2_settings(resources) {
            if let Err(problem) = apply(&dir, &settings) {
                problems.push(format!("{what} limit: {problem}"));
            }
        }
        let memory = dir.join("memory.current").exists().then(|| dir.clone());
        Some(Self { version: CgroupVersion::V2, dirs: vec![dir], memory })
    }

    /// Opens the membership files. A process that writes `0` to each of them
    /// joins, even from inside namespaces where these paths do not exist.
    pub(crate) fn open_membership(&self) -> io::Result<Vec<File>> {
        let open = |dir: &PathBuf| OpenOptions::new().write(true).open(dir.join("cgroup.procs"));
        self.dirs.iter().map(open).collect()
    }

    /// Moves the calling process in.
    pub(crate) fn enter(&self) -> io::Result<()> {
        use std::io::Write;
        self.open_membership()?.iter_mut().try_for_each(|file| file.write_all(b"0"))
    }

    /// Bytes of memory in use, page cache included.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_number("memory.usage_in_bytes", "memory.current")
    }

    /// The highest memory use so far, in bytes.
    #[must_use]
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        self.memory_number("memory.max_usage_in_bytes", "memory.peak")
    }

    /// How many processes the kernel killed in here for lack of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let Some(dir) = &self.memory else { return 0 };
        let file = match self.version {
            CgroupVersion::V1 => "memory.oom_control",
            CgroupVersion::V2 => "memory.events",
        };
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    fn memory_number(&self, v1: &str, v2: &str) -> Option<u64> {
        let file = match self.version {
            CgroupVersion::V1 => v1,
            CgroupVersion::V2 => v2,
        };
        fs::read_to_string(self.memory.as_ref()?.join(file)).ok()?.trim().parse().ok()
    }

    fn pids(&self) -> Vec<i32> {
        let read = |dir: &PathBuf| fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let mut pids: Vec<i32> = self
            .dirs
            .iter()
            .flat_map(|dir| read(dir).lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .filter(|pid| *pid > 0)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills every process inside, forks under way included.
    pub fn kill_all(&self) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            let pids = self.pids();
            if pids.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in pids {
                // Gone already is what we want; anything else shows at the deadline.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes the cgroup. Absent ones count as removed.
    pub fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        for dir in &self.dirs {
            loop {
                match fs::remove_dir(dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }
        Ok(())
    }
}

/// Where a v2 cgroup may be made: at the top for root, beside the caller's own
/// cgroup for a user, which is writable where the user has a delegated subtree.
fn v2_parent() -> PathBuf {
    let root = Path::new(ROOT);
    if nix::unistd::geteuid().is_root() {
        return root.join(PARENT);
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let beside = Path::new(own).parent().unwrap_or_else(|| Path::new(""));
    root.join(beside).join(PARENT)
}

/// Makes the parent and hands the controllers we need down to its children.
/// Each is asked for alone: one that is missing must not take the others along.
fn delegate(parent: &Path) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    let levels = [parent.parent(), Some(parent)];
    for (level, controller) in levels
        .iter()
        .flatten()
        .flat_map(|level| ["+memory", "+pids", "+cpu", "+io"].map(|c| (*level, c)))
    {
        // Failure shows as the missing interface file when the limit is applied.
        let _ = write_existing(&level.join("cgroup.subtree_control"), controller);
    }
    Ok(())
}

/// A file to write and its value; an absent optional file is no problem.
struct Setting {
    file: &'static str,
    value: String,
    optional: bool,
}

impl Setting {
    fn required(file: &'static str, value: impl ToString) -> Self {
        Self { file, value: value.to_string(), optional: false }
    }

    fn optional(file: &'static str, value: impl ToString) -> Self {
        Self { optional: true, ..Self::required(file, value) }
    }
}

fn v1_settings(controller: &str, resources: &Resources) -> Vec<Setting> {
    match controller {
        "memory" => resources.memory_bytes.map_or_else(Vec::new, |bytes| {
            vec![
                Setting::required("memory.limit_in_bytes", bytes),
                // Absent where the kernel does not account swap: then there is
                // no swap to escape into either.
                Setting::optional("memory.memsw.limit_in_bytes", bytes),
            ]
        }),
        "pids" => vec![Setting::required("pids.max", resources.pids.unwrap_or(DEFAULT_PIDS))],
        _ => resources.cpu.map_or_else(Vec::new, |cpu| {
            vec![Setting::required("cpu.shares", scaled(cpu, 1024.0, 2, 262_144))]
        }),
    }
}

fn v2_settings(resources: &Resources) -> Vec<(&'static str, Vec<Setting>)> {
    let mut all =
        vec![("pids", vec![Setting::required("pids.max", resources.pids.unwrap_or(DEFAULT_PIDS))])];
    if let Some(bytes) = resources.memory_bytes {
        let settings =
            vec![Setting::required("memory.max", bytes), Setting::optional("memory.swap.max", 0)];
        all.push(("memory", settings));
    }
    if let Some(cpu) = resources.cpu {
        let weight = scaled(cpu, 100.0, 1, 10_000);
        all.push(("cpu", vec![Setting::required("cpu.weight", weight)]));
        // Who has more of the processor has more of the disks. Absent where the kernel
        // or its scheduler of disks knows no shares.
        all.push(("io", vec![Setting::optional("io.weight", weight)]));
    }
    all
}

/// `cpu × factor`, rounded and kept in the range the kernel accepts.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn scaled(cpu: f64, factor: f64, low: u64, high: u64) -> u64 {
    // Clamped first, so the cast can neither wrap nor lose a sign.
    (cpu * factor).round().clamp(low as f64, high as f64) as u64
}

fn apply(dir: &Path, settings: &[Setting]) -> Result<(), String> {
    for setting in settings {
        let path = dir.join(setting.file);
        match write_existing(&path, &setting.value) {
            Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(explain(&path, &error)),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Writes without creating: on a tmpfs posing as a cgroup, creating the file
/// would look like success.
fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn writable(dir: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(dir.join("cgroup.procs")).map(drop)
}

fn explain(path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => " (run as root, or delegate a cgroup to this user)",
        io::ErrorKind::ReadOnlyFilesystem => " (cgroups are mounted read-only here)",
        io::ErrorKind::NotFound => " (the kernel controller is not available here)",
        _ => "",
    };
    format!("{}: {error}{advice}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_shares_stay_in_the_kernels_range() {
        assert_eq!(scaled(1.0, 1024.0, 2, 262_144), 1024);
        assert_eq!(scaled(0.0, 1024.0, 2, 262_144), 2);
        assert_eq!(scaled(1e9, 100.0, 1, 10_000), 10_000);
        assert_eq!(scaled(0.5, 100.0, 1, 10_000), 50);
    }

    #[test]
    fn a_missing_file_is_an_error_unless_optional() {
        let dir = tempfile::tempdir().unwrap();
        assert!(apply(dir.path(), &[Setting::optional("absent", 1)]).is_ok());
        let error = apply(dir.path(), &[Setting::required("absent", 1)]).unwrap_err();
        assert!(error.contains("not available"), "{error}");
    }
}
