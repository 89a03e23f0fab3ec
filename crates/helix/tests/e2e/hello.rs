//! The main job: `helix up` with the example, and everything that the second
//! terminal can do to it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::http::get;
use crate::world::{Places, Setup, World, can_isolate, until};

/// What the page says before and after it is edited.
const OLD: &str = "It runs.";
const NEW: &str = "It runs otherwise.";

#[test]
fn up_builds_serves_and_says_where() {
    if !can_isolate("up_builds_serves_and_says_where") {
        return;
    }
    let mut world =
        World::start([Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello")]);
    until("the result to be printed", || world.platform().stdout().contains("helix scale web=3"));
    let said = world.platform().stdout();
    let folder = world.copy_example("hello");
    let places = world.places(&folder);
    for expected in [
        format!("http://{}:{}", places.host, places.http.port()),
        places.tcp.to_string(),
        "isolation  container".to_owned(),
        "helix status".to_owned(),
        "helix logs -f".to_owned(),
        "helix scale web=3".to_owned(),
    ] {
        assert!(said.contains(&expected), "{expected:?} is missing:\n{said}");
    }
    assert!(places.tcp.is_ipv6());
    assert_eq!(places.tcp.port(), 80);
    let progress = world.platform().stderr();
    for step in ["starting the platform", "building", "deploying", "web-1  ready"] {
        assert!(progress.contains(step), "{step:?} is missing:\n{progress}");
    }

    let page = page(&places);
    assert!(page.contains(OLD), "{page}");
    assert_eq!(
        curl(&[
            "--resolve",
            &resolve(&places),
            &format!("http://{}:{}/", places.host, places.http.port())
        ]),
        page
    );
    assert_eq!(curl(&["-g", &format!("http://{}/", places.tcp)]), page);
    let stranger = get(places.http, "nobody.localhost", "/").unwrap();
    assert_eq!(stranger.status, 404, "{}", stranger.body);

    let stopped = world.interrupt().ok();
    assert!(stopped.stderr.contains("draining and stopping"), "{}", stopped.stderr);
    assert_eq!(world.traces(), Vec::<String>::new());
    assert!(get(places.http, &places.host, "/").is_err(), "it still answers");

    // Again, without saying what to deploy: the app is simply there.
    world.up::<&str>([]);
    let again = world.places(&folder);
    assert_eq!(again.tcp, places.tcp, "the address is the app's for good");
    until("the app to serve again", || {
        get(again.tcp, "x", "/").is_ok_and(|reply| reply.body == page)
    });
    until("the app to serve by name", || {
        get(again.http, &again.host, "/").is_ok_and(|reply| reply.body == page)
    });
    let status = world.json(&folder, ["status"]);
    assert_eq!(status["deploys"].as_array().unwrap().len(), 1, "nothing was deployed anew");
    world.interrupt().ok();
    assert_eq!(world.traces(), Vec::<String>::new());
}

#[test]
fn a_second_terminal_edits_rolls_back_and_scales() {
    if !can_isolate("a_second_terminal_edits_rolls_back_and_scales") {
        return;
    }
    let world = World::start(["--json"]);
    let document = || serde_json::from_str::<Value>(&world.platform().stdout());
    until("the result to be printed, one document", || document().is_ok());
    let up: Value = document().expect("one document");
    assert!(up["url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{up:#}");
    let folder = world.copy_example("hello");
    let first = world.json(&folder, ["deploy"]);
    assert_eq!(first["release"]["name"], "v1");
    let places = world.places(&folder);
    assert!(page(&places).contains(OLD));

    let path = folder.join("public/index.html");
    let edited = std::fs::read_to_string(&path).unwrap().replace(OLD, NEW);
    std::fs::write(&path, edited).unwrap();
    let deployed = world.helix_in(&folder, ["deploy"]).ok();
    assert!(deployed.stdout.contains("default/default/hello@production is running v2"));
    assert!(page(&places).contains(NEW));

    let back = world.helix_in(&folder, ["rollback"]).ok();
    assert!(back.stdout.contains("is running v1"), "{}", back.stdout);
    assert!(page(&places).contains(OLD));
    let releases = world.json(&folder, ["releases", "list"]);
    assert_eq!(names(&releases["items"]), ["v1", "v2"], "a rollback builds nothing");

    let scaled = world.helix_in(&folder, ["scale", "web=3"]).ok();
    assert!(scaled.stdout.contains("3 of 3"), "{}", scaled.stdout);
    let status = world.json(&folder, ["status"]);
    assert_eq!(status["processes"][0]["ready"], 3);
    assert_eq!(status["releases"]["current"], "v1");
    world.helix_in(&folder, ["scale", "web=1"]).ok();
    until("two instances to go", || {
        let instances = world.json(&folder, ["instances", "list"]);
        names(&instances["items"]).len() == 1
    });
    assert!(page(&places).contains(OLD));
}

#[test]
fn a_second_terminal_looks_inside() {
    if !can_isolate("a_second_terminal_looks_inside") {
        return;
    }
    let world = World::start([Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello")]);
    let folder = world.copy_example("hello");
    let places = world.places(&folder);
    assert_eq!(get(places.http, &places.host, "/no-such-page").unwrap().status, 404);

    until("the request to be in the log", || {
        world.helix_in(&folder, ["logs"]).ok().stdout.contains("/no-such-page")
    });
    let lines = world.helix_in(&folder, ["logs", "--json"]).ok().lines();
    assert!(lines.iter().all(|line| line["type"] == "log" && line["ts"].is_string()), "{lines:?}");

    let events = world.json(&folder, ["events"]);
    let kinds: Vec<&str> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    for kind in ["release.created", "deploy.created", "instance.allocated"] {
        assert!(kinds.contains(&kind), "{kind} is missing: {kinds:?}");
    }

    // The image holds one program, which is the binary itself.
    let version = world.helix_in(&folder, ["exec", "--", "/helix", "version"]).ok();
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
    world.helix_in(&folder, ["exec", "web-1", "--", "/helix", "no-such-command"]).code_is(2);
    world.helix_in(&folder, ["exec", "--", "/helix", "explain", "no_such_code"]).code_is(4);
    world.helix_in(&folder, ["exec", "--", "/no/such/program"]).code_is(255);

    for subject in [
        "app/hello",
        "env/production",
        "release/v1",
        "deploy/d1",
        "instance/web-1",
        "endpoint/http",
        "endpoint/tcp-80",
    ] {
        let described = world.json(&folder, ["describe", subject]);
        assert!(
            described["resource"]["id"].is_string() || described["id"].is_string(),
            "{described:#}"
        );
        world.helix_in(&folder, ["describe", subject]).ok();
        world.helix_in(&folder, ["wait", subject, "--timeout", "30s"]).ok();
    }
    for kind in [
        "orgs",
        "projects",
        "apps",
        "envs",
        "releases",
        "deploys",
        "instances",
        "endpoints",
        "nodes",
    ] {
        let listed = world.json(&folder, [kind, "list"]);
        assert!(!names(&listed["items"]).is_empty(), "{kind}: {listed:#}");
    }
    world.helix_in(&folder, ["wait", "instance/web-9"]).code_is(4);
    world.helix_in(&folder, ["doctor"]).ok();
}

#[test]
fn a_machine_without_certificates_is_enough() {
    if !can_isolate("a_machine_without_certificates_is_enough") {
        return;
    }
    // As on a small Debian, where `ca-certificates` is not installed.
    let mut world = World::new(Setup::default());
    world.set_variable("SSL_CERT_FILE", "/no/such/file");
    world.set_variable("SSL_CERT_DIR", "/no/such/folder");
    let folder = world.copy_example("hello");
    world.up([&folder]);
    world.helix_in(&folder, ["status"]).ok();
    assert!(page(&world.places(&folder)).contains(OLD));
}

/// The page by host name, which must be the page by address too.
fn page(places: &Places) -> String {
    let by_name = get(places.http, &places.host, "/").expect("an answer by host name");
    let by_address = get(places.tcp, "anything", "/").expect("an answer by address");
    assert_eq!((by_name.status, by_address.status), (200, 200));
    assert_eq!(by_name.body, by_address.body);
    by_name.body
}

fn resolve(places: &Places) -> String {
    format!("{}:{}:127.0.0.1", places.host, places.http.port())
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "10"])
        .args(arguments)
        .output()
        .expect("run curl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn names(items: &Value) -> Vec<&str> {
    items.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}
