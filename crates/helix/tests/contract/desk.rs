//! A desk with a running platform and a small app of our own making.
//!
//! Everything typed goes through [`Desk::run`], which checks what no command may
//! ever do: print the token, or drive a terminal that is not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::world::platform::Platform;
use crate::world::{Output, World};

/// A server for `$PORT` that is also a command: `tool exit N` ends with N, and
/// `tool say` speaks on both streams. Pages other than `/` are refused, which
/// makes a health check fail for as long as one likes.
const TOOL: &str = r#"
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void answer(int visitor) {
    char request[4096] = {0};
    if (read(visitor, request, sizeof request - 1) <= 0) return;
    int known = strncmp(request, "GET / ", 6) == 0;
    const char *status = known ? "200 OK" : "503 Not Today";
    dprintf(visitor, "HTTP/1.1 %s\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntool\n", status);
}

int main(int count, char **words) {
    if (count > 2 && strcmp(words[1], "exit") == 0) return atoi(words[2]);
    if (count > 1 && strcmp(words[1], "say") == 0) {
        puts("out");
        fputs("err\n", stderr);
        return 0;
    }
    int port = atoi(getenv("PORT"));
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int listener = socket(AF_INET6, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) return 1;
    puts("listening");
    fflush(stdout);
    for (;;) {
        int visitor = accept(listener, 0, 0);
        answer(visitor);
        close(visitor);
    }
}
"#;

/// The manifest of the app, which is healthy at once.
pub const MANIFEST: &str = r#"schema_version = "v1"
[app]
name = "tool"
[processes.web]
resources = { memory = "64Mi" }
ports = [{ name = "http", internal = 8080 }]
health = { type = "http", path = "/", interval_seconds = 1 }
"#;

/// Where the pack puts the program.
pub const PROGRAM: &str = "/app/tool";

/// A platform, and the folder of an app to type in.
pub struct Desk {
    pub world: World,
    /// The folder with the app's manifest and program.
    pub folder: PathBuf,
    token: String,
}

impl Desk {
    /// A platform in which nothing is deployed.
    pub fn empty() -> Desk {
        let world = World::start::<&str>([]);
        let token = std::fs::read_to_string(world.data().join("token")).expect("read the token");
        let folder = world.work().join("tool");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("helix.toml"), MANIFEST).unwrap();
        compile(&folder);
        Desk { folder, token: token.trim().to_owned(), world }
    }

    /// A platform that runs the app.
    pub fn with_app() -> Desk {
        let desk = Desk::empty();
        desk.run(&["deploy"]).ok();
        desk
    }

    /// A command in the app's folder.
    pub fn run(&self, words: &[&str]) -> Output {
        self.run_in(&self.folder, &[], words)
    }

    /// A command in the app's folder, with these environment variables.
    pub fn run_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Output {
        self.run_in(&self.folder, variables, words)
    }

    /// A command anywhere.
    pub fn run_in(&self, directory: &Path, variables: &[(&str, &str)], words: &[&str]) -> Output {
        let mut command = self.world.command(directory);
        command.args(words).envs(variables.iter().copied());
        // Which gives up on one that does not end.
        let output = Platform::spawn(command).wait();
        self.holds_always(words, &output);
        output
    }

    /// The document of a command that must succeed.
    pub fn json(&self, words: &[&str]) -> Value {
        self.run(&[words, &["--json"]].concat()).ok().document()
    }

    /// The API's address.
    pub fn url(&self) -> String {
        let context = self.world.home().join("config/helix/context.json");
        let context: Value = serde_json::from_slice(&std::fs::read(context).unwrap()).unwrap();
        context["url"].as_str().unwrap().to_owned()
    }

    /// Who may do everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    fn holds_always(&self, words: &[&str], output: &Output) {
        for text in [&output.stdout, &output.stderr] {
            assert!(!text.contains('\u{1b}'), "escape codes without a terminal: {words:?}\n{text}");
            assert!(!text.contains(&self.token), "the token is shown: {words:?}\n{text}");
        }
    }
}

/// Asserts that this is a failure as people see it.
#[track_caller]
pub fn is_told(output: &Output, what: &[&str]) {
    assert_eq!(output.stdout, "", "{what:?}: a failure is no result");
    for part in ["error: ", "hint: "] {
        assert!(output.stderr.contains(part), "{what:?}: no `{part}` in\n{}", output.stderr);
    }
}

/// Asserts that this is a failure as scripts see it; the `error` of it.
#[track_caller]
pub fn is_documented(document: &Value, code: i32, what: &[&str]) -> Value {
    let error = &document["error"];
    assert_eq!(error["exit_code"], code, "{what:?}: {document:#}");
    for member in ["code", "title", "detail", "hint"] {
        let text = error[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{what:?}: no `{member}` in {document:#}");
    }
    assert!(error["retryable"].is_boolean(), "{what:?}: {document:#}");
    error.clone()
}

fn compile(folder: &Path) {
    let source = folder.with_extension("c");
    std::fs::write(&source, TOOL).unwrap();
    let output = Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .arg(folder.join("tool"))
        .arg(&source)
        .output()
        .expect("run cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
