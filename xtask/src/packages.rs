//! The Debian and Ubuntu packages that tests and benchmarks use, each with the
//! reason it is needed, and how they get onto the machine.
//!
//! A package that would start a service is not installed: its files are
//! unpacked below `target/xtask/packages` and its programs found there, so
//! that running the tests never opens a port or takes one from somebody. The
//! exception is PostgreSQL, whose programs need a dozen libraries around them:
//! installing it may start Debian's own server, which the tests leave alone.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::output::say;
use crate::{process, python, workspace};

/// A program the chores need, and the package that brings it.
#[derive(Debug)]
pub struct Package {
    pub name: &'static str,
    /// The program whose presence means that nothing needs doing.
    pub program: &'static str,
    pub how: How,
    pub reason: &'static str,
}

/// How a package's files reach the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `apt-get install`, as root.
    Install,
    /// Downloaded and unpacked below `target/`, as anybody.
    Unpack,
}

/// What `cargo xtask test` needs.
pub const FOR_TESTS: &[Package] = &[
    Package {
        name: "curl",
        program: "curl",
        how: How::Install,
        reason: "the end-to-end tests reach apps the way a person would",
    },
    Package {
        name: "iproute2",
        program: "ip",
        how: How::Install,
        reason: "the tests look at links, addresses and namespaces with a tool that is not ours",
    },
    Package {
        name: "util-linux",
        program: "setpriv",
        how: How::Install,
        reason: "the tests run the binary as a plain user and with namespaces denied",
    },
    Package {
        name: "e2fsprogs",
        program: "mkfs.ext4",
        how: How::Install,
        reason: "what the node makes the file systems of volumes with",
    },
    Package {
        name: "nftables",
        program: "nft",
        how: How::Install,
        reason: "what the node lets instances out with, and shields them from one another with",
    },
    Package {
        name: "strace",
        program: "strace",
        how: How::Install,
        reason: "the tests end the node's agent in the middle of each of its steps",
    },
    Package {
        name: "procps",
        program: "kill",
        how: How::Install,
        reason: "the tests end processes the way a person would",
    },
    Package {
        name: "openssl",
        program: "openssl",
        how: How::Install,
        reason: "the tests make certificates for a registry behind TLS and for hosts",
    },
    Package {
        name: "dnsmasq-base",
        program: "dnsmasq",
        how: How::Install,
        reason: "a real DNS server with the records that prove domains; it brings no service",
    },
    Package {
        name: "pebble",
        program: "pebble",
        how: How::Install,
        reason: "a real ACME authority that issues the certificates of the tests",
    },
    Package {
        name: "buildah",
        program: "buildah",
        how: How::Install,
        reason: "builds the test app that has a Dockerfile, without a daemon",
    },
    Package {
        name: "postgresql",
        program: "postgres",
        how: How::Install,
        reason: "the log's tests start, kill and restart servers of their own, on Unix sockets",
    },
    Package {
        name: "skopeo",
        program: "skopeo",
        how: How::Install,
        reason: "pushes images to the registry, independent of our own image code",
    },
    Package {
        name: "docker-registry",
        program: "docker-registry",
        how: How::Unpack,
        reason: "a real registry to pull from; the tests start it on a free loopback port",
    },
    Package {
        name: "prometheus",
        program: "promtool",
        how: How::Unpack,
        reason: "Prometheus's own reader of the metrics that an edge tells",
    },
];

/// What the tests in a virtual machine need besides.
pub const FOR_VM: &[Package] = &[
    Package {
        name: "qemu-system-x86",
        program: "qemu-system-x86_64",
        how: How::Install,
        reason: "a machine with a kernel of its own, where this one's lacks device mapper",
    },
    Package {
        name: "e2fsprogs",
        program: "mkfs.ext4",
        how: How::Install,
        reason: "makes the disks of that machine",
    },
];

