//! Debian's registry on a free loopback port.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::packages;

/// One that runs; it ends with this.
pub(super) struct Registry {
    address: String,
    process: Child,
}

impl Registry {
    /// Starts it with its files in a directory.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(place: &Path) -> Result<Registry> {
        let program = packages::find("docker-registry")?.context("find docker-registry")?;
        let settings = place.join("registry.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            place.join("registry").display()
        );
        fs::write(&settings, text).context("write the registry's settings")?;
        let mut process = Command::new(program)
            .arg("serve")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start docker-registry")?;
        let log = process.stderr.take();
        // Owned from here on, so that a failure below ends the process.
        let mut registry = Registry { address: String::new(), process };
        let mut lines = BufReader::new(log.context("read the registry's log")?).lines();
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let is_address = |char: &char| char.is_ascii_digit() || ".:".contains(*char);
                registry.address = rest.chars().take_while(is_address).collect();
                // Read on, so that it never blocks.
                thread::spawn(move || lines.for_each(drop));
                return Ok(registry);
            }
        }
        bail!("docker-registry does not start")
    }

    /// `HOST:PORT`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
