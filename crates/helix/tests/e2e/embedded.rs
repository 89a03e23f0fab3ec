//! Programs that are their own agents: the examples in Rust, C and Python, with the
//! platform as a user has it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use helix_tunnel_c as _;

use crate::laptop::program;
use crate::world::http::get;
use crate::world::{World, can_isolate, until};

#[path = "../../../../examples/embed-rust/src/main.rs"]
pub mod embed_rust;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The library for C that was built with this test; the newest, where there are several.
fn archive() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let entries = std::fs::read_dir(executable.parent().unwrap()).unwrap();
    let archives = entries.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.starts_with("libhelix_tunnel_c") && name.ends_with(".a")
    });
    archives.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap()
}

/// What a static library leaves to the system's.
const SYSTEM: [&str; 4] = ["-lpthread", "-ldl", "-lm", "-lgcc_s"];

fn ends_well(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A running example; killed when it is dropped.
struct Example(Child);

impl Example {
    /// Starts it, and waits for the URL it says.
    fn start(command: &mut Command) -> Example {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut example = Example(spawned.unwrap());
        let mut url = String::new();
        BufReader::new(example.0.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("https://"), "it says `{url}`");
        example
    }

    /// Ends with its standard input, as both do.
    fn ends(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serves(front: SocketAddr, host: &str, text: &str) {
    until("the tunnel to carry", || {
        get(front, host, "/").is_ok_and(|reply| reply.status == 200 && reply.body == text)
    });
}

#[test]
fn programs_in_rust_c_and_python_have_public_names_of_their_own() {
    if !can_isolate("programs_in_rust_c_and_python_have_public_names_of_their_own") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let api = world.api();
    let token = std::fs::read_to_string(world.data().join("token")).unwrap().trim().to_owned();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (agent, url) = runtime.block_on(embed_rust::offer(&api, &token, "in-rust")).unwrap();
    assert!(url.starts_with("https://in-rust.localhost"), "{url}");
    let front = runtime.block_on(async {
        let attached =
            |phase: &helix_tunnel::Phase| matches!(phase, helix_tunnel::Phase::Attached { .. });
        let mut phases = agent.phases();
        let phase = phases.wait_for(attached).await.unwrap().clone();
        let helix_tunnel::Phase::Attached { reachable, .. } = phase else { panic!("{phase:?}") };
        let plain = reachable.iter().find_map(|url| url.strip_prefix("http://")).unwrap();
        let port = plain.rsplit(':').next().unwrap().parse().unwrap();
        SocketAddr::from(([127, 0, 0, 1], port))
    });
    serves(front, "in-rust.localhost", "hello from rust, at /\n");
    runtime.block_on(agent.stop());

    let program = program("behind C").to_string();
    let built = world.work().join("embed-c");
    let mut cc = Command::new("cc");
    cc.arg("-I").arg(repository().join("crates/tunnel-c/include")).arg("-o").arg(&built);
    cc.arg(repository().join("examples/embed-c/main.c")).arg(archive()).args(SYSTEM);
    ends_well(&mut cc);
    let in_c = Example::start(Command::new(&built).args([&api, &token, "in-c", &program]));
    serves(front, "in-c.localhost", "behind C");
    in_c.ends();

    let library = world.work().join("libhelix_tunnel_c.so");
    let mut shared = Command::new("cc");
    shared.args(["-shared", "-o"]).arg(&library).arg("-Wl,--whole-archive").arg(archive());
    ends_well(shared.arg("-Wl,--no-whole-archive").args(SYSTEM));
    let mut python = Command::new("python3");
    python.arg(repository().join("examples/embed-python/main.py"));
    python.args([&api, &token, "in-python"]).env("HELIX_TUNNEL_LIBRARY", &library);
    let in_python = Example::start(&mut python);
    serves(front, "in-python.localhost", "hello from python\n");
    in_python.ends();
    world.interrupt().ok();
}
