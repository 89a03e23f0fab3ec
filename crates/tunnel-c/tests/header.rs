//! The header is what the library has: programs in C and in Python are built with it and
//! run. What they do with a server is an end-to-end test of the product.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use helix_tunnel_c as _;

/// What a static library leaves to the system's.
const SYSTEM: [&str; 4] = ["-lpthread", "-ldl", "-lm", "-lgcc_s"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The static library this test was built beside; the newest, where there are several.
fn archive() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let entries = std::fs::read_dir(executable.parent().unwrap()).unwrap();
    let archives = entries.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.starts_with("libhelix_tunnel_c") && name.ends_with(".a")
    });
    let modified = |path: &PathBuf| path.metadata().unwrap().modified().unwrap();
    archives.max_by_key(modified).expect("the static library")
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Compiles C with all warnings, and links it with the library.
fn compile(source: &Path, to: &Path) {
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"]);
    cc.arg(repository().join("crates/tunnel-c/include")).arg("-o").arg(to);
    cc.arg(source).arg(archive()).args(SYSTEM);
    succeeds(&mut cc);
}

fn succeeds(command: &mut Command) {
    let output = run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn each_function_of_the_header_is_in_the_library_as_it_is_declared() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("all.c");
    std::fs::write(&source, include_str!("all.c")).unwrap();
    let program = folder.path().join("all");
    compile(&source, &program);
    succeeds(&mut Command::new(&program));
}

#[test]
fn the_example_in_c_says_why_there_is_no_tunnel() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("embed-c");
    compile(&repository().join("examples/embed-c/main.c"), &program);
    let nowhere = ["http://127.0.0.1:1", "token", "demo", "127.0.0.1:3000"];
    let output = run(Command::new(&program).args(nowhere));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("no tunnel: "));
}

#[test]
fn the_example_in_python_says_why_there_is_no_tunnel() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libhelix_tunnel_c.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-o"]).arg(&library).arg("-Wl,--whole-archive").arg(archive());
    succeeds(cc.arg("-Wl,--no-whole-archive").args(SYSTEM));
    let mut python = Command::new("python3");
    python.arg(repository().join("examples/embed-python/main.py"));
    python.args(["http://127.0.0.1:1", "token", "demo"]);
    let output = run(python.env("HELIX_TUNNEL_LIBRARY", &library));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("no tunnel: "));
}
