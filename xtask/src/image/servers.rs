//! Software people run, as Debian has it: Redis, Node, Python, HAProxy, dnsmasq, and
//! busybox for a shell. Each is the package with the libraries it needs, and a program of a few
//! lines where the package serves nothing by itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use super::layout::{self, Image, Layer};
use super::{base, debian, link_all_applets, link_busybox};

/// In the names of the cached layers: raise it when what goes into them changes.
const REVISION: u32 = 1;

/// One image.
pub(super) struct Server {
    pub(super) name: &'static str,
    port: u16,
    command: &'static [&'static str],
    /// Where its program or its settings are, and what they say.
    files: &'static [(&'static str, &'static str)],
    /// Brings what the packages have.
    unpack: fn(&Path) -> Result<()>,
}

/// Keeps what it is told in `/data`.
pub(super) const REDIS: Server = Server {
    name: "redis",
    port: 6379,
    command: &["redis-server", "/etc/redis.conf"],
    files: &[("etc/redis.conf", include_str!("servers/redis.conf"))],
    unpack: |root| {
        debian::unpack_programs(&["redis-server", "redis-tools", "busybox-static"], root)?;
        fs::create_dir_all(root.join("data")).context("create /data")
    },
};

/// Answers in JSON, with what `GREETING` says.
pub(super) const NODE: Server = Server {
    name: "node",
    port: 8080,
    command: &["node", "/app/server.js"],
    files: &[("app/server.js", include_str!("servers/server.js"))],
    unpack: |root| {
        debian::unpack_programs(&["nodejs", "busybox-static"], root)?;
        // What other people's packages of Node bring to install and build more with.
        for unneeded in ["usr/lib/node_modules", "usr/include"] {
            debian::remove(root, unneeded)?;
        }
        Ok(())
    },
};

/// The same in Python.
pub(super) const PYTHON: Server = Server {
    name: "python",
    port: 8080,
    command: &["python3", "/app/server.py"],
    files: &[("app/server.py", include_str!("servers/server.py"))],
    unpack: |root| {
        let version = debian::newest("python3")?;
        let (program, core) = (format!("{version}-minimal"), format!("lib{version}-minimal"));
        let library = format!("lib{version}-stdlib");
        debian::unpack_programs(&[&program, &core, &library, "busybox-static"], root)?;
        symlink(&version, root.join("usr/bin/python3")).context("link python3")
    },
};

/// Says who asks: on port 8080 by the connection, on 8081 by the PROXY protocol.
pub(super) const HAPROXY: Server = Server {
    name: "haproxy",
    port: 8080,
    command: &["haproxy", "-db", "-f", "/etc/haproxy.cfg"],
    files: &[("etc/haproxy.cfg", include_str!("servers/haproxy.cfg"))],
    unpack: |root| debian::unpack_programs(&["haproxy", "busybox-static"], root),
};

/// Knows the address of one name, `app.test`.
pub(super) const DNSMASQ: Server = Server {
    name: "dnsmasq",
    port: 53,
    command: &[
        "dnsmasq",
        "--keep-in-foreground",
        "--user=root",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--log-facility=-",
        "--address=/app.test/192.0.2.7",
    ],
    files: &[],
    unpack: |root| debian::unpack_programs(&["dnsmasq-base", "busybox-static"], root),
};

/// A shell with everything busybox has, and its web server.
pub(super) const BUSYBOX: Server = Server {
    name: "busybox",
    port: 80,
    command: &["sh", "/etc/start"],
    files: &[
        ("etc/start", include_str!("servers/start")),
        ("www/index.html", "a page of busybox\n"),
    ],
    unpack: |root| {
        debian::unpack_programs(&["busybox-static"], root)?;
        link_all_applets(root)
    },
};

impl Server {
    /// Pushes it to a registry that speaks plain HTTP and returns the manifest's
    /// digest.
    ///
    /// # Errors
    /// When packages cannot be fetched or the registry refuses the image.
    pub(super) fn push(&self, registry: &str, tag: &str) -> Result<String> {
        let users = ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        let groups = ("etc/group", "root:x:0:\n");
        let files: Vec<_> = [users, groups].iter().chain(self.files).copied().collect();
        let image = Image {
            layers: vec![self.base()?, Layer::of_files(&files)?],
            command: self.command.iter().map(|word| (*word).to_owned()).collect(),
            port: self.port,
            stop_signal: "SIGTERM",
        };
        layout::push(&image, registry, self.name, tag)
    }

    /// The packages' files, from the cache or made now.
    ///
    /// # Errors
    /// When packages cannot be fetched or unpacked.
    pub(super) fn base(&self) -> Result<Layer> {
        base(&format!("{}-base-{REVISION}", self.name), |root| {
            (self.unpack)(root)?;
            link_busybox(root)?;
            for directory in ["tmp", "run", "proc", "sys", "dev"] {
                let path = root.join(directory);
                fs::create_dir_all(&path).with_context(|| format!("create /{directory}"))?;
            }
            Ok(())
        })
    }
}
