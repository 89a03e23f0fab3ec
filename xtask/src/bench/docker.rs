//! Peer: a Docker engine of the bench's own, on its own socket, data root and
//! bridge, so that one already on the machine is neither used nor disturbed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::processes;
use super::rootfs;
use super::subject::{Subject, at_once};
use crate::packages;
use crate::process::{self, Owned};

/// Longest wait for the engine's socket; a cold start takes a few seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Addresses nobody routes (RFC 5737, TEST-NET-2) for the bench's bridge.
const BRIDGE_ADDRESS: &str = "198.51.100.1/24";

/// How the containers are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    None,
    /// A veth pair and an address each, the engine's ordinary way.
    Bridge,
}

/// An engine and the containers it runs.
pub struct Docker {
    client: PathBuf,
    network: Network,
    version: String,
    running: Vec<String>,
    started: usize,
    // Dropped in this order: first the engine, then what it used.
    engine: Owned,
    bridge: Bridge,
    directory: TempDir,
}

impl Docker {
    /// Starts the engine and imports the image.
    ///
    /// # Errors
    /// When the engine does not become ready; the error carries its log.
    pub fn prepare(network: Network) -> Result<Self> {
        let server = packages::find("dockerd")?.context("find dockerd")?;
        let client = client()?;
        let directory = tempfile::tempdir().context("make a directory for Docker")?;
        let bridge = Bridge::create()?;
        let engine = start_engine(&server, directory.path(), &bridge)?;
        let mut docker = Self {
            client,
            network,
            version: String::new(),
            running: Vec::new(),
            started: 0,
            engine,
            bridge,
            directory,
        };
        docker.wait_until_ready()?;
        let asked = ["version", "--format", "{{.Server.Version}}"];
        docker.version = process::capture(docker.command().args(asked))?;
        docker.import("bench", &rootfs::IDLE_COMMAND, "docker\n")?;
        Ok(docker)
    }

    /// The engine's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Makes an image of the bench's root file system.
    ///
    /// # Errors
    /// When it cannot be written or imported.
    pub fn import(&self, image: &str, command: &[&str], page: &str) -> Result<()> {
        let root = self.directory.path().join(format!("rootfs-{image}"));
        rootfs::write(&root, page)?;
        self.import_root(image, command, &root)
    }

    /// Makes an image of a root file system.
    ///
    /// # Errors
    /// When it cannot be archived or imported.
    pub fn import_root(
        &self,
        image: &str,
        command: &[impl serde::Serialize],
        root: &Path,
    ) -> Result<()> {
        let archive = self.directory.path().join(format!("{image}.tar"));
        rootfs::archive(root, &archive)?;
        let change = format!("CMD {}", serde_json::to_string(command).context("write a command")?);
        let mut import = self.command();
        import.args(["import", "--change", &change]).arg(&archive).arg(image);
        process::output(&mut import).map(drop)
    }

