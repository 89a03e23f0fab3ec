//! `cargo xtask bench`: the product beside its peers, in one run on one
//! machine, because absolute figures drift and only the ratio means something.
//!
//! A bench is a file that drives [`subject::Subject`]s and returns a
//! [`report::Report`]. Whatever it starts is ended in `Drop`, so a bench that
//! fails leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use self::report::Report;
use crate::output::{result, say};
use crate::packages::Package;
use crate::{dist, packages, process, workspace};

pub mod bulk;
pub mod control;
pub mod deploy;
pub mod docker;
pub mod edge;
pub mod etcd;
pub mod etcd_cluster;
pub mod failover;
pub mod helix;
pub mod http;
pub mod logs;
pub mod measure;
pub mod memory;
pub mod nginx;
pub mod placement;
pub mod platform;
pub mod postgres;
pub mod proxies;
pub mod pull;
pub mod report;
pub mod rootfs;
pub mod routes;
pub mod runc;
pub mod server;
pub mod start;
pub mod startup;
pub mod subject;
pub mod tunnel;
pub mod tunnel_peers;
pub mod tunnels;
pub mod unpacked;
pub mod wrk;

/// Which bench to run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The bench.
    bench: Bench,
    /// Replace this bench's section of docs/benchmarks.md with the result.
    #[arg(long)]
    record: bool,
    /// Measure this program instead of building one the way packages carry it.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Seconds to wait, before measuring, for others on this machine to be quiet.
    #[arg(long, value_name = "N", default_value_t = 0)]
    patience: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// Starting one instance, and twenty at once.
    Start,
    /// From a built image to the first answer.
    Deploy,
    /// What running instances costs besides the instances.
    Memory,
    /// Taking what a program writes.
    Logs,
    /// Placing 100,000 instances on up to 10,000 nodes, in the core alone.
    Placement,
    /// Bringing an image from a registry and unpacking it.
    Pull,
    /// Connections, requests and datagrams through the edge.
    Edge,
    /// What one more route costs when there are ten thousand.
    Routes,
    /// What an agent behind a public port carries.
    Tunnel,
    /// Ten thousand idle tunnels, and an edge that comes back to a thousand.
    Tunnels,
    /// Writes and reads through the API.
    Control,
    /// Starting with a million events.
    Startup,
    /// From the kill of the replica that leads to the next accepted write.
    Failover,
}

impl Bench {
    /// What it needs on the machine.
    fn packages(self) -> &'static [Package] {
        match self {
            Bench::Start | Bench::Deploy | Bench::Memory | Bench::Logs => {
                packages::FOR_CONTAINER_BENCHES
            }
            Bench::Placement => &[],
            Bench::Pull => packages::FOR_PULL_BENCH,
            Bench::Edge | Bench::Routes | Bench::Tunnel | Bench::Tunnels => {
                packages::FOR_EDGE_BENCH
            }
            Bench::Control | Bench::Startup | Bench::Failover => packages::FOR_CONTROL_BENCHES,
        }
    }

    /// The part that is measured alone, in a program of its own, and how that is
    /// built; otherwise it is the whole binary.
    fn part(self) -> Option<(&'static str, &'static str)> {
        match self {
            Bench::Placement => Some(("core", "release")),
            Bench::Pull => Some(("image crate", "dist")),
            _ => None,
        }
    }

    /// The program with that part, where the bench does not build its own.
    fn build_part(self) -> Result<PathBuf> {
        if matches!(self, Bench::Pull) { pull::build() } else { Ok(PathBuf::new()) }
    }

    /// Whether it starts engines and servers, or gives files away.
    fn needs_root(self) -> bool {
        !matches!(self, Bench::Placement)
    }

    fn run(self, binary: &Path) -> Result<Report> {
        match self {
            Bench::Placement => placement::run(),
            Bench::Pull => pull::run(binary),
            Bench::Start => start::run(binary),
            Bench::Deploy => deploy::run(binary),
            Bench::Memory => memory::run(binary),
            Bench::Logs => logs::run(binary),
            Bench::Edge => edge::run(binary),
            Bench::Routes => routes::run(binary),
            Bench::Tunnel => tunnel::run(binary),
            Bench::Tunnels => tunnels::run(binary),
            Bench::Control => control::run(binary),
            Bench::Startup => startup::run(binary),
            Bench::Failover => failover::run(binary),
        }
    }
}

/// Above this load average somebody else is working here.
const QUIET: f64 = 1.0;

/// Gives others time to finish; measures anyway when they do not.
fn wait_for_quiet(patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    while report::load()? >= QUIET && Instant::now() < deadline {
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Refuses while every packet passes rules of a node that runs here, or was killed here: on
/// the loopback each such table takes some percent from all, and the more the less there is
/// to carry.
fn without_rules_of_nodes() -> Result<()> {
    let Some(nft) = packages::find("nft")? else { return Ok(()) };
    let tables = process::capture(Command::new(nft).args(["list", "tables"]))?;
    let left: Vec<&str> = tables.lines().filter(|line| line.contains(" helix_")).collect();
    ensure!(
        left.is_empty(),
        "packets pass the rules of nodes here, which would be measured, too\n\nend the nodes, \
         or remove what those left that were killed: nft delete {}",
        left.join("; nft delete ")
    );
    Ok(())
}

/// Runs a bench and prints its table.
///
/// # Errors
/// When a peer cannot be brought or started, or a measured step fails.
pub fn run(options: &Options) -> Result<()> {
    if options.bench.needs_root() && !process::is_root() {
        bail!("this bench starts engines and servers, or gives files away, and that needs root");
    }
    packages::provide(options.bench.packages())?;
    let (binary, origin) = match (&options.binary, options.bench.part()) {
        (Some(binary), _) => (binary.clone(), "a binary given by hand".to_owned()),
        (None, Some((part, profile))) => {
            let commit = workspace::commit()?;
            let binary = options.bench.build_part()?;
            (binary, format!("the {part} of commit {commit}, profile `{profile}`"))
        }
        (None, None) => {
            let commit = workspace::commit()?;
            (dist::build()?, format!("commit {commit}, built by `cargo xtask dist`"))
        }
    };
    if options.bench.needs_root() {
        without_rules_of_nodes()?;
    }
    wait_for_quiet(Duration::from_secs(options.patience))?;
    let load_before = report::load()?;
    let report = options.bench.run(&binary)?;
    let section = report.to_markdown(load_before, &origin)?;
    result(&section);
    if options.record {
        let path = workspace::root().join("docs/benchmarks.md");
        report::replace_section(&path, report.name, &section)?;
        say(&format!("recorded in {}", path.display()));
    }
    Ok(())
}
