//! Where settings come from: flag, `HELIX_*` variable, `helix.toml`, context;
//! and where the token does not go.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::desk::{Desk, is_told};
use crate::world::platform::Platform;
use crate::world::{Setup, World, until};

#[test]
fn flag_then_variable_then_manifest_then_context() {
    let desk = Desk::empty();
    let target = |variables: &[(&str, &str)], words: &[&str]| {
        let output = desk.run_with(variables, &[&["status", "--json"], words].concat()).ok();
        output.document()["target"].as_str().unwrap().to_owned()
    };
    assert_eq!(target(&[], &[]), "default/default/tool@production");
    let variables =
        [("HELIX_ORG", "o1"), ("HELIX_PROJECT", "p1"), ("HELIX_APP", "a1"), ("HELIX_ENV", "e1")];
    assert_eq!(target(&variables, &[]), "o1/p1/a1@e1");
    let flags = ["--org", "o2", "--project", "p2", "--app", "a2", "--env", "e2"];
    assert_eq!(target(&variables, &flags), "o2/p2/a2@e2");
    // An empty variable is none.
    assert_eq!(target(&[("HELIX_ENV", "")], &[]), "default/default/tool@production");
    // Global flags may stand before the command as well.
    let output = desk.run(&["--json", "--env", "e3", "status"]).ok();
    assert_eq!(output.document()["target"], "default/default/tool@e3");

    let url = desk.url();
    let away = [("HELIX_URL", "http://127.0.0.1:1")];
    desk.run_with(&away, &["apps", "list"]).code_is(6);
    // The flag names the context's own API again, which gets its token.
    desk.run_with(&away, &["apps", "list", "--url", &url]).ok();
    desk.run_with(&[("HELIX_TOKEN", "hlx_wrong")], &["apps", "list"]).code_is(3);
    desk.run_with(&[("HELIX_TOKEN", desk.token()), ("HELIX_URL", &url)], &["apps", "list"]).ok();

    // Diagnostics are no results, and have no secrets.
    let loud = desk.run_with(&[("HELIX_LOG", "trace")], &["apps", "list", "--json"]).ok();
    assert!(loud.document()["items"].is_array());
}

#[test]
fn a_token_may_come_from_a_file_that_only_who_needs_it_reads() {
    let desk = Desk::empty();
    let (url, file) = (desk.url(), desk.world.work().join("token"));
    let shown = file.to_str().unwrap();
    let elsewhere = desk.world.work().join("no-config");
    let elsewhere = elsewhere.to_str().unwrap();
    let reach = [("XDG_CONFIG_HOME", elsewhere), ("HELIX_URL", &url), ("HELIX_TOKEN_FILE", shown)];
    let list = ["apps", "list"];
    let refused = desk.run_with(&reach, &list).code_is(5);
    is_told(&refused, &list);
    assert!(refused.stderr.contains(shown), "{}", refused.stderr);
    desk.run_with(&reach, &["explain", "not_found"]).ok();
    std::fs::write(&file, "\n").unwrap();
    is_told(&desk.run_with(&reach, &list).code_is(2), &list);
    std::fs::write(&file, format!("{}\n", desk.token())).unwrap();
    desk.run_with(&reach, &list).ok();
    // What is said outright goes before.
    let wrong = [&reach[..], &[("HELIX_TOKEN", "hlx_wrong")]].concat();
    desk.run_with(&wrong, &list).code_is(3);
}

