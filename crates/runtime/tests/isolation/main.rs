//! Real instances under real isolation, as root and as a plain user.
//!
//! This binary plays three parts: `helix` for the shim (`shim DIR`), the program
//! inside every image (`workload MODE`), and the runner of the tests below. It
//! is linked statically, so a copy of it is a whole image.

// Without a harness this is no test to clippy, but it is one all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod attacker;
mod attacks;
mod container;
mod exec;
mod machine;
mod prestart;
mod rootless;
mod secrets;
mod userns;
mod volumes;
mod workload;
mod world;

use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|arg| arg.to_str()) {
        Some("shim") => return helix_runtime::shim_main(args),
        Some("workload") => return workload::main(args),
        Some("on-machine") => return machine::main(args),
        Some("as-plain-user") => return rootless::main(args),
        _ => {}
    }
    let filter: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let tests: Vec<Test> = [
        container::TESTS,
        attacker::TESTS,
        exec::TESTS,
        userns::TESTS,
        secrets::TESTS,
        prestart::TESTS,
        volumes::TESTS,
        machine::TESTS,
        rootless::TESTS,
    ]
    .concat();
    let tests = tests.into_iter().filter(|(name, _)| {
        filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str()))
    });
    if std::env::args().any(|arg| arg == "--list") {
        tests.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    let mut count = 0;
    for (name, test) in tests {
        count += 1;
        let begun = Instant::now();
        let outcome = std::panic::catch_unwind(test);
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({} ms)", begun.elapsed().as_millis());
        if outcome.is_err() {
            failed.push(name);
        }
    }
    println!("\n{count} tests, {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
