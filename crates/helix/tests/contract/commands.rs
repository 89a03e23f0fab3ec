//! Every command there is: its help, and its two forms of output when it works
//! and when it does not.

use std::collections::BTreeSet;

use crate::desk::{Desk, PROGRAM, is_documented, is_told};
use crate::world::http::ask;
use crate::world::{Output, Setup, World, until};

/// One command, a way to make it work and a way to make it fail.
struct Case {
    path: &'static str,
    good: &'static [&'static str],
    bad: &'static [&'static str],
    /// The exit code of the bad one.
    code: i32,
}

const fn case(
    path: &'static str,
    good: &'static [&'static str],
    bad: &'static [&'static str],
    code: i32,
) -> Case {
    Case { path, good, bad, code }
}

/// In an order in which each finds what it needs.
const CASES: &[Case] = &[
    case("deploy", &[], &["no-such-folder"], 2),
    case("rollback", &[], &["--to", "v99"], 4),
    case("diff", &[], &["--release", "v99"], 4),
    case("releases diff", &["v1", "v2"], &["v1", "v99"], 4),
    case("releases promote", &["v1"], &["v99"], 4),
    case("scale", &["web=2"], &["web=many"], 2),
    case("env set", &["GREETING=hello"], &["lower=1"], 2),
    case("env unset", &["GREETING"], &["GREETING", "--process", "none"], 2),
    case("env list", &[], &["--env", "Not_a_name"], 2),
    case("env ipv4 disable", &[], &["--env", "Not_a_name"], 2),
    case("resize", &["web", "--memory", "96Mi"], &["web"], 2),
    case("status", &[], &["--env", "Not_a_name"], 2),
    case("secrets confirm", &["--none"], &[], 2),
    case("secrets set", &["--from-arguments", "A=1"], &["A=1"], 2),
    case("secrets list", &[], &["--of", "99"], 4),
    case("secrets render", &[], &["--from", "no-such-file"], 2),
    case("secrets status", &[], &["--env", "Not_a_name"], 2),
    case("logs", &[], &["--instance", "web-99"], 4),
    case("top", &["--once"], &["--limit", "0"], 2),
    case("events", &[], &["--subject", "app/nothing"], 4),
    case("exec", &["--", PROGRAM, "say"], &["--", "/no/such/program"], 255),
    case("tunnels reserve", &["demo"], &["nothing"], 4),
    case("tunnels disable", &["demo", "--reason", "it is a phish"], &["demo"], 2),
    case("tunnels enable", &["demo"], &["nothing"], 4),
    case("tunnels rotate", &["demo"], &["nothing"], 4),
    case("registries list", &[], &["--org", "nobody"], 4),
    case("certificates trust", &[], &["--url", "http://127.0.0.1:1"], 6),
    case("policy set", &["--require-digest", "false"], &[], 2),
    case("quotas set", &["apps=100"], &["apps=many"], 2),
    case("usage", &["--since", "1d"], &["--since", "yesterday"], 2),
    case("describe", &["app/tool"], &["app/nothing"], 4),
    case("wait", &["env/production"], &["env/nothing"], 4),
    case("audit verify", &[], &["--no-such-flag"], 2),
    case("admin verify-state", &[], &["--no-such-flag"], 2),
    case("admin keys rotate", &[], &["--no-such-flag"], 2),
    case("admin keys retire", &[], &["--no-such-flag"], 2),
    case("admin retention", &["--run"], &["--no-such-flag"], 2),
    case("audit list", &[], &["--limit", "0"], 2),
    case("auth status", &[], &["--url", "http://127.0.0.1:1"], 6),
    case("replicas list", &[], &["--url", "http://127.0.0.1:1"], 6),
    case("builds list", &[], &["--no-such-flag"], 2),
    case("builds logs", &["b1"], &["b99"], 4),
    case("validate", &[], &["no-such.toml"], 2),
    case("explain", &["not_found"], &["no_such_code"], 4),
    case("doctor", &[], &["--url", "http://127.0.0.1:1"], 1),
    case("completion", &["bash"], &["csh"], 2),
    case("version", &[], &["--no-such-flag"], 2),
];

