//! A Docker engine of the test's own, by `cargo xtask engine`; it ends when this is dropped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::world::xtask;

/// A running engine, and what it has to build upon.
pub struct Engine {
    chore: Child,
    client: String,
    /// As `DOCKER_HOST` has it.
    pub host: String,
    /// A base for static programs.
    pub base: String,
    /// A shell with all of busybox.
    pub busybox: String,
}

impl Engine {
    pub fn start() -> Engine {
        let mut command = xtask::command(&["engine"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut chore = command.spawn().expect("run cargo xtask engine");
        let mut line = String::new();
        let mut output = BufReader::new(chore.stdout.take().expect("its output is piped"));
        output.read_line(&mut line).expect("read what the engine says");
        let said: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the engine does not start: {error}: `{line}`"));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Engine {
            chore,
            client: text(&said["client"]),
            host: text(&said["host"]),
            base: text(&said["images"]["base"]),
            busybox: text(&said["images"]["busybox"]),
        }
    }

    /// What `docker` with these words prints; it must succeed.
    pub fn docker(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.client);
        self.meant(&mut command);
        run(command.args(words))
    }

    /// Makes a command talk to this engine and no other.
    pub fn meant<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("DOCKER_HOST", &self.host).env("DOCKER_BUILDKIT", "0");
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_CONFIG")
    }

    /// One answer about a container or an image.
    pub fn ask(&self, subject: &str, format: &str) -> String {
        self.docker(&["inspect", "--format", format, subject])
    }

    pub fn image_bytes(&self, image: &str) -> u64 {
        self.ask(image, "{{.Size}}").parse().expect("a size")
    }

    /// Whose the process of a container is, as the machine sees it.
    pub fn user_of(&self, container: &str) -> String {
        let pid = self.ask(container, "{{.State.Pid}}");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let users = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its users");
        users.split_whitespace().next().expect("a user").to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.chore.stdin.take());
        let _ = self.chore.wait();
    }
}

/// What a command prints; it must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("start a program");
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {said}{printed}");
    printed.trim_end().to_owned()
}
