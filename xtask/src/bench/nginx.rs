//! Peer: a proxy in front of containers that is reconfigured at each deploy,
//! the usual way to deploy without a platform.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::unpacked::Unpacked;
use crate::process::{self, Owned, free_port};

/// Where the package has it.
const PROGRAM: &str = "usr/sbin/nginx";

/// Debian's nginx, run from an unpacked tree: nothing is installed.
pub struct Proxy {
    version: String,
    port: u16,
    settings: PathBuf,
    server: Owned,
    _files: Unpacked,
}

impl Proxy {
    /// Starts it on a free loopback port, pointing at `upstream` (`HOST:PORT`).
    ///
    /// # Errors
    /// When the packages cannot be fetched or the server does not start.
    pub fn start(upstream: &str) -> Result<Self> {
        let files = Unpacked::of(&["nginx"])?;
        let port = free_port()?;
        let settings = files.scratch().join("nginx.conf");
        write_settings(&settings, files.scratch(), port, upstream)?;
        let said = process::output(files.program(PROGRAM)?.arg("-v"))?;
        let said = String::from_utf8_lossy(&said.stderr);
        let version = said.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let mut command = files.program(PROGRAM)?;
        command.arg("-c").arg(&settings).args(["-e", "stderr"]).stdin(Stdio::null());
        let server = Owned::spawn(&mut command)?;
        Ok(Self { version, port, settings, server, _files: files })
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Points it at another upstream and has it reload.
    ///
    /// # Errors
    /// When its settings cannot be written or it is gone.
    pub fn point_at(&self, upstream: &str) -> Result<()> {
        let directory = self.settings.parent().context("find the settings' directory")?;
        write_settings(&self.settings, directory, self.port, upstream)?;
        // What `nginx -s reload` does.
        process::output(Command::new("kill").arg("-HUP").arg(self.server.id().to_string()))
            .map(drop)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The master takes its workers with it, which a kill does not.
        self.server.terminate();
    }
}

fn write_settings(path: &Path, directory: &Path, port: u16, upstream: &str) -> Result<()> {
    let directory = directory.display();
    let text = format!(
        "daemon off;\npid {directory}/nginx.pid;\nerror_log stderr crit;\nworker_processes 1;\n\
         events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {directory}/body;\n  proxy_temp_path {directory}/proxy;\n  \
         fastcgi_temp_path {directory}/fastcgi;\n  uwsgi_temp_path {directory}/uwsgi;\n  \
         scgi_temp_path {directory}/scgi;\n  server {{\n    listen 127.0.0.1:{port};\n    \
         location / {{ proxy_pass http://{upstream}; }}\n  }}\n}}\n"
    );
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