/// Each has the same three verbs.
const KINDS: &[(&str, &str)] = &[
    ("orgs", "default"),
    ("projects", "default"),
    ("apps", "tool"),
    ("envs", "production"),
    ("releases", "v1"),
    ("deploys", "d1"),
    ("instances", ""),
    ("endpoints", "http"),
    ("bundles", "secrets"),
    ("volumes", "data"),
    ("nodes", ""),
    ("edges", ""),
    ("users", "alice"),
    ("members", "alice"),
    ("tokens", "ci"),
    ("domains", "example.com"),
    ("tunnels", "demo"),
];

/// Kinds that are made and destroyed by name; see `tenancy.rs`.
const OWNED: &[&str] = &["orgs", "projects", "apps", "envs"];

/// What does not end by itself, cannot be run twice, or changes what the next one
/// finds; each has a test of its own. `auth token` is another word for `tokens`.
const ELSEWHERE: &[&str] = &[
    "apply",
    "env ipv4 enable",
    "up",
    "server",
    "node",
    "edge",
    "ready",
    "admin export",
    "admin import",
    "audit export",
    "auth login",
    "auth logout",
    "auth password",
    "auth setup",
    "auth token list",
    "auth token describe",
    "auth token events",
    "auth token create",
    "auth token revoke",
    "users create",
    "users setup",
    "users operator",
    "users remove",
    "members set",
    "volumes create",
    "volumes resize",
    "volumes backups",
    "volumes destroy",
    "volumes restore",
    "volumes clone",
    "snapshots create",
    "snapshots list",
    "snapshots describe",
    "snapshots events",
    "snapshots destroy",
    "certificates add",
    "certificates list",
    "certificates describe",
    "certificates events",
    "certificates destroy",
    "domains add",
    "domains verify",
    "domains vouch",
    "domains destroy",
    "tunnels delete",
    "tunnels run",
    "http",
    "tls",
    "tcp",
    "udp",
    "endpoints expose",
    "endpoints update",
    "endpoints unexpose",
    "registries add",
    "registries remove",
    "secrets unset",
    "secrets import",
    "secrets rollback",
    "secrets apply",
    "secrets discard",
    "nodes cordon",
    "nodes uncordon",
    "nodes drain",
    "nodes destroy",
    "edges destroy",
    "members remove",
    "tokens create",
    "tokens revoke",
];

/// Results of these are one document per line.
const STREAMS: &[&str] = &["logs", "exec"];

/// Every command and subcommand that help shows, groups left out.
fn shown(world: &World) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut groups = vec![String::new()];
    while let Some(group) = groups.pop() {
        let help = help(world, &group).stdout;
        let below: Vec<String> = names(&help).map(|name| format!("{group} {name}")).collect();
        if below.is_empty() {
            found.insert(group.trim().to_owned());
        }
        groups.extend(below);
    }
    found
}

fn help(world: &World, path: &str) -> Output {
    world.helix(path.split_whitespace().chain(["--help"])).ok()
}

/// The first words of the lines below `Commands:`.
fn names(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        // Continued descriptions are further in.
        let name = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?;
        name.split_whitespace().next()
    })
}

