//! What stands beside the agent on a laptop: the page of its requests, rules for visitors,
//! and a file of tunnels.

use std::net::SocketAddr;

use serde_json::Value;

use crate::laptop::{Agent, program};
use crate::world::http::{ask, get};
use crate::world::{World, can_isolate, until};

/// The address of an agent's page.
fn page(agent: &Agent) -> SocketAddr {
    let attached = agent.said("attached").pop().unwrap();
    let url = attached["inspector"].as_str().expect("requests are shown").to_owned();
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn list(page: SocketAddr) -> Vec<Value> {
    let reply = ask(page, "GET", "/api/requests", &[], "").unwrap();
    let document: Value = serde_json::from_str(&reply.body).unwrap();
    document["requests"].as_array().unwrap().clone()
}

#[test]
fn requests_are_shown_and_sent_again_and_visitors_are_asked_who_they_are() {
    if !can_isolate("requests_are_shown_and_sent_again_and_visitors_are_asked_who_they_are") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let port = program("for those who may").port().to_string();
    let everybody = ["http", &port, "--inspect", "0.0.0.0:4040"];
    let refused = world.helix(everybody).code_is(2);
    assert!(refused.stderr.contains("not of this machine alone"), "{}", refused.stderr);

    std::fs::write(world.work().join("password"), "ada:lovelace\n").unwrap();
    let with = ["--basic-auth-file", "password", "--inspect", "127.0.0.1:0"];
    let agent = Agent::start(&world, &[&["http", &port, "--name", "demo"], &with[..]].concat());
    let front = agent.http();
    until("visitors to be asked for a password", || {
        get(front, "demo.localhost", "/").is_ok_and(|reply| {
            reply.status == 401 && reply.head.to_lowercase().contains("tunnel_login_required")
        })
    });
    let url = format!("http://demo.localhost:{}/let-in", front.port());
    let resolve = format!("demo.localhost:{}:127.0.0.1", front.port());
    let visitor = std::process::Command::new("curl")
        .args(["-sS", "--user", "ada:lovelace", "--resolve", &resolve, &url])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&visitor.stdout), "for those who may");

    let page = page(&agent);
    let newest = list(page).remove(0);
    assert_eq!((&newest["path"], &newest["status"]), (&"/let-in".into(), &200.into()));
    assert!(newest["client"].as_str().unwrap().parse::<std::net::IpAddr>().is_ok(), "{newest:#}");
    let again = format!("/api/requests/{}/replay", newest["id"]);
    assert_eq!(ask(page, "POST", &again, &[], "").unwrap().status, 202);
    until("the replay to be answered", || {
        let replayed = list(page).remove(0);
        replayed["replay_of"] == newest["id"] && replayed["status"] == 200
    });
    assert_eq!(get(page, "evil.example", "/api/requests").unwrap().status, 403);
    agent.interrupt().ok();
    world.interrupt().ok();
}

/// A file of tunnels that lead to these programs.
fn file(world: &World, tunnels: &[(&str, &SocketAddr)]) {
    let tables = tunnels.iter().map(|(name, target)| {
        format!("[[tunnels]]\nname = \"{name}\"\ntarget = \"{target}\"\ninspect = \"off\"\n")
    });
    let text = format!("schema_version = \"v1\"\n{}", tables.collect::<String>());
    std::fs::write(world.work().join("tunnels.toml"), text).unwrap();
}

#[test]
fn the_tunnels_of_a_file_follow_it_and_leave_each_other_alone() {
    if !can_isolate("the_tunnels_of_a_file_follow_it_and_leave_each_other_alone") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let [first, second, third] = ["first", "second", "third"].map(program);
    file(&world, &[("one", &first), ("two", &second)]);
    let agent = Agent::start(&world, &["tunnels", "run"]);
    agent.attaches(2);
    agent.serves("one.localhost", "first");
    agent.serves("two.localhost", "second");

    // One is changed, one comes, one stays.
    file(&world, &[("one", &first), ("two", &third), ("three", &third)]);
    agent.serves("three.localhost", "third");
    agent.serves("two.localhost", "third");
    let attached = agent.said("attached");
    assert_eq!(attached.iter().filter(|line| line["name"] == "one").count(), 1, "{attached:#?}");
    let told = agent.said("file").pop().unwrap();
    assert_eq!((&told["added"][0], &told["changed"][0]), (&"three".into(), &"two".into()));

    let tunnels = world.work().join("tunnels.toml");
    std::fs::write(&tunnels, "schema_version = \"v1\"\n[[tunnels]]\nnmae = \"x\"\n").unwrap();
    until("the mistake to be told", || {
        agent.said("file").iter().any(|line| {
            line["state"] == "refused" && line["why"].as_str().unwrap().contains("line 3, column 1")
        })
    });
    agent.serves("one.localhost", "first");
    file(&world, &[("one", &first)]);
    until("what was taken out to be offline", || {
        get(agent.http(), "three.localhost", "/").is_ok_and(|reply| reply.status == 503)
    });
    agent.serves("one.localhost", "first");
    agent.interrupt().ok();
    world.interrupt().ok();
}