    /// `docker run --detach`: returns when the container's command runs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&self, image: &str, name: &str) -> Result<()> {
        let network = match self.network {
            Network::None => "none",
            Network::Bridge => "bridge",
        };
        let mut run = self.command();
        run.args(["run", "--detach", "--network", network, "--name", name, image]);
        process::output(&mut run).map(drop)
    }

    /// Waits until a container has ended.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn wait(&self, name: &str) -> Result<()> {
        process::output(self.command().args(["wait", name])).map(drop)
    }

    /// Where the engine keeps a container's output.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn log_path(&self, name: &str) -> Result<PathBuf> {
        let path =
            process::capture(self.command().args(["inspect", "--format", "{{.LogPath}}", name]))?;
        Ok(PathBuf::from(path))
    }

    /// The address the engine gave a container.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn address(&self, name: &str) -> Result<String> {
        let format = "{{.NetworkSettings.IPAddress}}";
        process::capture(self.command().args(["inspect", "--format", format, name]))
    }

    /// Removes containers, running or not.
    ///
    /// # Errors
    /// When one does not exist or does not go away.
    pub fn remove(&self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        process::output(self.command().args(["rm", "--force"]).args(names)).map(drop)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("--host").arg(socket(self.directory.path()));
        // A person's own settings may point at another engine.
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.env("DOCKER_CONFIG", self.directory.path());
        command
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answered = process::output(self.command().args(["version"]));
            if answered.is_ok() {
                return Ok(());
            }
            let gone = self.engine.check_alive();
            if gone.is_err() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("dockerd.log"));
                bail!("dockerd did not become ready: {}", log.unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The distribution's client, the engine's own kind, before another that may be
/// earlier on the `PATH`.
fn client() -> Result<PathBuf> {
    let packaged = PathBuf::from("/usr/bin/docker");
    if packaged.exists() {
        return Ok(packaged);
    }
    packages::find("docker")?.context("find docker")
}

fn socket(directory: &Path) -> String {
    format!("unix://{}/docker.sock", directory.display())
}

fn start_engine(server: &Path, directory: &Path, bridge: &Bridge) -> Result<Owned> {
    let log = fs::File::create(directory.join("dockerd.log")).context("create dockerd's log")?;
    let mut command = Command::new(server);
    command
        .arg("--host")
        .arg(socket(directory))
        .arg("--data-root")
        .arg(directory.join("data"))
        .arg("--exec-root")
        .arg(directory.join("exec"))
        .arg("--pidfile")
        .arg(directory.join("dockerd.pid"))
        .args(["--bridge", &bridge.name])
        // A name of the bench's own, so that it can be removed afterwards.
        .args(["--cgroup-parent", &bridge.name])
        // The machine's packet filter and forwarding stay as they are. That
        // saves the engine work, so the comparison only favours it.
        .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"])
        .stdin(Stdio::null())
        .stderr(log.try_clone().context("share dockerd's log")?)
        .stdout(log);
    Owned::spawn(&mut command)
}

impl Subject for Docker {
    fn name(&self) -> String {
        match self.network {
            Network::None => format!("docker {} run (no network)", self.version),
            Network::Bridge => format!("docker {} run (own address)", self.version),
        }
    }

    fn start(&mut self, count: usize) -> Result<()> {
        let names: Vec<String> =
            (self.started..self.started + count).map(|number| format!("bench-{number}")).collect();
        self.started += count;
        self.running.extend(names.clone());
        at_once(&names, |name| self.run("bench", name))
    }

    fn clear(&mut self) -> Result<()> {
        let names = std::mem::take(&mut self.running);
        self.remove(&names)
    }

    fn overhead(&self) -> Result<BTreeSet<u32>> {
        let mut pids = processes::tree(self.engine.id())?;
        // The shims detach from the engine, but carry its directory.
        pids.extend(processes::mentioning(self.directory.path())?);
        Ok(pids)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Through the engine first, so that namespaces and mounts go cleanly.
        if let Ok(names) = process::capture(self.command().args(["ps", "--all", "--quiet"])) {
            let names: Vec<String> = names.lines().map(str::to_owned).collect();
            let _ = self.remove(&names);
        }
        // containerd would outlive a killed engine: end it, and every shim.
        if let Ok(pids) = self.overhead() {
            let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
            let _ = process::output(Command::new("kill").arg("-TERM").args(&list));
            wait_until_gone(&pids);
            let _ = process::output(Command::new("kill").arg("-KILL").args(&list));
        }
        for point in mounts_below(self.directory.path()) {
            let _ = process::output(Command::new("umount").arg("--lazy").arg(point));
        }
        remove_cgroups(&self.bridge.name);
    }
}

/// Gives processes a moment to end by themselves. One that the caller has not
/// reaped yet is a zombie, without memory, and counts as gone.
fn wait_until_gone(pids: &BTreeSet<u32>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let lives = |pid: &u32| processes::Memory::of(&BTreeSet::from([*pid])).rss_kib > 0;
    while pids.iter().any(lives) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Mount points below a directory, the deepest first.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1).map(PathBuf::from))
        .filter(|point| point.starts_with(directory))
        .collect();
    below.sort();
    below.reverse();
    below
}

/// Removes the empty control groups of this name that the engine leaves, in
/// the unified hierarchy or in each of the older ones.
fn remove_cgroups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let _ = fs::remove_dir(hierarchy.join(name));
    }
}

/// The bench's own bridge, so that the engine makes no `docker0`.
struct Bridge {
    name: String,
}

impl Bridge {
    fn create() -> Result<Self> {
        // An interface's name has at most 15 characters.
        let bridge = Self { name: format!("hxb{}", std::process::id()) };
        ip(&["link", "add", &bridge.name, "type", "bridge"])?;
        ip(&["addr", "add", BRIDGE_ADDRESS, "dev", &bridge.name])?;
        ip(&["link", "set", &bridge.name, "up"])?;
        Ok(bridge)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = ip(&["link", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let program = packages::find("ip")?.context("find ip")?;
    process::output(Command::new(program).args(arguments)).map(drop)
}