#[test]
fn every_command_has_a_case_and_help() {
    let world = World::new(Setup::default());
    let shown = shown(&world);
    let mut covered: BTreeSet<String> = CASES.iter().map(|case| case.path.to_owned()).collect();
    covered.extend(ELSEWHERE.iter().map(|path| (*path).to_owned()));
    for (kind, _) in KINDS {
        covered.extend(["list", "describe", "events"].map(|verb| format!("{kind} {verb}")));
    }
    for kind in OWNED {
        covered.extend(["create", "destroy"].map(|verb| format!("{kind} {verb}")));
    }
    assert_eq!(shown, covered, "left: what help shows; right: what is tested here");
    for path in &shown {
        let help = help(&world, path);
        assert_eq!(help.stderr, "", "{path}");
        for part in ["Usage: helix ", "Examples:\n", "--json"] {
            assert!(help.stdout.contains(part), "{path}: no `{part}` in\n{}", help.stdout);
        }
        assert!(!help.stdout.contains('\u{1b}'), "{path}");
        let first = help.stdout.lines().next().unwrap_or_default();
        assert!(first.len() > 10, "{path} says what it does: {first:?}");
    }
    let short = world.helix(["-h"]).ok();
    assert!(short.stdout.contains("Commands:"), "{}", short.stdout);
    let version = world.helix(["--version"]).ok();
    assert_eq!(version.stdout, format!("helix {}\n", env!("CARGO_PKG_VERSION")));
}

/// What newcomers type first.
#[test]
fn help_as_a_word_is_help() {
    let world = World::new(Setup::default());
    let help = world.helix(["help"]).ok();
    assert_eq!(help.stdout, world.helix(["--help"]).stdout);
    let help = world.helix(["help", "deploy"]).ok();
    assert_eq!(help.stdout, world.helix(["deploy", "--help"]).stdout);
    let nothing: [&str; 0] = [];
    let bare = world.helix(nothing).code_is(2);
    assert!(bare.stderr.contains("Commands:"), "{}", bare.stderr);
}

#[test]
fn every_command_keeps_its_word_in_both_forms() {
    let desk = Desk::with_app();
    desk.run(&["deploy"]).ok();
    desk.run(&["volumes", "create", "data", "--size", "1Gi"]).ok();
    desk.run(&["users", "create", "alice"]).ok();
    desk.run(&["members", "set", "alice", "--role", "developer"]).ok();
    desk.run(&["domains", "add", "example.com"]).ok();
    have_tunnel(&desk, "demo");
    desk.run(&["tokens", "create", "ci", "--service", "--scope", "apps:read"]).ok();
    for case in CASES {
        let path: Vec<&str> = case.path.split_whitespace().collect();
        check(&desk, &path, case.good, case.bad, case.code);
    }
    // What was scaled, rolled back and given new secrets has settled, so that what is
    // listed is still there when it is described: ready is not enough, old instances may
    // still be on their way out.
    desk.run(&["wait", "env/production", "--for", "reconciling=false"]).ok();
    let first = |kind: &str| {
        let listed = desk.json(&[kind, "list"]);
        listed["items"][0]["name"].as_str().unwrap_or_default().to_owned()
    };
    for (kind, name) in KINDS {
        let found = first(kind);
        let name = if name.is_empty() { found.as_str() } else { *name };
        check(&desk, &[kind, "list"], &[], &["--limit", "0"], 2);
        check(&desk, &[kind, "describe"], &[name], &["nothing-of-that-name"], 4);
        check(&desk, &[kind, "events"], &[name], &["nothing-of-that-name"], 4);
    }
}

fn check(desk: &Desk, path: &[&str], good: &[&str], bad: &[&str], code: i32) {
    let streams = STREAMS.contains(&path[0]);
    let line = |form: &[&str], rest: &[&str]| -> Vec<String> {
        [path, form, rest].concat().into_iter().map(str::to_owned).collect()
    };
    let run = |form: &[&str], rest: &[&str]| {
        let line = line(form, rest);
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        desk.run(&words)
    };
    let people = run(&[], good).ok();
    assert!(!people.stdout.trim().is_empty(), "{path:?} has a result");
    assert!(!people.stdout.starts_with('{'), "{path:?} is for people: {}", people.stdout);

    let scripts = run(&["--json"], good).ok();
    if streams {
        let lines = scripts.lines();
        assert!(!lines.is_empty(), "{path:?}");
        for line in lines {
            assert!(line["type"].is_string() && line["ts"].is_string(), "{path:?}: {line}");
        }
    } else {
        assert!(scripts.document().is_object(), "{path:?}: {}", scripts.stdout);
    }

    let people = run(&[], bad).code_is(code);
    let scripts = run(&["--json"], bad).code_is(code);
    // Checks that fail are the result of the doctor, not a failure of it.
    if path == ["doctor"] {
        assert!(people.stdout.contains("hint: "), "{}", people.stdout);
        assert_eq!(scripts.document()["ok"], false);
        return;
    }
    is_told(&people, path);
    is_documented(&scripts.document(), code, path);
    assert_eq!(scripts.stdout.lines().count() == 1, streams, "{path:?}: {}", scripts.stdout);
}

