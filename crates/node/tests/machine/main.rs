//! The agent on a real machine: images from a registry on loopback, programs in
//! containers, everything through `Agent`.
//!
//! This binary plays four parts: the tests, the shim beside each instance, the
//! program inside it, and an agent in a process of its own that can be killed.
//! Being static, it runs inside an image that holds nothing else.

// Not built as a unit test, so clippy does not see that this is one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tests;
mod workload;
mod world;

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|arg| arg.to_str()) {
        Some("shim") => helix_runtime::shim_main(args),
        Some("workload") => workload::run(args),
        Some("agent") => world::agent_process(args),
        Some(filter) if !filter.starts_with('-') => run_tests(filter),
        _ => run_tests(""),
    }
}

fn run_tests(filter: &str) -> ExitCode {
    let mut out = std::io::stderr();
    let mut say = |text: String| drop(writeln!(out, "{text}"));
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let mut failed = 0;
    for (name, needs_root, test) in tests::ALL.iter().filter(|test| test.0.contains(filter)) {
        if *needs_root && !is_root() {
            say(format!(
                "test {name} ... skipped: containers of this kind need root"
            ));
            continue;
        }
        let passed = std::panic::catch_unwind(AssertUnwindSafe(test)).is_ok();
        say(format!(
            "test {name} ... {}",
            if passed { "ok" } else { "FAILED" }
        ));
        failed += usize::from(!passed);
    }
    world::remove_shared_image();
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.contains("\nUid:\t0\t0\t"))
}
