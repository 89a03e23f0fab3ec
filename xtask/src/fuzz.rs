//! `cargo xtask fuzz`: throws mutated input at every parser of outside bytes,
//! for a limited time. The targets and their seeds are in `fuzz/`, a workspace
//! of its own.
//!
//! What a run learns stays in `fuzz/corpus` and makes the next one start there;
//! an input that breaks a target is kept in `fuzz/artifacts`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::output::{result, say};
use crate::{process, workspace};

/// The version the arguments below are known to fit.
const CARGO_FUZZ: &str = "^0.13";

/// The toolchain with sanitizers.
const TOOLCHAIN: &str = "nightly";

/// An input that takes longer than this has found something.
const INPUT_SECONDS_MAX: u32 = 10;

/// What to fuzz, and for how long.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The target; all of them, one after the other, when absent.
    target: Option<String>,
    /// How long to run each target.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

/// The part of `fuzz/Cargo.toml` that is read here.
#[derive(Deserialize)]
struct FuzzManifest {
    bin: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs the chosen targets; `Ok(false)` when one was broken.
///
/// # Errors
/// When the tools are missing and cannot be brought, or there is no such target.
pub fn run(options: &Options) -> Result<bool> {
    let directory = workspace::root().join("fuzz");
    let targets = chosen(&directory, options.target.as_deref())?;
    let tools = Tools::provide()?;
    let mut broken = Vec::new();
    for target in &targets {
        say(&format!("\n==> fuzz {target}, {} s", options.seconds));
        tools.build(&directory, target)?;
        if let Err(error) = tools.fuzz(&directory, target, options.seconds) {
            say(&format!("{target}: {error:#}"));
            broken.push(target.as_str());
        }
    }
    for target in &targets {
        let outcome = if broken.contains(&target.as_str()) { "BROKEN" } else { "ok" };
        result(&format!("{target:<20} {outcome}"));
    }
    if !broken.is_empty() {
        let program = process::words(&tools.command());
        say(&format!(
            "reproduce in fuzz/ with: {program} fuzz run TARGET artifacts/TARGET/crash-…"
        ));
    }
    Ok(broken.is_empty())
}

/// The targets' names, as the manifest lists them.
fn chosen(directory: &Path, wanted: Option<&str>) -> Result<Vec<String>> {
    let path = directory.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let manifest: FuzzManifest =
        toml::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
    let all: Vec<String> = manifest.bin.into_iter().map(|bin| bin.name).collect();
    match wanted {
        None => Ok(all),
        Some(name) if all.iter().any(|known| known == name) => Ok(vec![name.to_owned()]),
        Some(name) => bail!("there is no target `{name}`, only {}", all.join(", ")),
    }
}

/// cargo-fuzz and the toolchain it needs.
struct Tools {
    /// With cargo-fuzz in front.
    search_path: std::ffi::OsString,
}

impl Tools {
    fn provide() -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let nightly =
            Command::new("rustup").args(["run", TOOLCHAIN, "rustc", "--version"]).output();
        if !nightly.is_ok_and(|output| output.status.success()) {
            bail!(
                "sanitizers need the nightly compiler: \
                 `rustup toolchain install {TOOLCHAIN} --profile minimal`"
            );
        }
        let root = workspace::cache_dir()?.join("cargo");
        let brought = root.join("bin");
        let paths = std::iter::once(brought).chain(env::split_paths(&path));
        let search_path = env::join_paths(paths).context("extend PATH")?;
        if process::find("cargo-fuzz", &search_path).is_none() {
            install(&root)?;
        }
        Ok(Self { search_path })
    }

    /// The nightly cargo.
    fn command(&self) -> Command {
        let mut command = Command::new("rustup");
        command.args(["run", TOOLCHAIN, "cargo"]).env("PATH", &self.search_path);
        // The cargo that runs this chore says who it is; the other one is itself.
        for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS"] {
            command.env_remove(variable);
        }
        command
    }

    /// Apart from running, so that what does not compile is not taken for a
    /// target that was broken by an input.
    fn build(&self, directory: &Path, target: &str) -> Result<()> {
        let mut command = self.command();
        command.args(["fuzz", "build", target]).current_dir(directory);
        process::run(&mut command)
    }

    fn fuzz(&self, directory: &Path, target: &str, seconds: u32) -> Result<()> {
        let corpus = PathBuf::from("corpus").join(target);
        let seeds = PathBuf::from("seeds").join(target);
        fs::create_dir_all(directory.join(&corpus)).context("create the corpus directory")?;
        let mut command = self.command();
        command
            .args(["fuzz", "run", target])
            .args([corpus, seeds])
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg("-print_final_stats=1")
            .current_dir(directory);
        process::run(&mut command)
    }
}

/// Below `target/`, so that a person's own tools stay as they are.
fn install(root: &Path) -> Result<()> {
    say(&format!("cargo install cargo-fuzz into {}", root.display()));
    let mut command = workspace::cargo();
    command
        .args(["install", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ])
        .arg("--root")
        .arg(root);
    process::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_source_and_seeds() {
        let directory = workspace::root().join("fuzz");
        let targets = chosen(&directory, None).unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            let source = directory.join("targets").join(format!("{target}.rs"));
            assert!(source.is_file(), "{}", source.display());
            let seeds = fs::read_dir(directory.join("seeds").join(&target)).unwrap();
            assert!(seeds.count() > 0, "{target} has no seed");
        }
    }

    #[test]
    fn an_unknown_target_is_refused_with_the_known_ones() {
        let directory = workspace::root().join("fuzz");
        let error = chosen(&directory, Some("nothing")).unwrap_err().to_string();
        assert!(error.contains("manifest"), "{error}");
    }
}