#[test]
fn a_volume_is_made_grown_and_destroyed() {
    let desk = Desk::with_app();
    let make = ["volumes", "create", "data", "--size", "1Gi"];
    desk.run(&make).ok();
    is_told(&desk.run(&make).code_is(5), &make);
    desk.run(&["volumes", "resize", "data", "--size", "2Gi"]).ok();
    let volume = desk.json(&["volumes", "describe", "data"]);
    assert_eq!(volume["desired"]["size_bytes"], 2_u64 << 30, "{volume:#}");
    desk.run(&["volumes", "destroy", "data", "--yes"]).ok();
    desk.run(&["volumes", "describe", "data"]).code_is(4);
}

#[test]
fn snapshots_are_refused_where_there_is_nothing_to_take() {
    let desk = Desk::with_app();
    desk.run(&["volumes", "create", "data", "--size", "1Gi"]).ok();
    let take = ["snapshots", "create", "data"];
    let refused = desk.run(&take).code_is(5);
    is_told(&refused, &take);
    assert!(refused.stderr.contains("has no data yet"), "{}", refused.stderr);
    let take = ["volumes", "clone", "data", "--as", "copy"];
    is_told(&desk.run(&take).code_is(5), &take);
    let restore = ["volumes", "restore", "none", "--as", "copy"];
    is_told(&desk.run(&restore).code_is(4), &restore);
    assert_eq!(desk.json(&["snapshots", "list"])["items"].as_array().map(Vec::len), Some(0));
    for verb in ["describe", "events"] {
        is_told(&desk.run(&["snapshots", verb, "none"]).code_is(4), &["snapshots", verb]);
    }
    let destroy = ["snapshots", "destroy", "none", "--yes"];
    is_told(&desk.run(&destroy).code_is(4), &destroy);
}

#[test]
fn a_certificate_is_added_renewed_and_destroyed() {
    let desk = Desk::with_app();
    let file = |name: &str| desk.world.work().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (file("own.pem"), file("own.key"));
    let make = || {
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "20", "-subj", "/CN=own", "-out", &cert, "-keyout", &key])
            .args(["-addext", "subjectAltName=DNS:www.example.com,DNS:*.example.com"])
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    make();
    let add = ["certificates", "add", "--cert", &cert, "--key", &key];
    let added = desk.json(&add);
    assert_eq!(added["target"], "default/www-example-com", "{added:#}");
    assert_eq!(added["certificate"]["current"]["phase"], "valid", "{added:#}");
    make();
    let renewed = desk.run(&add).ok();
    assert!(renewed.stdout.contains("*.example.com"), "{}", renewed.stdout);
    let listed = desk.run(&["certificates", "list"]).ok();
    assert!(listed.stdout.contains("in 19d"), "{}", listed.stdout);
    let events = desk.run(&["certificates", "events", "www-example-com"]).ok();
    assert!(events.stdout.contains("certificate.replaced"), "{}", events.stdout);
    let wrong = ["certificates", "add", "--cert", &key, "--key", &cert];
    is_told(&desk.run(&wrong).code_is(2), &wrong);
    let missing = ["certificates", "add", "--cert", "no-such-file", "--key", &key];
    is_told(&desk.run(&missing).code_is(2), &missing);
    desk.run(&["certificates", "destroy", "www-example-com", "--yes"]).ok();
    is_told(&desk.run(&["certificates", "describe", "www-example-com"]).code_is(4), &[]);
}

