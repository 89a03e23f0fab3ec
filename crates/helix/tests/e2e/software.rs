//! Software people run, as Debian has it: each is deployed and gives a real answer.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::registry::Registry;
use crate::world::http::get;
use crate::world::{Places, World, can_isolate, traces, until};

/// A world with one app, named after its image, that has these lines in its process.
fn running(name: &str, port: u16, process: &str) -> World {
    let registry = Registry::shared();
    let image = registry.software(name);
    let world = World::start::<&str>([]);
    let text = format!(
        r#"schema_version = "v1"
[app]
name = "{name}"
[[endpoints]]
protocol = "http"
[[endpoints]]
protocol = "tcp"
listen_port = {port}
[processes.web]
ports = [{{ name = "main", internal = {port} }}]
{process}
"#
    );
    std::fs::write(world.work().join("helix.toml"), text).expect("write the manifest");
    world.helix(["deploy", "--image", &image]).ok();
    world
}

/// The document with which a server of ours answers at its own address.
fn answer(places: &Places, path: &str) -> Value {
    let page = get(places.tcp, "x", path).unwrap();
    assert_eq!(page.status, 200, "{page:?}");
    serde_json::from_str(&page.body).unwrap()
}

fn until_logged(world: &World, line: &str) {
    until("the line to be in the log", || {
        world.helix(["logs"]).ok().stdout.lines().any(|logged| logged.ends_with(line))
    });
}

/// One command of Redis on a new connection; the value of its answer.
fn redis(address: SocketAddr, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    let mut line = || lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::BrokenPipe.into()));
    let first = line()?;
    // A length, and the value in the next line.
    if first.starts_with('$') && first != "$-1" { line() } else { Ok(first) }
}

#[test]
fn redis_keeps_what_it_is_told() {
    if !can_isolate("redis_keeps_what_it_is_told") {
        return;
    }
    let mounts = "mounts = [{ volume = \"data\", path = \"/data\" }]\n\
                  [[volumes]]\nname = \"data\"\nsize = \"1Gi\"\n";
    let mut world = running("redis", 6379, mounts);
    let address = world.places(&world.work()).tcp;
    assert_eq!(redis(address, "SET greeting hello").unwrap(), "+OK");
    assert_eq!(redis(address, "GET greeting").unwrap(), "hello");
    assert_eq!(redis(address, "INCR visits").unwrap(), ":1");
    let listed = world.json(&world.work(), ["instances", "list"]);
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let program = traces::workload_pid(&world.data(), &id).unwrap();

    // The platform is lost and comes back: the same Redis answers.
    world.kill();
    world.up::<&str>([]);
    until("Redis to be reached again", || redis(address, "PING").is_ok_and(|pong| pong == "+PONG"));
    assert_eq!(traces::workload_pid(&world.data(), &id), Some(program));
    assert_eq!(redis(address, "GET greeting").unwrap(), "hello");

    // Redis itself is lost: the next one finds on the volume what this one was told.
    kill(Pid::from_raw(program), Signal::SIGKILL).unwrap();
    until("another Redis to answer", || {
        traces::workload_pid(&world.data(), &id).is_some_and(|now| now != program)
            && redis(address, "GET greeting").is_ok_and(|greeting| greeting == "hello")
    });
    assert_eq!(redis(address, "INCR visits").unwrap(), ":2");
}

/// A server of a few lines says its version, its variable and what it was asked for.
fn answers(name: &str, version: &str) {
    let world = running(name, 8080, "vars = { GREETING = \"good day\" }");
    let path = format!("/a/path?of={name}");
    let known = answer(&world.places(&world.work()), &path);
    assert!(known[name].as_str().unwrap().starts_with(version), "{known}");
    assert_eq!(known["path"], path);
    assert_eq!(known["greeting"], "good day");
    until_logged(&world, &format!("GET {path}"));
}

#[test]
fn a_node_server_answers() {
    if can_isolate("a_node_server_answers") {
        answers("node", "v");
    }
}

#[test]
fn a_python_server_answers() {
    if can_isolate("a_python_server_answers") {
        answers("python", "3.");
    }
}

#[test]
fn a_shell_of_busybox_does_as_it_is_told() {
    if !can_isolate("a_shell_of_busybox_does_as_it_is_told") {
        return;
    }
    let world = running("busybox", 80, "");
    let places = world.places(&world.work());
    assert_eq!(get(places.tcp, "x", "/").unwrap().body, "a page of busybox\n");
    let sh = |script| world.helix(["exec", "--", "sh", "-c", script]);
    assert_eq!(sh("echo $((6 * 7)); id -u").ok().stdout, "42\n0\n");
    assert_eq!(sh("printf 'b\\na\\n' | sort | tr a-z A-Z").ok().stdout, "A\nB\n");
    sh("exit 3").code_is(3);
    sh("echo written inside > /www/index.html").ok();
    assert_eq!(get(places.tcp, "x", "/").unwrap().body, "written inside\n");
}
