//! Peer: etcd, the usual keeper of a control plane's state, through its own
//! HTTP API, as one member on this machine's disk.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::http;
use crate::packages;
use crate::process::{self, Owned, free_port};

/// It elects itself before it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running etcd with an empty data directory.
pub struct Etcd {
    version: String,
    address: String,
    server: Owned,
    _directory: TempDir,
}

impl Etcd {
    /// Starts it on free loopback ports and waits until it is healthy.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Etcd> {
        let program = packages::find("etcd")?.context("find etcd")?;
        let said = process::capture(Command::new(&program).arg("--version"))?;
        let version = said.lines().next().and_then(|line| line.rsplit(' ').next());
        let version = version.unwrap_or_default().to_owned();
        let directory = tempfile::tempdir().context("make a directory for etcd")?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let (client, peer) = (format!("http://{address}"), format!("127.0.0.1:{}", free_port()?));
        let peer = format!("http://{peer}");
        let mut command = Command::new(&program);
        command
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--logger", "zap", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Owned::spawn(&mut command)?;
        let mut etcd = Etcd { version, address, server, _directory: directory };
        etcd.wait_until_healthy()?;
        Ok(etcd)
    }

    /// As the tables call it.
    pub fn name(&self) -> String {
        format!("etcd {}", self.version)
    }

    /// Where its HTTP API is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Keeps one pair, both in base64, given as the JSON that its API takes.
    ///
    /// # Errors
    /// When it refuses.
    pub fn put(&self, pair: &str) -> Result<()> {
        http::post(&self.address, "/v3/kv/put", pair)
    }

    fn wait_until_healthy(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.server.check_alive()?;
            let said = http::get(&self.address, "etcd", "/health").unwrap_or_default();
            if said.contains("\"health\":\"true\"") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("etcd is not healthy after {READY_WITHIN:?}: {said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
