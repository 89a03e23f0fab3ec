//! `cargo xtask dist`: `helix` as packages carry it, optimised by a profile of its own work.
//!
//! Built with counters, put to work as the benches do (connections, requests, datagrams,
//! tunnels, the API), and built again with what was counted. A profile is kept for the program
//! it was taken of: while nothing changes, nothing is done again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::bench::{control, edge, tunnel};
use crate::output::{result, say};
use crate::{packages, process, workspace};

/// How the program that packages carry is built; everything else is in the profile `dist`.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// How it is built.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Leave the profile out: sooner built, some percent slower.
    #[arg(long)]
    without_profile: bool,
}

/// Builds it and prints where it is.
///
/// # Errors
/// When a build, or the work that is counted, fails.
pub fn run(options: &Options) -> Result<()> {
    let binary = match options.without_profile {
        true => workspace::build_dist_binary(&mut workspace::cargo())?,
        false => build()?,
    };
    result(&binary.display().to_string());
    Ok(())
}

/// The program, optimised by a profile.
///
/// # Errors
/// As [`run`].
pub fn build() -> Result<PathBuf> {
    if !process::is_root() {
        bail!(
            "what is counted needs programs that root installs\n\n\
             as another user: cargo xtask dist --without-profile"
        );
    }
    let place = workspace::cache_dir()?.join("profile");
    let profile = profile(&place)?;
    say("building with what was counted");
    let profile = format!("-Cprofile-use={}", profile.display());
    workspace::build_dist_binary(&mut cargo(&place.join("optimised"), &[STATIC, &profile]))
}

/// Counts, unless this program was counted already.
fn profile(place: &Path) -> Result<PathBuf> {
    let merge = llvm_profdata()?;
    let counts = place.join("counts");
    say("building with counters");
    // Not static, as the linker would want what is otherwise left out as unused. What is
    // counted is the same.
    let counters = format!("-Cprofile-generate={}", counts.display());
    let mut cargo = cargo(&place.join("counted"), &[&counters]);
    // Counters come before anything is optimised across crates, which with them takes half an
    // hour.
    cargo.env("CARGO_PROFILE_DIST_LTO", "off");
    let binary = workspace::build_dist_binary(&mut cargo)?;
    let bytes = fs::read(&binary).context("read what was built")?;
    let digest = base16(&Sha256::digest(bytes)[..8]);
    let profile = place.join(format!("{digest}.profdata"));
    if profile.exists() {
        return Ok(profile);
    }
    packages::provide(packages::FOR_EDGE_BENCH)?;
    // Left by a run that was broken off, it would be of another program.
    let _ = fs::remove_dir_all(&counts);
    say("counting");
    edge::work(&binary).context("work as an edge")?;
    tunnel::work(&binary).context("work as a tunnel")?;
    control::work(&binary).context("work as a server")?;
    let fresh = place.join("fresh.profdata");
    process::run(Command::new(merge).args(["merge", "-o"]).arg(&fresh).arg(&counts))?;
    // Whole or not there.
    fs::rename(&fresh, &profile).context("keep the profile")?;
    Ok(profile)
}

fn base16(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A cargo with flags of its own, and a directory for what they make.
fn cargo(target_directory: &Path, flags: &[&str]) -> Command {
    let mut command = workspace::cargo();
    // What cargo wants between flags, as a path may have spaces.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    command.env("CARGO_TARGET_DIR", target_directory);
    command
}

/// The program that understands what this compiler's programs count, which rustup has.
fn llvm_profdata() -> Result<PathBuf> {
    let sysroot = process::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let host = process::capture(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let program = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/llvm-profdata");
    if !program.exists() {
        say("rustup component add llvm-tools");
        let added = process::run(Command::new("rustup").args(["component", "add", "llvm-tools"]));
        added.context(
            "what was counted is read by a tool of the compiler, which could not be brought\n\n\
             without: cargo xtask dist --without-profile",
        )?;
    }
    Ok(program)
}
