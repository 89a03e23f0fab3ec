//! The agent on a real machine: images from a registry on loopback, programs in
//! containers, everything through `Agent`.
//!
//! This binary plays five parts: the tests, the shim beside each instance, the
//! program inside it, an agent in a process of its own that can be killed, and
//! the world beyond the machine. Being static, it runs inside an image that
//! holds nothing else.
//!
//! As root the tests run in a network namespace of their own: links, addresses,
//! rules and settings are theirs alone, and gone with them.

// Not built as a unit test, so clippy does not see that this is one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod disk;
mod downloads;
mod egress;
mod faults;
mod outside;
mod peers;
mod secrets;
mod snapshots;
mod tests;
mod volumes;
mod workload;
mod world;

use std::ffi::OsString;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|arg| arg.to_str()) {
        Some("shim") => helix_runtime::shim_main(args),
        Some("workload") => workload::run(args),
        Some("agent") => world::agent_process(args),
        Some("outside") => outside::run(),
        Some("in-own-network") => {
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success(), "cannot set loopback up");
            run_tests(&filter(args.next()))
        }
        _ if is_root() => in_own_network(&filter(std::env::args_os().nth(1))),
        _ => run_tests(&filter(std::env::args_os().nth(1))),
    }
}

/// The tests whose names contain it run. Options are `cargo test`'s business.
fn filter(word: Option<OsString>) -> String {
    let word = word.and_then(|word| word.into_string().ok()).unwrap_or_default();
    if word.starts_with('-') { String::new() } else { word }
}

fn in_own_network(filter: &str) -> ExitCode {
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["in-own-network", filter])
        .status();
    if status.unwrap().success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_tests(filter: &str) -> ExitCode {
    let mut out = std::io::stderr();
    let mut say = |text: String| drop(writeln!(out, "{text}"));
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let mut failed = 0;
    for (name, needs_root, test) in tests::ALL.iter().filter(|test| test.0.contains(filter)) {
        if *needs_root && !is_root() {
            say(format!("test {name} ... skipped: containers of this kind need root"));
            continue;
        }
        let passed = std::panic::catch_unwind(AssertUnwindSafe(test)).is_ok();
        say(format!("test {name} ... {}", if passed { "ok" } else { "FAILED" }));
        failed += usize::from(!passed);
    }
    world::remove_shared_image();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.contains("\nUid:\t0\t0\t"))
}
