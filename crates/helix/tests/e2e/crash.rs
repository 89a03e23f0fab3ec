//! `kill -9` of the whole platform: what was acknowledged is there afterwards,
//! and what ran goes on running.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use crate::world::http::get;
use crate::world::{World, can_isolate, traces, until, wait_for};

/// Enough acknowledged deploys for the kill to hit the next ones under way.
const DEPLOYS: usize = 3;

#[test]
fn instances_outlive_the_platform_and_are_adopted() {
    if !can_isolate("instances_outlive_the_platform_and_are_adopted") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let folder = world.copy_example("hello");
    world.helix_in(&folder, ["deploy"]).ok();
    world.helix_in(&folder, ["scale", "web=3"]).ok();
    let before = programs(&world, &folder);
    assert_eq!(before.len(), 3);
    let places = world.places(&folder);

    world.kill();
    assert!(get(places.tcp, "x", "/").is_err(), "nobody passes requests on now");
    world.up::<&str>([]);
    assert_eq!(programs(&world, &folder), before, "the same programs, not new ones");
    let status = world.json(&folder, ["status"]);
    assert_eq!(status["processes"][0]["ready"], 3, "{status:#}");
    for instance in status["instances"].as_array().unwrap() {
        assert_eq!(instance["current"]["restarts"], 0, "{instance:#}");
    }
    let again = world.places(&folder);
    assert_eq!(again.tcp, places.tcp);
    until("the app to serve again", || {
        get(again.tcp, "x", "/").is_ok_and(|reply| reply.status == 200)
    });

    // Adopted for real: they can be changed, and they stop with the platform.
    world.helix_in(&folder, ["scale", "web=1"]).ok();
    world.helix_in(&folder, ["exec", "--", "/helix", "version"]).ok();
    world.interrupt().ok();
    assert_eq!(world.traces(), Vec::<String>::new());
}

#[test]
fn no_acknowledged_write_is_lost() {
    if !can_isolate("no_acknowledged_write_is_lost") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let folder = world.copy_example("hello");
    world.helix_in(&folder, ["deploy"]).ok();
    let places = world.places(&folder);

    let receipts = Mutex::new(Vec::new());
    let refused = Mutex::new(Vec::new());
    let acknowledged = |args: &[&str]| {
        let output = world.helix_in(&folder, args.iter().chain(&["--no-wait", "--json"]));
        let accepted = output.code == 0;
        if accepted {
            let receipt = output.document()["receipt"].clone();
            receipts.lock().unwrap().push(receipt);
        } else {
            refused.lock().unwrap().push(output.stdout);
        }
        accepted
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let page = folder.join("public/index.html");
            for edit in 0.. {
                std::fs::write(&page, format!("edit {edit}")).unwrap();
                if !acknowledged(&["deploy"]) {
                    return;
                }
            }
        });
        threads.spawn(|| {
            // Until the platform is gone, which is where this ends.
            for count in ["web=2", "web=3", "web=1"].iter().cycle() {
                if !acknowledged(&["scale", count]) && !world.platform().is_running() {
                    return;
                }
            }
        });
        let enough = wait_for(|| {
            let receipts = receipts.lock().unwrap();
            receipts.iter().filter(|receipt| is_of(receipt, "deploy")).count() >= DEPLOYS
        });
        // Before the verdict: the threads end with the platform and with nothing else.
        world.platform().signal(nix::sys::signal::Signal::SIGKILL);
        assert!(enough, "too few acknowledged writes; refused: {refused:#?}");
    });
    world.kill();
    world.up::<&str>([]);

    let receipts = receipts.into_inner().unwrap();
    assert!(receipts.iter().any(|receipt| is_of(receipt, "scale")), "{receipts:#?}");
    for receipt in &receipts {
        in_the_log(&world, &folder, receipt);
        for affected in receipt["affected"].as_array().unwrap() {
            let subject = format!(
                "{}/{}",
                affected["kind"].as_str().unwrap(),
                affected["id"].as_str().unwrap()
            );
            world.json(&folder, ["describe", &subject]);
        }
    }
    // What was asked last comes about, and then the app is whole.
    until("the last deploy to end", || {
        let status = world.json(&folder, ["status"]);
        status["env"]["desired"]["rolling"].is_null()
            && status["releases"]["desired"] == status["releases"]["current"]
    });
    world.helix_in(&folder, ["wait", "env/production", "--timeout", "60s"]).ok();
    let serves = get(places.tcp, "x", "/").unwrap();
    assert!(serves.body.starts_with("edit "), "{serves:?}");
    world.interrupt().ok();
    assert_eq!(world.traces(), Vec::<String>::new());
}

fn is_of(receipt: &Value, operation: &str) -> bool {
    receipt["operation"].as_str().is_some_and(|name| name.contains(operation))
}

/// The event at a receipt's position is the one the receipt is about.
fn in_the_log(world: &World, folder: &Path, receipt: &Value) {
    let position = receipt["position"].as_u64().expect("a position");
    let after = (position - 1).to_string();
    let page = world.json(folder, ["events", "--all", "--after", &after]);
    let event = &page["items"][0];
    assert_eq!(event["position"], position, "{receipt:#}");
    assert_eq!(event["request_id"], receipt["request_id"], "{event:#}\n{receipt:#}");
}

/// The process id of each instance's program.
fn programs(world: &World, folder: &Path) -> BTreeMap<String, i32> {
    let listed = world.json(folder, ["instances", "list"]);
    let ids = listed["items"].as_array().into_iter().flatten();
    let ids = ids.filter_map(|instance| instance["id"].as_str());
    ids.map(|id| (id.to_owned(), traces::workload_pid(&world.data(), id).expect("a program")))
        .collect()
}