#[test]
fn a_process_that_stays_says_whether_it_is_ready() {
    let desk = Desk::empty();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = port.to_string();
    let ready = ["ready", &port];
    is_told(&desk.run(&ready).code_is(6), &ready);
    is_told(&desk.run(&["ready"]).code_is(2), &["ready"]);
    is_told(&desk.run(&["ready", "0.0.0.0:1"]).code_is(2), &["ready"]);
    let at = [("HELIX_READY", port.as_str())];
    // Nothing is told by what does not stay.
    desk.run_with(&at, &["apps", "list"]).ok();
    let mut command = desk.world.command(desk.world.work());
    command.args(["server", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(desk.world.work().join("another")).env("HELIX_READY", &port);
    let server = Platform::spawn(command);
    until("the server to be ready", || desk.run_with(&at, &["ready"]).code == 0);
    assert_eq!(desk.json(&ready)["ready"], true);
    let taken = desk.run_with(&at, &["server", "--listen", "127.0.0.1:0"]).code_is(5);
    assert!(taken.stderr.contains("HELIX_READY"), "{}", taken.stderr);
    server.end();
    desk.run(&ready).code_is(6);
}

#[test]
fn the_env_is_never_guessed() {
    let desk = Desk::empty();
    // Elsewhere, where no context was ever saved.
    let elsewhere = desk.world.work().join("no-config");
    let (elsewhere, url) = (elsewhere.to_str().unwrap(), desk.url());
    let reach =
        [("XDG_CONFIG_HOME", elsewhere), ("HELIX_URL", &url), ("HELIX_TOKEN", desk.token())];
    for words in
        [&["status"] as &[&str], &["deploy"], &["scale", "web=1"], &["logs"], &["rollback"]]
    {
        let refused = desk.run_with(&reach, words).code_is(2);
        is_told(&refused, words);
        assert!(refused.stderr.contains("--env"), "{}", refused.stderr);
    }
    desk.run_with(&reach, &["status", "--env", "production"]).ok();
    desk.run_with(&reach, &["apps", "list"]).ok();
}

#[test]
fn the_token_goes_to_its_own_api_only() {
    let desk = Desk::empty();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", stranger.local_addr().unwrap());
    let heard = std::thread::spawn(move || {
        let (mut visitor, _) = stranger.accept().unwrap();
        let mut request = vec![0; 8192];
        let read = visitor.read(&mut request).unwrap();
        visitor.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    let refused = desk.run_with(&[("HELIX_URL", &url)], &["apps", "list"]);
    assert_ne!(refused.code, 0);
    let request = heard.join().unwrap();
    assert!(request.starts_with("GET /v1/apps"), "{request}");
    assert!(!request.contains(desk.token()), "{request}");
}

#[test]
fn secrets_on_disk_are_their_owners() {
    let desk = Desk::empty();
    for path in ["data/token", "home/config/helix/context.json"] {
        let path = desk.world.work().parent().unwrap().join(path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    let command = std::fs::read(format!("/proc/{}/cmdline", desk.world.platform().pid())).unwrap();
    assert!(!String::from_utf8_lossy(&command).contains(desk.token()));
    let said = desk.world.platform().said();
    assert!(!said.contains(desk.token()), "{said}");
}

#[test]
fn the_data_directory_is_chosen_the_same_way() {
    let world = World::new(Setup::default());
    let [named, given] = ["named", "given"].map(|name| world.work().join(name));
    let mut command = world.command(world.work());
    command.env("HELIX_DATA_DIR", &named).args(["up", "--listen", "127.0.0.1:0"]);
    command.args(["--http-port", "0", "--json", "--data-dir"]).arg(&given);
    let platform = crate::world::platform::Platform::spawn(command);
    crate::world::until("the platform to be up", || platform.stderr().contains("Ctrl-C"));
    let document: serde_json::Value = serde_json::from_str(&platform.stdout()).unwrap();
    platform.end();
    assert_eq!(document["data_dir"], given.to_str().unwrap());
    assert!(given.join("token").exists() && !named.exists());

    let mut command = world.command(world.work());
    command.env("HELIX_DATA_DIR", &named).args(["up", "--listen", "127.0.0.1:0"]);
    let platform = crate::world::platform::Platform::spawn({
        command.args(["--http-port", "0"]);
        command
    });
    crate::world::until("the platform to be up", || platform.stderr().contains("Ctrl-C"));
    platform.end();
    assert!(named.join("token").exists());
}

#[test]
fn servers_that_share_a_database_are_not_left_to_archive_each_for_itself() {
    let mut world = World::new(Setup::default());
    world.set_variable("HELIX_TOKEN", "hx_test_token");
    let words = ["server", "--database-url", "postgres://127.0.0.1:1/none", "--keep-events", "90d"];
    let refused = world.helix(words).code_is(2);
    is_told(&refused, &words);
    assert!(refused.stderr.contains("--archive s3://"), "{}", refused.stderr);
    // With one it gets as far as the database.
    let variable = [words.as_slice(), &["--archive", "s3://history/prod"]].concat();
    let unreachable = world.helix(variable);
    assert_ne!(unreachable.code, 2, "{}", unreachable.stderr);
}
