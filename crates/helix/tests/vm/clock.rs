//! A clock that is set, forwards and backwards, while all is at work.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::keeper::{self, BUSYBOX};
use crate::world::load::Load;
use crate::world::platform::Platform;
use crate::world::{Setup, World, until};

const HOUR: i64 = 3_600;

/// Counts, and serves a page.
const COUNTS: &str = "echo here > /tmp/index.html; i=0; while i=$((i+1)); do echo line $i; /app/busybox sleep 0.2; done & \
                      exec /app/busybox httpd -f -p 8080 -h /tmp";

/// Puts the clock forward, or back.
fn jump(seconds: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after the epoch");
    let then = now.as_secs().checked_add_signed(seconds).expect("a time");
    let output = std::process::Command::new("date").arg("-s").arg(format!("@{then}")).output();
    let output = output.expect("run date");
    assert!(output.status.success(), "{output:?}");
    println!(
        "the clock was set by {seconds} s: {}",
        String::from_utf8_lossy(&output.stdout).trim()
    );
}

fn deploy(world: &World, release: &str) -> PathBuf {
    let folder = keeper::write_running(world, &[BUSYBOX, "sh", "-c", COUNTS], "", "");
    std::fs::write(folder.join("release"), release).expect("change the app");
    let begun = std::time::Instant::now();
    world.helix_in(&folder, ["deploy"]).ok();
    println!("deploying {release} took {} ms", begun.elapsed().as_millis());
    folder
}

/// The instances there are, with their restarts.
fn instances(world: &World, folder: &Path) -> Vec<(String, u64)> {
    let status = world.json(folder, ["status"]);
    let instances = status["instances"].as_array().expect("a list").iter();
    let running = instances.filter(|it| it["current"]["phase"] == "ready");
    let line = |it: &Value| {
        let id = it["id"].as_str().expect("an id").to_owned();
        (id, it["current"]["restarts"].as_u64().expect("a count"))
    };
    running.map(line).collect()
}

/// Everything goes on as before.
fn goes_on(world: &World, folder: &Path, load: &Load, logs: &Platform) {
    load.goes_on(20);
    let heard = logs.stdout().lines().count();
    until("more lines to be followed", || logs.stdout().lines().count() > heard + 5);
    keeper::sh(world, folder, "echo here");
    let nodes = world.json(folder, ["nodes", "list"]);
    assert_eq!(nodes["items"][0]["current"]["connected"], true, "{nodes:#}");
}

pub(crate) fn a_clock_that_jumps_takes_nothing_with_it() {
    let mut world = World::new(Setup::default());
    world.up::<&str>([]);
    let folder = deploy(&world, "first");
    let load = Load::start(world.places(&folder).tcp, "x");
    let before = instances(&world, &folder);
    assert!(before.len() == 1 && before[0].1 == 0, "{before:?}");
    let mut following = world.command(&folder);
    following.args(["logs", "-f", "--stream", "stdout"]);
    let logs = Platform::spawn(following);

    for seconds in [HOUR, -2 * HOUR] {
        goes_on(&world, &folder, &load, &logs);
        jump(seconds);
        goes_on(&world, &folder, &load, &logs);
        assert_eq!(instances(&world, &folder), before, "nothing was replaced or started again");
    }
    numbered(&world, &folder, &logs);

    // Each release takes the other's place, whatever time it is.
    deploy(&world, "second");
    until("the first to be gone", || {
        instances(&world, &folder).iter().all(|it| it.0 != before[0].0)
    });
    jump(-HOUR);
    deploy(&world, "third");
    until("one to be left", || instances(&world, &folder).len() == 1);
    goes_on(&world, &folder, &load, &logs);
    load.finish().nothing_lost("a visitor while the clock jumps");
    logs.signal(nix::sys::signal::Signal::SIGINT);
    logs.end();

    // What a killed platform held when it was an hour later keeps nobody waiting.
    world.kill();
    jump(-HOUR);
    world.up::<&str>([]);
    deploy(&world, "fourth");
    jump(5 * HOUR);
    deploy(&world, "fifth");
    let audit = world.helix(["audit", "verify"]).ok();
    println!("{}", audit.stdout.trim());
    world.interrupt().ok();
    assert_eq!(world.traces(), Vec::<String>::new());
}

/// What was followed is each line once, in the order in which it was written; and so is
/// what can be read afterwards.
fn numbered(world: &World, folder: &Path, followed: &Platform) {
    let numbers = |text: &str| -> Vec<u64> {
        let last = |line: &str| line.rsplit(' ').next().and_then(|it| it.parse().ok());
        text.lines().filter_map(last).collect()
    };
    let kept = world.helix_in(folder, ["logs", "--lines", "10000", "--stream", "stdout"]).ok();
    for (what, text) in [("followed", followed.stdout()), ("kept", kept.stdout)] {
        let numbers = numbers(&text);
        assert!(numbers.len() > 20, "{what}: {text}");
        let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "{what}: {text}");
    }
}