/// What the tests of the images of `deploy/` need besides. The engine is unpacked and not
/// installed: a service of it would change this machine's packet filter.
pub const FOR_IMAGES: &[Package] = &[
    Package {
        name: "iptables",
        program: "iptables",
        how: How::Install,
        reason: "what the engine leads containers to its DNS with, in their own namespaces",
    },
    Package {
        name: "dmsetup",
        program: "dmsetup",
        how: How::Install,
        reason: "brings the library of device mapper, which Debian's engine is linked with",
    },
    Package {
        name: "runc",
        program: "runc",
        how: How::Install,
        reason: "what the engine starts containers with",
    },
    Package {
        name: "containerd",
        program: "containerd",
        how: How::Unpack,
        reason: "what the engine keeps containers with",
    },
    Package {
        name: "docker.io",
        program: "dockerd",
        how: How::Unpack,
        reason: "the engine; the tests run their own, on its own socket and data root",
    },
    Package {
        name: "docker-cli",
        program: "docker",
        how: How::Unpack,
        reason: "Docker's command line, where docker.io no longer carries it",
    },
    Package {
        name: "docker-compose",
        program: "docker-compose",
        how: How::Install,
        reason: "what reads deploy/compose.yaml, as those who use it do",
    },
];

/// What `cargo xtask bench start`, `deploy` and `memory` need besides.
pub const FOR_CONTAINER_BENCHES: &[Package] = &[
    Package {
        name: "iproute2",
        program: "ip",
        how: How::Install,
        reason: "makes the bridge the benched Docker connects its containers to",
    },
    Package {
        name: "busybox-static",
        program: "busybox",
        how: How::Install,
        reason: "a root file system of one file, the same for every subject",
    },
    Package {
        name: "runc",
        program: "runc",
        how: How::Install,
        reason: "peer: the bare container runtime",
    },
    Package {
        name: "docker.io",
        program: "dockerd",
        how: How::Install,
        reason: "peer: the whole engine; the bench runs its own, on its own socket and data root",
    },
    Package {
        name: "docker-cli",
        program: "docker",
        how: How::Unpack,
        reason: "peer: Docker's command line, where docker.io no longer carries it",
    },
];

/// What `cargo xtask bench pull` needs.
pub const FOR_PULL_BENCH: &[Package] = &[
    Package {
        name: "docker-registry",
        program: "docker-registry",
        how: How::Unpack,
        reason: "the registry everyone pulls from, on a free loopback port",
    },
    Package {
        name: "skopeo",
        program: "skopeo",
        how: How::Install,
        reason: "peer: brings an image from the registry; also what pushes it there",
    },
    Package {
        name: "umoci",
        program: "umoci",
        how: How::Install,
        reason: "peer: unpacks what skopeo has brought",
    },
    Package {
        name: "buildah",
        program: "buildah",
        how: How::Install,
        reason: "peer: brings and unpacks in one, as Podman does",
    },
];

const WRK: Package = Package {
    name: "wrk",
    program: "wrk",
    how: How::Install,
    reason: "the load generator, the same for every subject that speaks HTTP",
};

/// What `cargo xtask bench edge` needs; the peers run from trees of their own.
pub const FOR_EDGE_BENCH: &[Package] = &[WRK];

/// What `cargo xtask bench control` needs.
pub const FOR_CONTROL_BENCHES: &[Package] = &[
    WRK,
    Package {
        name: "etcd-server",
        program: "etcd",
        how: How::Unpack,
        reason: "peer: the usual store of a control plane; the bench starts its own",
    },
    Package {
        name: "postgresql",
        program: "pgbench",
        how: How::Install,
        reason: "peer: one insert per transaction; the bench starts a server of its own",
    },
];

