//! Streams: one document per line for as long as somebody reads.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::desk::Desk;
use crate::world::DEADLINE;
use crate::world::http::get;

/// A command that goes on until it is dropped.
struct Following {
    process: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(desk: &Desk, words: &[&str]) -> Following {
        let mut command: Command = desk.world.command(&desk.folder);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("run helix");
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Nobody waits for more once the test has what it wants.
                let _ = sender.send(line);
            }
        });
        Following { process, lines }
    }

    /// Reads on until a line is as asked for; all must be stream lines.
    #[track_caller]
    fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut heard = Vec::new();
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("{error}; heard {heard:#?}"));
            let value: Value = serde_json::from_str(&line).expect("a document per line");
            assert!(value["type"].is_string() && value["ts"].is_string(), "{value}");
            if wanted(&value) {
                return value;
            }
            heard.push(line);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn events_are_followed_line_by_line() {
    let desk = Desk::with_app();
    let all = Following::start(&desk, &["events", "-f", "--tail", "100", "--json"]);
    let one = Following::start(&desk, &["apps", "events", "tool", "-f", "--tail", "100", "--json"]);
    all.until(|line| line["type"] == "deploy.created");
    one.until(|line| line["type"] == "app.created");
    desk.run(&["scale", "web=2"]).ok();
    let scaled =
        all.until(|line| line["type"] == "instance.allocated" && line["data"]["name"] == "web-2");
    assert!(scaled["position"].as_u64() > Some(0), "{scaled}");
}

#[test]
fn logs_are_followed_line_by_line() {
    let desk = Desk::with_app();
    let logs = Following::start(&desk, &["logs", "-f", "--json"]);
    let line = logs.until(|line| line["line"] == "listening");
    assert_eq!((&line["stream"], &line["instance"]), (&"stdout".into(), &"web-1".into()));
    // The next instance's lines come without asking again.
    desk.run(&["scale", "web=2"]).ok();
    logs.until(|line| line["line"] == "listening" && line["instance"] == "web-2");
}

/// `helix logs | head -1`
#[test]
fn a_reader_who_leaves_ends_the_stream_quietly() {
    let desk = Desk::with_app();
    for words in [&["logs"] as &[&str], &["events"], &["explain"], &["completion", "bash"]] {
        let mut command = desk.world.command(&desk.folder);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("run helix");
        drop(process.stdout.take());
        let output = process.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        assert!(output.status.success(), "{words:?}: {}", output.status);
    }
    let places = desk.world.places(&desk.folder);
    assert_eq!(get(places.http, &places.host, "/").unwrap().body, "tool\n");
}

#[test]
fn progress_is_beside_the_result() {
    let desk = Desk::empty();
    let deployed = desk.run(&["deploy"]).ok();
    for step in ["sending the image", "deploying to", "web-1  ready"] {
        assert!(deployed.stderr.contains(step), "{step:?}: {}", deployed.stderr);
        assert!(!deployed.stdout.contains(step), "{step:?}: {}", deployed.stdout);
    }
    assert!(deployed.stdout.contains("is running v1"), "{}", deployed.stdout);
    assert!(!deployed.stderr.contains("is running"), "{}", deployed.stderr);
}

/// Standard input that stays open and never says anything: whoever asked a
/// question would wait for ever.
#[test]
fn nothing_is_asked_without_a_terminal() {
    let desk = Desk::with_app();
    for words in [
        &["scale", "web=0"] as &[&str],
        &["deploy"],
        &["scale", "web=1", "--no-input"],
        &["rollback", "--yes"],
    ] {
        let mut command = desk.world.command(&desk.folder);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().expect("run helix");
        let input = process.stdin.take();
        let mut ended = None;
        crate::world::until("the command to end without an answer", || {
            ended = process.try_wait().unwrap();
            ended.is_some()
        });
        assert!(ended.unwrap().success(), "{words:?}");
        drop(input);
    }
}