#[test]
fn a_domain_is_added_vouched_for_and_destroyed() {
    let desk = Desk::with_app();
    let add = ["domains", "add", "Example.com."];
    let told = desk.run(&add).ok();
    for part in ["_helix.example.com", "helix-domain=dom_", "helix domains verify"] {
        assert!(told.stdout.contains(part), "no `{part}` in {}", told.stdout);
    }
    let added = desk.json(&add);
    assert_eq!(added["target"], "default/example-com", "{added:#}");
    assert_eq!(added["record"]["name"], "_helix.example.com", "{added:#}");
    let wrong = ["domains", "add", "*.example.com"];
    is_told(&desk.run(&wrong).code_is(2), &wrong);
    // Nobody answers at this port.
    let verify = ["domains", "verify", "example.com"];
    is_told(&desk.run(&verify).code_is(6), &verify);
    is_told(&desk.run(&["domains", "vouch", "none.example"]).code_is(4), &["domains", "vouch"]);
    let vouched = desk.run(&["domains", "vouch", "example.com"]).ok();
    assert!(vouched.stdout.contains("is the org's"), "{}", vouched.stdout);
    desk.run(&verify).ok();
    desk.run(&["wait", "domain/example.com"]).ok();
    let listed = desk.run(&["domains", "list"]).ok();
    assert!(listed.stdout.contains("operator"), "{}", listed.stdout);
    desk.run(&["domains", "destroy", "example.com", "--yes"]).ok();
    is_told(&desk.run(&["domains", "describe", "example.com"]).code_is(4), &["domains"]);
}

/// A tunnel that nobody offers anything by.
fn have_tunnel(desk: &Desk, name: &str) {
    let address = desk.url().trim_start_matches("http://").parse().unwrap();
    let headers = [("Authorization", format!("Bearer {}", desk.token()))];
    let body = serde_json::json!({ "requested_name": name }).to_string();
    let made = ask(address, "POST", "/tunnels/create", &headers, &body).unwrap();
    assert_eq!(made.status, 201, "{}", made.body);
}

#[test]
fn a_tunnel_is_waited_for_reserved_and_given_up() {
    let desk = Desk::with_app();
    have_tunnel(&desk, "demo");
    let wait = ["wait", "tunnel/demo", "--timeout", "1s"];
    is_told(&desk.run(&wait).code_is(6), &wait);
    desk.run(&["wait", "tunnel/demo", "--for", "connected=false"]).ok();
    desk.run(&["tunnels", "reserve", "demo"]).ok();
    let listed = desk.run(&["tunnels", "list"]).ok();
    assert!(listed.stdout.contains("for good"), "{}", listed.stdout);
    let disable = ["tunnels", "disable", "demo", "--reason", "it is a phish"];
    desk.run(&disable).ok();
    let wait = ["wait", "tunnel/demo"];
    assert!(desk.run(&wait).code_is(1).stderr.contains("it is a phish"));
    is_told(&desk.run(&["tunnels", "delete", "demo"]).code_is(2), &["tunnels", "delete"]);
    desk.run(&["tunnels", "delete", "demo", "--yes"]).ok();
    is_told(&desk.run(&["tunnels", "describe", "demo"]).code_is(4), &["tunnels", "describe"]);
    let deleted = desk.run(&["tunnels", "delete", "demo", "--yes"]).code_is(4);
    is_told(&deleted, &["tunnels", "delete"]);
    for verb in ["describe", "events", "reserve", "enable", "rotate"] {
        let line = ["tunnels", verb, "nothing"];
        is_told(&desk.run(&line).code_is(4), &line);
    }
    let disable = ["tunnels", "disable", "nothing", "--reason", "it is a phish"];
    is_told(&desk.run(&disable).code_is(4), &disable);
    is_told(&desk.run(&disable[..3]).code_is(2), &disable);
    let delete = ["tunnels", "delete", "nothing", "--yes"];
    is_told(&desk.run(&delete).code_is(4), &delete);
    let run = ["tunnels", "run", "nothing.toml"];
    is_told(&desk.run(&run).code_is(2), &run);
}

