//! `cargo xtask sim`: plays seeds through the simulator, optimised, and passes
//! on what it found. The simulator itself is `crates/sim`.

use anyhow::Result;

use crate::{process, workspace};

/// The simulator's package and binary.
const PACKAGE: &str = "helix-sim";

/// Which seeds to play.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Replay this one and tell its last steps, should it fail.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
}

/// Builds the simulator and plays; whether nothing was found.
///
/// # Errors
/// When it cannot be built or started.
pub fn run(options: &Options) -> Result<bool> {
    let root = workspace::root();
    let mut build = workspace::cargo();
    process::run(build.args(["build", "--release", "--package", PACKAGE]).current_dir(&root))?;
    let mut play = workspace::cargo();
    play.args(["run", "--quiet", "--release", "--package", PACKAGE, "--"]).current_dir(&root);
    match options.seed {
        Some(seed) => play.args(["--seed", &seed.to_string()]),
        None => play
            .args(["--seeds", &options.seeds.to_string()])
            .args(["--from", &options.from.to_string()]),
    };
    Ok(play.status()?.success())
}