/// Makes every program of `packages` available and says what it does.
///
/// # Errors
/// When something is missing and cannot be brought: the error says what to
/// install by hand.
pub fn provide(packages: &[Package]) -> Result<()> {
    let mut missing = Vec::new();
    for package in packages {
        if find(package.program)?.is_none() {
            say(&format!("{} is missing: {}", package.program, package.reason));
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bring(&missing).with_context(|| {
        let names: Vec<_> = missing.iter().map(|package| package.name).collect();
        format!("bring what is missing; by hand: apt-get install {}", names.join(" "))
    })
}

/// Where a program is: on the machine, else among the unpacked packages.
///
/// # Errors
/// When the cache directory cannot be told.
pub fn find(program: &str) -> Result<Option<PathBuf>> {
    Ok(process::find(program, &search_path()?))
}

/// `PATH` for what a chore starts: this process's own, the directories of
/// system programs, and last, so that one already on the machine wins, the
/// programs of unpacked packages and of the Python environment.
///
/// # Errors
/// When a directory's name cannot be part of a `PATH`.
pub fn search_path() -> Result<OsString> {
    let unpacked = unpacked_dir()?;
    let own = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let brought = ["usr/bin", "usr/sbin"].map(|name| unpacked.join(name));
    let path = env::split_paths(&own).chain(system).chain(postgresql()).chain(brought);
    let path = path.chain([python::programs()?]);
    env::join_paths(path).context("extend PATH")
}

/// Where Debian keeps PostgreSQL's server programs, one directory for each
/// version and none of them on anybody's `PATH`.
fn postgresql() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    programs.sort();
    programs.reverse();
    programs
}

fn unpacked_dir() -> Result<PathBuf> {
    Ok(workspace::cache_dir()?.join("packages"))
}

fn bring(missing: &[&Package]) -> Result<()> {
    if find("apt-get")?.is_none() {
        bail!("this machine has no apt-get");
    }
    refresh_index()?;
    let installed = missing.iter().filter(|package| package.how == How::Install);
    install(&installed.map(|package| package.name).collect::<Vec<_>>())?;
    let unpacked = unpacked_dir()?;
    for package in missing.iter().filter(|package| package.how == How::Unpack) {
        // One that was just installed may have brought this program too.
        if find(package.program)?.is_none() {
            say(&format!("unpacking {} into {}", package.name, unpacked.display()));
            let archives = download(&[package.name.to_owned()], &unpacked.join("archives"))?;
            unpack(&archives, &unpacked)?;
        }
    }
    for package in missing {
        if find(package.program)?.is_none() {
            bail!("package {} did not bring the program {}", package.name, package.program);
        }
    }
    Ok(())
}

/// `apt-get update`: a fresh machine or container often has no package index.
///
/// # Errors
/// When it fails, or this is neither root nor a user whose `sudo` does not ask.
pub fn refresh_index() -> Result<()> {
    say("apt-get update");
    process::output(process::as_root("apt-get").args(["update", "-qq"])).map(drop)
}

/// `apt-get install`.
///
/// # Errors
/// When it fails, or this is neither root nor a user whose `sudo` does not ask.
pub fn install(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    say(&format!("apt-get install {}", names.join(" ")));
    // Through `env` because `sudo` drops the variables of its caller.
    let mut command = process::as_root("env");
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "-y"])
        .arg("--no-install-recommends")
        .args(names);
    process::output(&mut command).map(drop)
}

/// Downloads packages by name into `into` and returns the archives' paths.
///
/// # Errors
/// When apt does not know one of them or cannot fetch it.
pub fn download(names: &[String], into: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(into).with_context(|| format!("create {}", into.display()))?;
    // A directory of its own, so that what is in it afterwards is the answer.
    let fresh = tempfile::tempdir_in(into).context("make a download directory")?;
    process::output(Command::new("apt-get").arg("download").args(names).current_dir(&fresh))?;
    let mut archives = Vec::new();
    for entry in fs::read_dir(&fresh).context("list downloaded packages")? {
        let entry = entry.context("list downloaded packages")?;
        let kept = into.join(entry.file_name());
        fs::rename(entry.path(), &kept).context("keep a downloaded package")?;
        archives.push(kept);
    }
    archives.sort();
    Ok(archives)
}

/// Unpacks archives over `root`, following directory symlinks already there,
/// as a merged `/usr` needs.
///
/// # Errors
/// When an archive cannot be read or its files cannot be written.
pub fn unpack(archives: &[PathBuf], root: &Path) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
    for archive in archives {
        let files = tempfile::NamedTempFile::new_in(root).context("make a temporary file")?;
        let stdout = files.reopen().context("open a temporary file")?;
        process::run(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(archive).stdout(stdout))?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--file"])
            .arg(files.path())
            .arg("--directory")
            .arg(root);
        process::run(&mut tar)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_already_there_needs_nothing() {
        let package = Package {
            name: "no-such-package-anywhere",
            program: "ls",
            how: How::Install,
            reason: "a program every machine has",
        };
        provide(&[package]).unwrap();
    }

    #[test]
    fn an_unknown_package_is_named_in_the_error() {
        if find("apt-get").unwrap().is_none() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let names = ["no-such-package-anywhere".to_owned()];
        let error = download(&names, directory.path()).unwrap_err().to_string();
        assert!(error.contains("no-such-package-anywhere"), "{error}");
    }

    #[test]
    fn every_package_says_why() {
        let lists = [
            FOR_TESTS,
            FOR_VM,
            FOR_IMAGES,
            FOR_CONTAINER_BENCHES,
            FOR_PULL_BENCH,
            FOR_EDGE_BENCH,
            FOR_CONTROL_BENCHES,
        ];
        for package in lists.into_iter().flatten() {
            assert!(package.reason.len() > 20, "{} needs a reason", package.name);
        }
    }
}
