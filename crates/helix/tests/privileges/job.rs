//! The main job, whoever does it: `helix up` with the example, everything the
//! second terminal is for, Ctrl-C.

use std::path::{Path, PathBuf};

use crate::world::http::get;
use crate::world::{Places, World, until};

/// What the page says before and after it is edited.
const OLD: &str = "It runs.";
const NEW: &str = "It runs otherwise.";

/// What must be found out about the machine.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The name of the isolation level.
    pub isolation: &'static str,
    /// Whether the TCP endpoint has the env's own address.
    pub own_address: bool,
}

/// What it said about the isolation, on one line each and in this order.
#[derive(Clone, Debug)]
pub struct Told {
    /// `LEVEL (REASON)`
    pub isolation: String,
    /// What would make it stronger.
    pub advice: String,
    /// What is less than declared.
    pub limited: String,
}

/// Does the whole job in this world, with these further arguments of `up`.
pub fn all_of_it(mut world: World, arguments: &[&str], expected: Expected) -> Told {
    let folder = world.copy_example("hello");
    let told = up(&mut world, &folder, arguments, expected);
    second_terminal(&world, &folder, expected);
    let places = world.places(&folder);
    let stopped = world.interrupt().ok();
    assert!(stopped.stderr.contains("draining and stopping"), "{}", stopped.stderr);
    assert_eq!(world.traces(), Vec::<String>::new());
    assert!(get(places.http, &places.host, "/").is_err(), "it still answers");
    told
}

/// Starts it and checks what it says.
pub fn up(world: &mut World, folder: &Path, arguments: &[&str], expected: Expected) -> Told {
    let words = arguments.iter().map(PathBuf::from).chain([folder.to_owned()]);
    let platform = world.up(words);
    // Two outputs are read by two threads, so the one may be ahead of the other.
    until("the last line of the result", || platform.stdout().contains("helix scale"));
    let said = platform.stdout();
    let places = world.places(folder);
    let by_name = format!("http://{}:{}", places.host, places.http.port());
    for expected in ["hello is up".to_owned(), by_name, places.tcp.to_string()] {
        assert!(said.contains(&expected), "{expected:?} is missing:\n{said}");
    }
    assert_eq!(!places.tcp.ip().is_loopback(), expected.own_address, "{said}");
    let row = |name: &str| {
        let mut rows = said.lines().filter_map(|line| line.strip_prefix(name));
        rows.next().unwrap_or_default().trim().to_owned()
    };
    let told =
        Told { isolation: row("isolation "), advice: row("advice "), limited: row("limited ") };
    let level = format!("{} (", expected.isolation);
    assert!(told.isolation.starts_with(&level), "{said}");
    assert_eq!(told.limited.is_empty(), expected.own_address, "{said}");
    if !expected.own_address {
        assert!(told.limited.contains(&places.tcp.to_string()), "{said}");
    }
    told
}

fn second_terminal(world: &World, folder: &Path, expected: Expected) {
    let places = world.places(folder);
    assert!(page(&places).contains(OLD));
    let status = world.json(folder, ["status"]);
    assert_eq!(status["processes"][0]["ready"], 1, "{status:#}");
    let node = world.json(folder, ["nodes", "list"])["items"][0].clone();
    assert_eq!(node["current"]["facts"]["isolation"], expected.isolation, "{node:#}");
    let doctor = world.helix_in(folder, ["doctor"]).ok();
    let isolates = format!("isolates as {}: ", expected.isolation);
    assert!(doctor.stdout.contains(&isolates), "{}", doctor.stdout);

    assert_eq!(get(places.http, &places.host, "/no-such-page").unwrap().status, 404);
    until("the request to be in the log", || {
        world.helix_in(folder, ["logs"]).ok().stdout.contains("/no-such-page")
    });

    // The image holds one program, which is the binary itself.
    let version = world.helix_in(folder, ["exec", "--", "/helix", "version"]).ok();
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
    world.helix_in(folder, ["exec", "web-1", "--", "/helix", "no-such-command"]).code_is(2);
    world.helix_in(folder, ["exec", "--", "/no/such/program"]).code_is(255);

    world.helix_in(folder, ["scale", "web=2"]).ok();
    let status = world.json(folder, ["status"]);
    assert_eq!(status["processes"][0]["ready"], 2, "{status:#}");
    assert!(page(&places).contains(OLD));

    let path = folder.join("public/index.html");
    let edited = std::fs::read_to_string(&path).unwrap().replace(OLD, NEW);
    std::fs::write(&path, edited).unwrap();
    let deployed = world.helix_in(folder, ["deploy"]).ok();
    assert!(deployed.stdout.contains("is running v2"), "{}", deployed.stdout);
    let level = format!("{} (", expected.isolation);
    assert!(deployed.stdout.contains(&level), "{}", deployed.stdout);
    // From either instance, whichever the edge asks.
    for _ in 0..4 {
        assert!(page(&places).contains(NEW));
    }
}

/// The page by host name, which must be the page by address too.
pub fn page(places: &Places) -> String {
    let by_name = get(places.http, &places.host, "/").expect("an answer by host name");
    let by_address = get(places.tcp, "anything", "/").expect("an answer by address");
    assert_eq!((by_name.status, by_address.status), (200, 200), "{by_name:?} {by_address:?}");
    assert_eq!(by_name.body, by_address.body);
    by_name.body
}
