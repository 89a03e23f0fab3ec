//! `cargo xtask bench`: the product beside its peers, in one run on one
//! machine, because absolute figures drift and only the ratio means something.
//!
//! A bench is a file that drives [`subject::Subject`]s and returns a
//! [`report::Report`]. Whatever it starts is ended in `Drop`, so a bench that
//! fails leaves nothing behind.

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::output::{result, say};
use crate::{packages, process, workspace};

pub mod deploy;
pub mod docker;
pub mod http;
pub mod measure;
pub mod memory;
pub mod nginx;
pub mod processes;
pub mod report;
pub mod rootfs;
pub mod runc;
pub mod start;
pub mod subject;

/// Which bench to run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The bench.
    bench: Bench,
    /// Replace this bench's section of docs/benchmarks.md with the result.
    #[arg(long)]
    record: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// Starting one instance, and twenty at once.
    Start,
    /// From a built image to the first answer.
    Deploy,
    /// What running instances costs besides the instances.
    Memory,
}

/// Runs a bench and prints its table.
///
/// # Errors
/// When a peer cannot be brought or started, or a measured step fails.
pub fn run(options: &Options) -> Result<()> {
    if !process::is_root() {
        bail!("benches start container engines, and that needs root");
    }
    packages::provide(packages::FOR_CONTAINER_BENCHES)?;
    let report = match options.bench {
        Bench::Start => start::run()?,
        Bench::Deploy => deploy::run()?,
        Bench::Memory => memory::run()?,
    };
    let section = report.to_markdown()?;
    result(&section);
    if options.record {
        let path = workspace::root().join("docs/benchmarks.md");
        report::replace_section(&path, report.name, &section)?;
        say(&format!("recorded in {}", path.display()));
    }
    Ok(())
}
