//! The control plane alone: `helix server` on a data directory or a database,
//! without a node or an edge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::http::{self, Api};
use crate::process::{Owned, free_port};
use crate::processes::Memory;

/// Between two questions whether it is there yet.
const PAUSE: Duration = Duration::from_millis(2);

/// What says that a snapshot was written, in its diagnostics.
const SNAPSHOT_KEPT: &str = "a snapshot of the state is kept";

/// The token of all servers that a bench starts.
const TOKEN: &str = "hx_at_0123456789012345678901234567890123456789012";

/// Where a server keeps what it knows.
pub struct Place {
    /// Its own directory.
    pub directory: PathBuf,
    /// A database that it shares with others.
    pub database_url: Option<String>,
}

/// A running server; killed when dropped.
pub struct Server {
    pub api: Api,
    /// From starting the process until it answered.
    pub ready_after: Duration,
    process: Owned,
    said: PathBuf,
}

impl Server {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn start(binary: &Path, place: &Place, limit: Duration) -> Result<Server> {
        fs::create_dir_all(&place.directory).context("make a directory for helix")?;
        let token = place.directory.join("bench-token");
        fs::write(&token, TOKEN).context("write the token")?;
        let said = place.directory.join("said");
        let log = fs::File::create(&said).context("create helix's log")?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(binary);
        command.args(["server", "--listen", &address, "--token-file"]).arg(&token);
        command.arg("--data-dir").arg(&place.directory);
        if let Some(url) = &place.database_url {
            command.env("HELIX_DATABASE_URL", url);
        }
        command
            .env("HELIX_LOG", "warn,helix_server=debug")
            .env("XDG_CONFIG_HOME", place.directory.join("config"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share helix's log")?)
            .stderr(log);
        let started = Instant::now();
        let mut process = Owned::spawn(&mut command)?;
        loop {
            let answer = http::get(&address, "helix", "/v1/health").unwrap_or_default();
            if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
                break;
            }
            if process.check_alive().is_err() || started.elapsed() > limit {
                bail!("helix did not answer: {}", fs::read_to_string(&said).unwrap_or_default());
            }
            thread::sleep(PAUSE);
        }
        let api = Api { address, token: TOKEN.to_owned() };
        Ok(Server { api, ready_after: started.elapsed(), process, said })
    }

    /// Resident memory, in MiB.
    pub fn resident_mib(&self) -> f64 {
        Memory::of(&[self.process.id()].into()).rss_kib as f64 / 1024.0
    }

    /// Waits until it has written a snapshot of its state.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait_for_snapshot(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let said = fs::read_to_string(&self.said).context("read helix's log")?;
            if said.contains(SNAPSHOT_KEPT) {
                return Ok(());
            }
            self.process.check_alive()?;
            if Instant::now() > deadline {
                bail!("helix has written no snapshot in {limit:?}: {said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