#[test]
fn an_installation_is_exported_and_imported() {
    let desk = Desk::with_app();
    let path = |name: &str| desk.world.work().join(name).to_str().unwrap().to_owned();
    let verdict = desk.json(&["audit", "verify"]);
    assert_eq!(verdict["intact"], true, "{verdict:#}");
    let file = path("installation.helix");
    let exported = desk.json(&["admin", "export", "--output", &file]);
    assert!(exported["bytes"].as_u64().unwrap() > 1000, "{exported:#}");
    let exists = desk.run(&["admin", "export", "--output", &file, "--json"]).code_is(5);
    is_documented(&exists.document(), 5, &["admin", "export"]);
    let nowhere = desk.run(&["admin", "export", "--json"]).code_is(2);
    is_documented(&nowhere.document(), 2, &["admin", "export"]);
    let piped = desk.world.command(&desk.folder).args(["admin", "export"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout.starts_with(b"HLXDUMP1"));

    let other = path("other");
    let moved = desk.json(&["admin", "import", &file, "--data-dir", &other]);
    assert!(moved["events"].as_u64().unwrap() > 5, "{moved:#}");
    assert!(moved["receipts"].as_u64().unwrap() >= 1, "{moved:#}");
    let again = desk.run(&["admin", "import", &file, "--data-dir", &other, "--json"]).code_is(5);
    is_documented(&again.document(), 5, &["admin", "import"]);
    let text = path("text");
    std::fs::write(&text, "not an export").unwrap();
    let state = path("state.json");
    std::fs::write(&state, r#"{"schema_version":"v1","orgs":[{"name":"acme"}]}"#).unwrap();
    let third = path("third");
    let made = desk.json(&["admin", "import", "--state", &state, "--data-dir", &third]);
    assert_eq!(made["events"], 3, "installation, org, first project: {made:#}");
    std::fs::write(&state, r#"{"schema_version":"v1","orgs":[{"name":"Acme"}]}"#).unwrap();
    let wrong = ["admin", "import", "--state", &state, "--data-dir", &path("fourth"), "--json"];
    let refused = is_documented(&desk.run(&wrong).code_is(2).document(), 2, &wrong);
    assert!(refused["detail"].as_str().unwrap().contains("orgs[0].name: "), "{refused:#}");
    let refused = desk.run(&["admin", "import", &text, "--data-dir", &other]).code_is(2);
    is_told(&refused, &["admin", "import"]);
}

#[test]
fn up_prints_one_document_however_it_ends() {
    let mut world = World::new(Setup::default());
    let folder = world.copy_example("hello");
    world.up([folder.as_os_str(), "--json".as_ref()]);
    // The two streams are read side by side: what was said first may be seen last.
    let landed = || serde_json::from_str::<serde_json::Value>(&world.platform().stdout()).ok();
    until("the document to be read", || landed().is_some());
    let landed = landed().unwrap();
    assert_eq!(landed["target"], "default/default/hello@production", "{landed:#}");
    assert!(landed["isolation"]["kind"].is_string(), "{landed:#}");
    assert!(landed["reachable"][0].is_string(), "{landed:#}");
    let ended = world.interrupt().ok();
    assert_eq!(ended.document(), landed, "nothing comes after it");
    assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.stderr);

    world.launch(["no-such-folder", "--json"]);
    let refused = world.wait_for_end().code_is(2);
    is_documented(&refused.document(), 2, &["up"]);
    world.launch(["no-such-folder"]);
    is_told(&world.wait_for_end().code_is(2), &["up"]);

    // Beside one that runs: the ports and the data are taken.
    world.up::<&str>([]);
    let mut second = world.command(world.work());
    second.arg("up").arg("--data-dir").arg(world.data());
    second.args(["--listen", "127.0.0.1:0", "--http-port", "0", "--json"]);
    let refused = crate::world::platform::Platform::spawn(second).wait().code_is(5);
    is_documented(&refused.document(), 5, &["up"]);
    world.helix(["status"]).ok();
}
