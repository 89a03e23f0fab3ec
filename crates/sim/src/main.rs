//! The simulator as a program: plays seeds and prints the first failure.
//!
//! `helix-sim [--seeds N] [--from SEED] [--steps N]`, or `--seed S` to replay
//! one with its last steps. `cargo xtask sim` builds it optimised and starts it, and
//! `cargo xtask bench placement` and `startup` start its benches.

mod bench;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use helix_sim::{Options, run};

/// Seeds played when nothing is said.
const SEEDS_DEFAULT: u64 = 1000;

/// Steps told before a failure when nothing is said.
const STEPS_DEFAULT: usize = 60;

const USAGE: &str = "usage: helix-sim [--seeds N] [--from SEED] [--seed SEED] [--steps N] \
     [--keep-going], or helix-sim --bench-placement NODES, or helix-sim --bench-history EVENTS";

struct Arguments {
    from: u64,
    seeds: u64,
    steps: usize,
    keep_going: bool,
}

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, nodes] = words.as_slice()
        && word == "--bench-placement"
    {
        let measured = nodes.parse().map(|nodes| bench::placement(nodes, &mut out));
        return if matches!(measured, Ok(Ok(true))) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    if let [word, events] = words.as_slice()
        && word == "--bench-history"
    {
        let told = events.parse().map(|events| bench::history(events, &mut BufWriter::new(out)));
        return if matches!(told, Ok(Ok(true))) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let result = match arguments(words.into_iter()) {
        Some(arguments) => play(&arguments, &mut out),
        None => writeln!(out, "{USAGE}").map(|()| false),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments =
        Arguments { from: 0, seeds: SEEDS_DEFAULT, steps: STEPS_DEFAULT, keep_going: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--keep-going" => arguments.keep_going = true,
            "--seeds" => arguments.seeds = words.next()?.parse().ok()?,
            "--from" => arguments.from = words.next()?.parse().ok()?,
            "--steps" => arguments.steps = words.next()?.parse().ok()?,
            "--seed" => {
                arguments.from = words.next()?.parse().ok()?;
                arguments.seeds = 1;
            }
            _ => return None,
        }
    }
    Some(arguments)
}

/// Plays the seeds; whether all went well.
fn play(arguments: &Arguments, out: &mut impl Write) -> io::Result<bool> {
    let options = Options::default();
    let (mut steps, mut entries, mut faults, mut failed) = (0, 0, 0, 0_u64);
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        match run(seed, options) {
            Ok(summary) => {
                steps += summary.steps;
                entries += summary.entries;
                faults += summary.faults;
            }
            Err(failure) if arguments.keep_going => {
                failed += 1;
                writeln!(out, "{failure}")?;
            }
            Err(_) => {
                // The same again, this time told step by step.
                let told = Options { trace_steps: arguments.steps, ..options };
                if let Err(failure) = run(seed, told) {
                    writeln!(out, "{failure}")?;
                }
                return Ok(false);
            }
        }
    }
    let seeds = arguments.seeds;
    writeln!(
        out,
        "{seeds} seeds, {failed} failed: {steps} steps, {entries} log entries, {faults} faults"
    )?;
    Ok(failed == 0)
}
