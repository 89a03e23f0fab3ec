//! An image nobody here wrote, under visitors who never stop: instances die,
//! releases change, and no request is lost.

use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::registry::{FIRST_PAGE, Registry, SECOND_PAGE};
use crate::world::http::get;
use crate::world::load::Load;
use crate::world::{Places, World, can_isolate, traces, until};

#[test]
fn a_killed_instance_is_replaced_and_no_request_is_lost() {
    if !can_isolate("a_killed_instance_is_replaced_and_no_request_is_lost") {
        return;
    }
    let registry = Registry::shared();
    let world = World::start::<&str>([]);
    let places = three_of(&world, &registry.first);
    let page = get(places.tcp, "x", "/").unwrap();
    assert!(page.body.contains(FIRST_PAGE), "{page:?}");

    let by_name = Load::start(places.http, &places.host);
    let by_address = Load::start(places.tcp, "nginx");
    by_name.goes_on(50);
    by_address.goes_on(50);

    let (begin, end) = lose_one(&world, traces::workload_pid);
    by_name.goes_on(100);
    by_address.goes_on(100);
    // The shared listener can ask another instance; bytes of a TCP connection
    // that has begun belong to the instance that got them.
    by_name.finish().nothing_lost("by host name");
    by_address.finish().nothing_lost_but_at("by address", begin, end);
    let status = world.json(&world.work(), ["--app", "nginx", "status"]);
    assert_eq!(status["processes"][0]["ready"], 3, "{status:#}");
}

#[test]
fn an_instance_whose_shim_is_killed_is_replaced_too() {
    if !can_isolate("an_instance_whose_shim_is_killed_is_replaced_too") {
        return;
    }
    let registry = Registry::shared();
    let world = World::start::<&str>([]);
    let places = three_of(&world, &registry.first);
    let by_name = Load::start(places.http, &places.host);
    let by_address = Load::start(places.tcp, "nginx");
    by_address.goes_on(50);
    let (begin, end) = lose_one(&world, traces::shim_pid);
    by_name.goes_on(100);
    by_address.goes_on(100);
    by_name.finish().nothing_lost("by host name");
    by_address.finish().nothing_lost_but_at("by address", begin, end);
}

#[test]
fn a_new_release_takes_over_and_no_request_is_lost() {
    if !can_isolate("a_new_release_takes_over_and_no_request_is_lost") {
        return;
    }
    let registry = Registry::shared();
    let world = World::start::<&str>([]);
    let places = three_of(&world, &registry.first);
    let by_name = Load::start(places.http, &places.host);
    let by_address = Load::start(places.tcp, "nginx");
    let by_kept = Load::start_kept(places.http, &places.host);
    by_name.goes_on(50);
    by_address.goes_on(50);
    by_kept.goes_on(50);

    let deployed =
        world.json(&world.work(), ["deploy", "--image", &registry.second, "--port", "80"]);
    assert_eq!(deployed["release"]["name"], "v2");
    assert!(get(places.tcp, "x", "/").unwrap().body.contains(SECOND_PAGE));
    until("the old instances to be drained and gone", || {
        let now = instances(&world);
        let new = |instance: &Value| instance["desired"]["release"] == deployed["release"]["id"];
        now.len() == 3 && now.iter().all(|instance| new(instance) && is_ready(instance))
    });
    by_name.goes_on(50);
    by_address.goes_on(50);
    by_kept.goes_on(50);
    by_name.finish().nothing_lost("by host name");
    by_address.finish().nothing_lost("by address");
    by_kept.finish().nothing_lost("on a kept connection");
    let page = get(places.http, &places.host, "/").unwrap();
    assert!(page.body.contains(SECOND_PAGE), "{page:?}");
}

#[test]
fn an_image_with_a_shell_can_be_looked_into() {
    if !can_isolate("an_image_with_a_shell_can_be_looked_into") {
        return;
    }
    let registry = Registry::shared();
    let world = World::start(["--image", &registry.first, "--port", "80"]);
    let exec = |script: &str| world.helix(["--app", "nginx", "exec", "--", "sh", "-c", script]);
    let said = exec("echo out; echo err >&2; exit 42").code_is(42);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
    exec("kill -9 $$").code_is(128 + 9);
    let inside = exec("ps; ls /proc/1/root/; id").ok();
    assert!(inside.stdout.contains("nginx"), "{}", inside.stdout);
    let outside = format!("{}", std::process::id());
    exec(&format!("kill -0 {outside}")).code_is(1);
}

/// Deploys nginx and scales it to three.
fn three_of(world: &World, image: &str) -> Places {
    world.helix(["deploy", "--image", image, "--port", "80"]).ok();
    world.helix(["--app", "nginx", "scale", "web=3"]).ok();
    let status = world.json(&world.work(), ["--app", "nginx", "status"]);
    assert_eq!(status["processes"][0]["ready"], 3, "{status:#}");
    Places::of(&status).expect("two endpoints")
}

/// Kills a process of one of three instances outright and waits until all three
/// are ready again. Between which moments the program died.
fn lose_one(world: &World, whose: fn(&std::path::Path, &str) -> Option<i32>) -> (Instant, Instant) {
    let victim = instances(world)[0].clone();
    let id = victim["id"].as_str().expect("an id");
    let program = traces::workload_pid(&world.data(), id).expect("a running program");
    let target = whose(&world.data(), id).expect("a running process");
    let begin = Instant::now();
    kill(Pid::from_raw(target), Signal::SIGKILL).expect("kill it");
    until("the program to die", || !traces::is_alive(program));
    let end = Instant::now();
    until("the instance to be ready again, 3 of 3", || {
        let now = instances(world);
        let again = traces::workload_pid(&world.data(), id);
        again.is_some_and(|again| again != program) && now.len() == 3 && now.iter().all(is_ready)
    });
    (begin, end)
}

fn instances(world: &World) -> Vec<Value> {
    let listed = world.json(&world.work(), ["--app", "nginx", "instances", "list"]);
    listed["items"].as_array().cloned().unwrap_or_default()
}

fn is_ready(instance: &Value) -> bool {
    instance["current"]["phase"] == "ready"
}
