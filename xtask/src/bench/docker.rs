//! Peer: Docker, by an engine of the bench's own ([`crate::engine`]).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::rootfs;
use super::subject::{Subject, at_once};
use crate::engine::{self, Engine};
use crate::process;

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
    network: Network,
    version: String,
    running: Vec<String>,
    started: usize,
    engine: Engine,
}

impl Docker {
    /// Starts the engine and imports the image.
    ///
    /// # Errors
    /// When the engine does not become ready; the error carries its log.
    pub fn prepare(network: Network) -> Result<Self> {
        // There in any case: what is compared is how a container is started.
        let engine = Engine::start(engine::Network::Bridge(BRIDGE_ADDRESS))?;
        let version = engine.version()?;
        let docker = Self { network, version, running: Vec::new(), started: 0, engine };
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
        let root = self.engine.directory().join(format!("rootfs-{image}"));
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
        let archive = self.engine.directory().join(format!("{image}.tar"));
        rootfs::archive(root, &archive)?;
        let change = format!("CMD {}", serde_json::to_string(command).context("write a command")?);
        self.engine.import(&archive, image, Some(&change))
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
        let mut run = self.engine.command();
        run.args(["run", "--detach", "--network", network, "--name", name, image]);
        process::output(&mut run).map(drop)
    }

    /// Waits until a container has ended.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn wait(&self, name: &str) -> Result<()> {
        process::output(self.engine.command().args(["wait", name])).map(drop)
    }

    /// Where the engine keeps a container's output.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn log_path(&self, name: &str) -> Result<PathBuf> {
        let path = process::capture(self.engine.command().args([
            "inspect",
            "--format",
            "{{.LogPath}}",
            name,
        ]))?;
        Ok(PathBuf::from(path))
    }

    /// The address the engine gave a container.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn address(&self, name: &str) -> Result<String> {
        let format = "{{.NetworkSettings.IPAddress}}";
        process::capture(self.engine.command().args(["inspect", "--format", format, name]))
    }

    /// Removes containers, running or not.
    ///
    /// # Errors
    /// When one does not exist or does not go away.
    pub fn remove(&self, names: &[String]) -> Result<()> {
        self.engine.remove(names)
    }
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
        self.engine.processes()
    }
}
