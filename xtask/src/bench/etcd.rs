//! Peer: etcd, the usual keeper of a control plane's state, through its own
//! HTTP API, as one member on this machine's disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::http;
use crate::packages;
use crate::process::{self, Owned, free_port};
use crate::processes::Memory;

/// It elects itself before it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Keys put in one transaction of [`Etcd::fill`].
const PUTS_AT_ONCE: usize = 5000;

/// A running etcd with an empty data directory.
pub struct Etcd {
    version: String,
    address: String,
    peer: String,
    program: PathBuf,
    server: Owned,
    directory: TempDir,
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
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let server = spawn(&program, directory.path(), &address, &peer)?;
        let mut etcd = Etcd { version, address, peer, program, server, directory };
        etcd.wait_until_healthy(READY_WITHIN)?;
        Ok(etcd)
    }

    /// Kills it and starts it on the same files; how long until it was healthy.
    ///
    /// # Errors
    /// When it does not start within `limit`.
    pub fn start_again(&mut self, limit: Duration) -> Result<Duration> {
        self.server.kill()?;
        let started = Instant::now();
        self.server = spawn(&self.program, self.directory.path(), &self.address, &self.peer)?;
        self.wait_until_healthy(limit)?;
        Ok(started.elapsed())
    }

    /// Puts so many keys of 160 bytes, many at a time.
    ///
    /// # Errors
    /// When it refuses.
    pub fn fill(&self, count: usize) -> Result<()> {
        let value = "dmFs".repeat(54);
        let numbers: Vec<usize> = (0..count).collect();
        for numbers in numbers.chunks(PUTS_AT_ONCE) {
            let put = |number: &usize| {
                format!(r#"{{"requestPut":{{"key":"{number:012}","value":"{value}"}}}}"#)
            };
            let puts: Vec<String> = numbers.iter().map(put).collect();
            let transaction = format!(r#"{{"success":[{}]}}"#, puts.join(","));
            http::post(&self.address, "/v3/kv/txn", &transaction)?;
        }
        Ok(())
    }

    /// Resident memory, in MiB.
    pub fn resident_mib(&self) -> f64 {
        Memory::of(&[self.server.id()].into()).rss_kib as f64 / 1024.0
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

    fn wait_until_healthy(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            self.server.check_alive()?;
            let said = http::get(&self.address, "etcd", "/health").unwrap_or_default();
            if said.contains("\"health\":\"true\"") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("etcd is not healthy after {limit:?}: {said}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn spawn(program: &Path, directory: &Path, address: &str, peer: &str) -> Result<Owned> {
    let client = format!("http://{address}");
    let mut command = Command::new(program);
    command
        .arg("--data-dir")
        .arg(directory)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        // Only what fills it before anything is measured has that many.
        .args(["--max-txn-ops", &PUTS_AT_ONCE.to_string(), "--max-request-bytes", "16777216"])
        .args(["--logger", "zap", "--log-level", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Owned::spawn(&mut command)
}
