//! A Docker engine of our own, on its own socket and data root, so that one already on the
//! machine is neither used nor disturbed: a peer of benches, and what runs the images of
//! `deploy/` in tests.
//!
//! Start from [`Engine::start`]. `cargo xtask engine` has one for whoever keeps its standard
//! input open, with the images that the tests build upon.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use crate::output::result;
use crate::process::{self, Owned};
use crate::{image, packages, processes};

/// Longest wait for the engine's socket; a cold start takes a few seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How its containers are connected unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Not at all.
    None,
    /// By a bridge with this address.
    Bridge(&'static str),
}

/// A running engine; gone with all its containers when this is dropped.
pub struct Engine {
    client: PathBuf,
    name: String,
    // Dropped in this order: first the engine, then what it used.
    engine: Owned,
    _bridge: Option<Bridge>,
    directory: TempDir,
}

impl Engine {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not become ready; the error carries its log.
    pub fn start(network: Network) -> Result<Self> {
        let server = packages::find("dockerd")?.context("find dockerd")?;
        let client = client()?;
        let directory = tempfile::tempdir().context("make a directory for Docker")?;
        // An interface's name has at most 15 characters.
        let name = format!("hxb{}", std::process::id());
        let bridge = match network {
            Network::None => None,
            Network::Bridge(address) => Some(Bridge::create(&name, address)?),
        };
        let engine = start_engine(&server, directory.path(), &name, bridge.is_some())?;
        let mut engine = Self { client, name, engine, _bridge: bridge, directory };
        engine.wait_until_ready()?;
        Ok(engine)
    }

    /// The engine's version.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn version(&self) -> Result<String> {
        process::capture(self.command().args(["version", "--format", "{{.Server.Version}}"]))
    }

    /// Its client, which will talk to no other.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("--host").arg(self.host());
        // A person's own settings may point at another engine.
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.env("DOCKER_CONFIG", self.directory.path());
        command
    }

    /// Where it listens, as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        socket(self.directory.path())
    }

    /// Where files for it may be put, which go when it does.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The engine's own processes, helpers included.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn processes(&self) -> Result<BTreeSet<u32>> {
        let mut pids = processes::tree(self.engine.id())?;
        // The shims detach from the engine, but carry its directory.
        pids.extend(processes::mentioning(self.directory.path())?);
        Ok(pids)
    }

    /// Makes an image of an archive, compressed or not. `change` is a line of a Dockerfile.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn import(&self, archive: &Path, image: &str, change: Option<&str>) -> Result<()> {
        let mut import = self.command();
        import.arg("import");
        if let Some(change) = change {
            import.args(["--change", change]);
        }
        process::output(import.arg(archive).arg(image)).map(drop)
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

    /// Networks that containers were given: their bridges would outlive the engine.
    fn remove_networks(&self) {
        let mut list = self.command();
        list.args(["network", "ls", "--quiet", "--filter", "type=custom"]);
        if let Ok(networks) = process::capture(&mut list) {
            for network in networks.lines() {
                let _ = process::output(self.command().args(["network", "rm", network]));
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Through the engine first, so that namespaces and mounts go cleanly.
        if let Ok(names) = process::capture(self.command().args(["ps", "--all", "--quiet"])) {
            let names: Vec<String> = names.lines().map(str::to_owned).collect();
            let _ = self.remove(&names);
        }
        self.remove_networks();
        // containerd would outlive a killed engine: end it, and every shim.
        if let Ok(pids) = self.processes() {
            let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
            let _ = process::output(Command::new("kill").arg("-TERM").args(&list));
            wait_until_gone(&pids);
            let _ = process::output(Command::new("kill").arg("-KILL").args(&list));
        }
        for point in mounts_below(self.directory.path()) {
            let _ = process::output(Command::new("umount").arg("--lazy").arg(point));
        }
        remove_cgroups(&self.name);
    }
}

/// `cargo xtask engine`: has an engine, says where in a line of JSON, and ends with its
/// standard input.
///
/// # Errors
/// When packages cannot be fetched or the engine does not start.
pub fn run() -> Result<()> {
    let engine = Engine::start(Network::None)?;
    let mut images = serde_json::Map::new();
    for (name, archive) in [("base", image::base_of_static()?), ("busybox", image::busybox_base()?)]
    {
        let reference = format!("helix-{name}");
        engine.import(&archive, &reference, None)?;
        images.insert(name.to_owned(), reference.into());
    }
    let (host, version) = (engine.host(), engine.version()?);
    result(
        &json!({ "host": host, "client": engine.client, "version": version, "images": images })
            .to_string(),
    );
    // Nothing is said to it: that it ends is what counts.
    std::io::stdin().read_to_end(&mut Vec::new()).context("wait for the end of the input")?;
    Ok(())
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

fn start_engine(server: &Path, directory: &Path, name: &str, bridged: bool) -> Result<Owned> {
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
        .args(["--bridge", if bridged { name } else { "none" }])
        // A name of its own, so that it can be removed afterwards.
        .args(["--cgroup-parent", name])
        // The machine's packet filter and forwarding stay as they are. That
        // saves the engine work, so that a comparison only favours it.
        .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"])
        // Its helpers may have been unpacked where it would not look.
        .env("PATH", packages::search_path()?)
        .stdin(Stdio::null())
        .stderr(log.try_clone().context("share dockerd's log")?)
        .stdout(log);
    Owned::spawn(&mut command)
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

/// A bridge of our own, so that the engine makes no `docker0`.
struct Bridge {
    name: String,
}

impl Bridge {
    fn create(name: &str, address: &str) -> Result<Self> {
        let bridge = Self { name: name.to_owned() };
        ip(&["link", "add", &bridge.name, "type", "bridge"])?;
        ip(&["addr", "add", address, "dev", &bridge.name])?;
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
