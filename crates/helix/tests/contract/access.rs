//! A person from their first day to their last: made, logged in, at work, shut
//! out, and all of it in the trail.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::desk::Desk;
use crate::world::platform::Platform;

const PASSWORD: &str = "correct-horse-battery";
const DEADLINE: Duration = Duration::from_secs(30);

/// Posts a form as a browser does that runs no scripts; the status line.
fn post(desk: &Desk, path: &str, form: &str) -> String {
    let url = desk.url();
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {url}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// The code that a waiting login tells its user.
fn wait_for_code(login: &Platform) -> String {
    let begun = Instant::now();
    loop {
        let said = login.stderr();
        if let Some((_, rest)) = said.split_once("?code=")
            && let Some((code, _)) = rest.split_once('\n')
        {
            return code.trim().to_owned();
        }
        assert!(begun.elapsed() < DEADLINE, "no code was told: {}", login.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_in_trail(desk: &Desk, is_it: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let page = desk.json(&["audit", "list", "--limit", "200"]);
        if let Some(found) = page["items"].as_array().unwrap().iter().find(|it| is_it(it)) {
            return found.clone();
        }
        assert!(begun.elapsed() < DEADLINE, "not in the trail: {page:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_person_is_let_in_works_and_is_shut_out_again() {
    let desk = Desk::empty();
    let made = desk.json(&["users", "create", "alice"]);
    let code = made["setup_code"].as_str().unwrap();
    let form = format!("name=alice&code={code}&password={PASSWORD}&again={PASSWORD}");
    assert!(post(&desk, "/setup", &form).contains(" 200 "));
    desk.run(&["members", "set", "alice", "--role", "developer"]).ok();

    let config = desk.world.work().join("alice");
    let url = desk.url();
    let alice = [("XDG_CONFIG_HOME", config.to_str().unwrap()), ("HELIX_URL", url.as_str())];
    let mut command = desk.world.command(&desk.folder);
    command.args(["auth", "login", "--client", "laptop", "--json"]).envs(alice);
    let login = Platform::spawn(command);
    let code = wait_for_code(&login);
    let form = format!("code={code}&name=alice&password={PASSWORD}&verdict=approve");
    assert!(post(&desk, "/device", &form).contains(" 200 "), "{}", login.said());
    let logged_in = login.wait().ok();
    assert_eq!(logged_in.document()["who"]["actor"]["id"], "alice");
    assert!(!logged_in.stdout.contains("hx_at_"), "the token is kept, not shown");
    let kept = config.join("helix/context.json");
    assert_eq!(std::fs::metadata(kept).unwrap().permissions().mode() & 0o777, 0o600);

    let status = desk.run_with(&alice, &["auth", "status", "--json"]).ok().document();
    assert_eq!(status["who"]["token"], "laptop");
    desk.run_with(&alice, &["apps", "list"]).ok();
    let refused = desk.run_with(&alice, &["nodes", "list"]).code_is(3);
    assert!(refused.stderr.contains("nodes:admin"), "{}", refused.stderr);

    let listed = desk.json(&["tokens", "list"]);
    assert_eq!(listed["items"][0]["path"], "alice/laptop");
    desk.run(&["tokens", "revoke", "alice/laptop"]).ok();
    let refused = desk.run_with(&alice, &["apps", "list"]).code_is(3);
    assert!(refused.stderr.contains("revoked"), "{}", refused.stderr);

    let late = wait_in_trail(&desk, |it| it["reason"] == "revoked_token");
    assert_eq!(
        (late["actor"]["id"].as_str(), late["decision"].as_str()),
        (Some("alice"), Some("deny"))
    );
    assert!(late["source"].is_string() && late["token"].is_string(), "{late:#}");
    wait_in_trail(&desk, |it| it["operation"] == "approve_login" && it["decision"] == "allow");
    wait_in_trail(&desk, |it| it["operation"] == "token.revoked" && it["actor"]["id"] == "admin");
    let export = desk.run(&["audit", "export", "--json"]).ok();
    assert!(export.lines().iter().any(|line| line["reason"] == "revoked_token"));

    desk.run_with(&alice, &["auth", "logout"]).ok();
    let gone = desk.run_with(&alice, &["auth", "logout"]).code_is(5);
    assert!(gone.stderr.contains("nobody is logged in"), "{}", gone.stderr);
    desk.run(&["users", "remove", "alice"]).ok();
    assert_eq!(desk.json(&["users", "list"])["items"], serde_json::json!([]));
}
