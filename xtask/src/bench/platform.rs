//! The product as a bench drives it: `helix up` from a binary, on free ports,
//! with a data directory and a context of its own, spoken to through its API.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::Api;
use super::rootfs;
use crate::image::layout::{self, Image, Layer};
use crate::process::{Owned, free_port};

/// Longest wait for the API; it takes tens of milliseconds.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The app that benches deploy, and the host name it gets by default.
pub const APP: &str = "bench";
pub const HOST: &str = "bench.localhost";

/// In a query: which env is meant.
pub const SCOPE: &str = "org=default&project=default&app=bench&env=production";

/// A running `helix up`. Dropping it stops the platform and its instances.
pub struct Platform {
    pub api: Api,
    http_port: u16,
    // Dropped in this order: first the platform, then what it used.
    server: Server,
    directory: TempDir,
}

/// The process, ended the way Ctrl-C ends it, so that instances, addresses and
/// mounts go too.
struct Server(Owned);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.terminate();
    }
}

impl Platform {
    /// Starts it and waits for its API.
    ///
    /// # Errors
    /// When it does not start; the error carries what it said.
    pub fn start(binary: &Path) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for helix")?;
        let (api_port, http_port) = (free_port()?, free_port()?);
        let address = format!("127.0.0.1:{api_port}");
        let said = directory.path().join("said");
        let log = fs::File::create(&said).context("create helix's log")?;
        let mut command = Command::new(binary);
        command
            .arg("up")
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args(["--listen", &address])
            .args(["--http-port", &http_port.to_string(), "--https-port", "0"])
            .env("XDG_CONFIG_HOME", directory.path().join("config"))
            // It deploys the manifest of the directory it is started in.
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share helix's log")?)
            .stderr(log);
        let server = Server(Owned::spawn(&mut command)?);
        let mut platform =
            Self { api: Api { address, token: String::new() }, http_port, server, directory };
        platform.wait_until_ready(&said)?;
        Ok(platform)
    }

    /// Where the shared HTTP listener answers.
    pub fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    /// A command that is spoken to this platform by.
    pub fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command.env("XDG_CONFIG_HOME", self.directory.path().join("config"));
        command.env("HELIX_URL", format!("http://{}", self.api.address));
        command.env("HELIX_TOKEN", &self.api.token);
        command.current_dir(self.directory.path());
        command
    }

    /// The process that everything of it but the shims descends from.
    pub fn id(&self) -> u32 {
        self.server.0.id()
    }

    /// What every process of it names in its arguments.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Pushes an image of the bench's root file system, its page saying `page`,
    /// to the registry inside, and returns its reference.
    ///
    /// # Errors
    /// When it cannot be made or is refused.
    pub fn push(&self, page: &str) -> Result<String> {
        let root = tempfile::tempdir_in(self.directory.path()).context("make a directory")?;
        rootfs::write(root.path(), page)?;
        self.push_root(root.path(), rootfs::HTTP_COMMAND.map(str::to_owned).to_vec())
    }

    /// Pushes an image of a root file system, and returns its reference.
    ///
    /// # Errors
    /// When it cannot be made or is refused.
    pub fn push_root(&self, root: &Path, command: Vec<String>) -> Result<String> {
        let image = Image {
            layers: vec![Layer::of_directory(root)?],
            command,
            port: rootfs::HTTP_PORT,
            stop_signal: "SIGTERM",
        };
        let credentials = self.directory.path().join("credentials.json");
        let password = BASE64_STANDARD.encode(format!("helix:{}", self.api.token));
        let file = json!({ "auths": { &self.api.address: { "auth": password } } });
        fs::write(&credentials, file.to_string()).context("write the credentials")?;
        let digest = layout::push_as(&image, &self.api.address, APP, "bench", Some(&credentials))?;
        Ok(format!("helix.internal/{APP}@{digest}"))
    }

    /// `POST /v1/deploys`: returns when the platform has taken the order.
    ///
    /// # Errors
    /// When it is refused.
    pub fn deploy(&self, image: &str) -> Result<Value> {
        let request = json!({
            "org": "default", "project": "default", "app": APP, "env": "production",
            "image": image, "manifest": MANIFEST,
        });
        self.api.post("/v1/deploys", &request)
    }

    /// Waits until the last deploy has succeeded and nothing of others is left.
    ///
    /// # Errors
    /// When it has failed.
    pub fn wait_until_settled(&self, receipt: &Value) -> Result<()> {
        let deploy = receipt["subject"]["id"].as_str().context("read the deploy's id")?;
        let path = format!("/v1/wait?kind=deploy&ref={deploy}&timeout_seconds=50&{SCOPE}");
        let waited = self.api.get(&path)?;
        if waited["outcome"] != "satisfied" {
            bail!("the deploy did not succeed: {waited}");
        }
        Ok(())
    }

    /// Starts this many instances where none are, and waits until all serve.
    ///
    /// # Errors
    /// When one fails.
    pub fn start_instances(&self, count: usize) -> Result<()> {
        self.scale(count, count, |event| event["data"]["phase"] == "ready")
    }

    /// Stops all of this many instances, and waits until nothing is left.
    ///
    /// # Errors
    /// When one does not go away.
    pub fn stop_instances(&self, count: usize) -> Result<()> {
        self.scale(0, count, |event| event["type"] == "instance.removed")
    }

    /// Waits until this many instances are left, and nothing of others.
    ///
    /// # Errors
    /// When there are more for too long.
    pub fn wait_for_count(&self, count: usize) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let instances = self.api.get("/v1/instances?limit=200")?;
            let left = instances["items"].as_array().map_or(0, Vec::len);
            if left == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{left} instances are left, not {count}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Orders a scale and waits for so many events of a kind.
    fn scale(&self, to: usize, times: usize, counts: impl Fn(&Value) -> bool) -> Result<()> {
        // Followed from before the order, so that nothing is missed.
        let mut events = self.api.follow("/v1/events?follow=true")?;
        let body = json!({ "processes": { "web": to } });
        self.api.post(&format!("/v1/envs/production/scale?{SCOPE}"), &body)?;
        let mut seen = 0;
        while seen < times {
            let event = events.next_document()?;
            if event["data"]["phase"] == "failed" {
                bail!("an instance failed: {event}");
            }
            seen += usize::from(counts(&event));
        }
        Ok(())
    }

    /// Every event there has been.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn history(&self) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        let mut after = 0;
        loop {
            let page = self.api.get(&format!("/v1/events?limit=200&after={after}"))?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            if items.is_empty() {
                return Ok(events);
            }
            events.extend(items);
            after = page["next_after"].as_u64().context("read where to go on")?;
        }
    }

    fn wait_until_ready(&mut self, said: &Path) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(token) = fs::read_to_string(self.data_dir().join("token")) {
                self.api.token = token.trim().to_owned();
                let nodes = self.api.get("/v1/nodes").unwrap_or_default();
                if nodes["items"][0]["current"]["connected"] == true {
                    return Ok(());
                }
            }
            if self.server.0.check_alive().is_err() || Instant::now() > deadline {
                let said = fs::read_to_string(said).unwrap_or_default();
                bail!("helix did not become ready: {said}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// As small as it is allowed; its program does not listen to TERM, so that
/// stopping it does not wait.
const MANIFEST: &str = "\
schema_version = \"v1\"
[processes.web]
ports = [{ name = \"http\", internal = 8080 }]
resources = { memory = \"64Mi\" }
stop_grace_seconds = 0
";
