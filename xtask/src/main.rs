//! `cargo xtask`: reads the command line and hands over to the library.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{bench, dist, engine, fuzz, image, openapi, output, sim, suite, tidy, vm, workspace};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the HelixStack repository")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, then check, build and test everything.
    Test(suite::Options),
    /// Check the rules the source must keep; the same checks as the tidy test.
    Tidy,
    /// Measure the product beside its peers.
    Bench(bench::Options),
    /// Build the program that packages carry and print where it is.
    Dist(dist::Options),
    /// Throw mutated input at the parsers of what comes from outside.
    Fuzz(fuzz::Options),
    /// Write docs/openapi.json and docs/state-file.schema.json.
    Openapi,
    /// Play seeds through the simulator.
    Sim(sim::Options),
    /// Build a container image from Debian packages and push it to a registry.
    Image(image::Options),
    /// Have a Docker engine of its own until standard input ends; prints where.
    Engine,
    /// Make the parts of a virtual machine from Debian packages and print their folder.
    Vm,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)` is a chore that ran and found something wrong, and has said what.
fn run(chore: Chore) -> Result<bool> {
    match chore {
        Chore::Test(options) => suite::run(&options),
        Chore::Tidy => run_tidy(),
        Chore::Bench(options) => bench::run(&options).map(|()| true),
        Chore::Dist(options) => dist::run(&options).map(|()| true),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Openapi => openapi::run().map(|()| true),
        Chore::Sim(options) => sim::run(&options),
        Chore::Image(options) => image::run(&options).map(|()| true),
        Chore::Engine => engine::run().map(|()| true),
        Chore::Vm => vm::run().map(|()| true),
    }
}

fn run_tidy() -> Result<bool> {
    let findings = tidy::run(&workspace::root())?;
    for finding in &findings {
        output::result(&finding.to_string());
    }
    output::say(&format!("tidy: {} findings", findings.len()));
    Ok(findings.is_empty())
}
