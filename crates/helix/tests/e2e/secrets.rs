//! Secrets from the keyboard to the program and nowhere else: planted values are
//! used in every way there is and then looked for in everything that is written,
//! said or shown.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::packs::compile;
use crate::world::http::{ask, get};
use crate::world::platform::Platform;
use crate::world::{Output, Places, Setup, World, can_isolate, traces, until};

/// Answers every request with its secrets, as they are by then.
const SERVER: &str = r#"
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(getenv("PORT")))};
    int listener = socket(AF_INET6, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) return 1;
    for (;;) {
        static char request[4096], body[300000], head[256];
        int visitor = accept(listener, 0, 0);
        if (read(visitor, request, sizeof request) > 0) {
            const char *path = getenv("HELIX_SECRETS_FILE");
            struct stat about = {0};
            struct rlimit core = {1, 1};
            ssize_t length = 0;
            getrlimit(RLIMIT_CORE, &core);
            if (path) {
                stat(path, &about);
                length = snprintf(body, sizeof body, "%s %o %d %d core=%lu\n", path, about.st_mode & 0777,
                                  about.st_uid, getuid(), (unsigned long)core.rlim_max);
                int file = open(path, O_RDONLY);
                ssize_t more = read(file, body + length, sizeof body - length);
                length += more > 0 ? more : 0;
                close(file);
            }
            int size = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zd\r\nConnection: close\r\n\r\n", length);
            (void)!write(visitor, head, size);
            (void)!write(visitor, body, length);
        }
        close(visitor);
    }
}
"#;

const MANIFEST: &str = r#"
schema_version = "v1"
[app]
name = "vault"
[secrets]
required = true
[processes.web]
ports = [{ name = "http", internal = 8080 }]
resources = { memory = "64Mi" }
user = "1234:1234"
stop_grace_seconds = 1
"#;

/// What is planted. None is found by accident.
const PLAIN: &str = "pl4nted-plain-6f1f5ac1d3";
const LATER: &str = "pl4nted-later-91b0c7e2aa";
const LINES: &str = "pl4nted-lines-d0d0\nsecond-l1ne-77fe21";
const WRONG: &str = "pl4nted-wrong-c3ab6610f9";
const ARGUMENT: &str = "pl4nted-argument-5b7d20";

struct Desk {
    world: World,
    folder: PathBuf,
    /// All that any command said.
    said: String,
}

impl Desk {
    fn open() -> Desk {
        let world = World::start::<&str>([]);
        let folder = world.work().join("vault");
        fs::create_dir(&folder).unwrap();
        compile(&folder, "server", SERVER, &["-static"]);
        fs::write(folder.join("helix.toml"), MANIFEST).unwrap();
        Desk { world, folder, said: String::new() }
    }

    fn helix(&mut self, args: &[&str]) -> Output {
        self.helix_with(args, "")
    }

    /// A command with something to read.
    fn helix_with(&mut self, args: &[&str], input: &str) -> Output {
        let mut command = self.world.command(&self.folder);
        let command = command.args(args).stdin(Stdio::piped());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that refuses its arguments does not read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let output = Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        };
        self.said.push_str(&output.stdout);
        self.said.push_str(&output.stderr);
        output
    }

    fn places(&self) -> Places {
        self.world.places(&self.folder)
    }

    /// What the program reads.
    fn served(&self) -> String {
        let places = self.places();
        get(places.http, &places.host, "/").map(|page| page.body).unwrap_or_default()
    }

    fn serves(&self, text: &str) {
        until(&format!("{} is served", text.len()), || self.served().contains(text));
    }
}

#[test]
fn a_secret_reaches_its_program_and_nothing_else() {
    if !can_isolate("a_secret_reaches_its_program_and_nothing_else") {
        return;
    }
    let mut desk = Desk::open();
    let refused = desk.helix(&["deploy"]).code_is(5);
    assert!(refused.stderr.contains("secrets_missing"), "{}", refused.stderr);
    set_in_every_way(&mut desk);
    desk.helix(&["deploy"]).ok();
    let served = desk.served();
    let (about, file) = served.split_once('\n').unwrap();
    assert_eq!(about, "/run/secrets/platform.env 400 1234 1234 core=0");
    assert!(file.starts_with("# HELIX_SECRETS_V1\n"), "{}", file.len());
    assert!(file.contains(&format!("\nPLAIN={PLAIN}\n")) && file.contains("\nLINES=base64:"));
    assert!(!served.contains(WRONG));

    // A rotation replaces the instance, a rollback brings the values back.
    desk.helix_with(&["secrets", "set", "PLAIN"], LATER).ok();
    desk.serves(LATER);
    desk.helix(&["secrets", "rollback"]).ok();
    desk.serves(PLAIN);
    let staged = ["secrets", "set", "PLAIN", "--stage"];
    desk.helix_with(&staged, LATER).ok();
    assert!(desk.served().contains(PLAIN));
    desk.helix(&["secrets", "apply"]).ok();
    desk.serves(LATER);

    look_around(&mut desk);
    desk.helix(&["admin", "keys", "rotate"]).ok();
    desk.helix(&["secrets", "rollback"]).ok();
    desk.serves(PLAIN);
    nothing_is_found(&desk, "while it runs");
    survive(&mut desk);
    nothing_is_found(&desk, "after a crash");

    desk.helix(&["admin", "export", "--output", "everything.helix"]).ok();
    let export = fs::read(desk.folder.join("everything.helix")).unwrap();
    assert_eq!(found_in(&export), None, "in the export");
    // What is destroyed takes its secrets along.
    let instances = traces::instances(&desk.world.data());
    assert!(!traces::kept_in_memory(&instances).is_empty(), "the node keeps nothing");
    desk.helix(&["envs", "destroy", "production", "--yes"]).ok();
    until("the node to forget", || traces::kept_in_memory(&instances).is_empty());
}

/// A part of the platform in a process of its own, ended with the test.
struct Part(Option<Platform>);

impl Part {
    /// Starts it and waits until it says this.
    fn start(mut command: Command, args: &[&str], says: &str) -> Part {
        command.args(args);
        let part = Part(Some(Platform::spawn(command)));
        until(says, || part.0.as_ref().is_some_and(|it| it.said().contains(says)));
        part
    }

    fn kill(&mut self) {
        if let Some(platform) = self.0.take() {
            platform.signal(Signal::SIGKILL);
            platform.wait();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(platform) = self.0.take() {
            platform.end();
        }
    }
}

#[test]
fn a_linked_node_fetches_secrets_and_restarts_programs_without_its_server() {
    if !can_isolate("a_linked_node_fetches_secrets_and_restarts_programs_without_its_server") {
        return;
    }
    let mut world = World::new(Setup::default());
    let folder = world.work().join("vault");
    fs::create_dir(&folder).unwrap();
    compile(&folder, "server", SERVER, &["-static"]);
    fs::write(folder.join("helix.toml"), MANIFEST).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap().to_string();
    drop(free);
    let (url, data) = (format!("http://{listen}"), world.home().join("server"));
    let data = data.to_str().unwrap();
    let server = ["server", "--data-dir", data, "--listen", &listen];
    let mut server = Part::start(world.command(world.work()), &server, "Ctrl-C stops it");
    let token = fs::read_to_string(format!("{data}/token")).unwrap();
    for (name, value) in
        [("HELIX_URL", url.as_str()), ("HELIX_TOKEN", token.trim()), ("HELIX_ENV", "production")]
    {
        world.set_variable(name, value);
    }
    let at = world.data();
    let node = ["node", "--server", &url, "--data-dir", at.to_str().unwrap()];
    let node = Part::start(world.command(world.work()), &node, "linked to");
    let argument = format!("PLAIN={PLAIN}");
    world.helix_in(&folder, ["secrets", "set", "--from-arguments", &argument]).ok();
    world.helix_in(&folder, ["deploy", "--no-wait"]).ok();
    world.helix_in(&folder, ["wait", "deploy/d1", "--timeout", "60s"]).ok();
    let listed = world.json(&folder, ["instances", "list"]);
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let reads = |id: &str| {
        let pid = traces::workload_pid(&world.data(), id)?;
        let file = fs::read_to_string(format!("/proc/{pid}/root/run/secrets/platform.env")).ok()?;
        file.contains(PLAIN).then_some(pid)
    };
    let before = reads(&id).expect("the program has its secrets");
    server.kill();
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    until("the program to be back with its secrets", || {
        reads(&id).is_some_and(|pid| pid != before)
    });
    for_each_file(&world.data(), &mut |path, bytes| {
        assert_eq!(found_in(bytes), None, "in {}", path.display());
    });
    drop(node);
}

/// By standard input, file, import and argument; and every wrong way, too.
fn set_in_every_way(desk: &mut Desk) {
    desk.helix_with(&["secrets", "set", "PLAIN"], &format!("{PLAIN}\n")).ok();
    fs::write(desk.folder.join("lines"), LINES).unwrap();
    desk.helix(&["secrets", "set", "LINES", "--file", "lines"]).ok();
    fs::remove_file(desk.folder.join("lines")).unwrap();
    let file = format!("# HELIX_SECRETS_V1\nOTHER={LATER}\n");
    desk.helix_with(&["secrets", "import"], &file).ok();
    let argument = format!("ARGUMENT={ARGUMENT}");
    let refused = desk.helix(&["secrets", "set", &argument]).code_is(2);
    assert!(refused.stderr.contains("as an argument"), "{}", refused.stderr);
    desk.helix(&["secrets", "set", "--from-arguments", &argument]).ok();
    desk.helix(&["secrets", "unset", "ARGUMENT"]).ok();
    for wrong in [
        format!("{WRONG}\n"),
        format!("# HELIX_SECRETS_V1\n{WRONG}\n"),
        format!("# HELIX_SECRETS_V1\n{WRONG}=\n"),
        format!("# HELIX_SECRETS_V1\nA={WRONG}\nA={WRONG}\n"),
        format!("# HELIX_SECRETS_V1\nA=base64:{WRONG}\n"),
    ] {
        desk.helix_with(&["secrets", "import", "--json"], &wrong).code_is(2);
        desk.helix_with(&["secrets", "render", "--from", "-"], &wrong).code_is(2);
    }
    desk.helix_with(&["secrets", "set", "bad-key"], WRONG).code_is(2);
    send_garbage(desk);
}

/// Bodies that the command line would not send.
fn send_garbage(desk: &mut Desk) {
    let context = desk.world.home().join("config/helix/context.json");
    let context: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(context).unwrap()).unwrap();
    let url = context["url"].as_str().unwrap();
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    let token = format!("Bearer {}", context["token"].as_str().unwrap());
    let path = "/v1/envs/default%2Fdefault%2Fvault@production/secrets";
    for body in [
        format!("{{\"values\": \"{WRONG}\"}}"),
        format!("{{\"values\": {{\"A\": {{\"{WRONG}\": 1}}}}}}"),
        format!("{{\"values\": {{\"{WRONG}\": \"x\"}}}}"),
        format!("{{\"{WRONG}\": 1}}"),
        WRONG.to_owned(),
    ] {
        let headers = [("Authorization", token.clone())];
        let reply = ask(address, "PATCH", path, &headers, &body).unwrap();
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.body.contains("invalid_argument"), "{}", reply.body);
        desk.said.push_str(&reply.body);
    }
}

/// Everything that shows something.
fn look_around(desk: &mut Desk) {
    for line in [
        &["secrets", "list"][..],
        &["secrets", "status", "--json"],
        &["secrets", "render"],
        &["secrets", "render", "--of", "1", "--json"],
        &["describe", "bundle/secrets"],
        &["describe", "env/production"],
        &["status", "--json"],
        &["events", "--json"],
        &["audit", "export", "--all"],
        &["instances", "list", "--json"],
        &["logs"],
        &["admin", "verify-state"],
        &["audit", "verify"],
    ] {
        desk.helix(line).ok();
    }
    let asked = desk.said.clone();
    assert!(asked.contains("deliver_secrets"), "deliveries are not in the audit trail");
    assert!(asked.contains("bundle.version_added"), "versions are not among the events");
}

/// The program dies; then the platform is killed, comes back, and the program
/// dies again.
fn survive(desk: &mut Desk) {
    kill_program(desk);
    desk.serves(PLAIN);
    desk.world.kill();
    desk.world.up::<&str>([]);
    desk.serves(PLAIN);
    kill_program(desk);
    desk.serves(PLAIN);
}

fn kill_program(desk: &Desk) {
    let instances = desk.world.json(&desk.folder, ["instances", "list"]);
    let id = instances["items"][0]["id"].as_str().unwrap();
    let pid = traces::workload_pid(&desk.world.data(), id).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until("the program to die", || !traces::is_alive(pid));
}

/// Every planted value, in every form that a careless writer may give it.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = Vec::new();
    let pieces = LINES.split('\n');
    for value in [PLAIN, LATER, WRONG, ARGUMENT].into_iter().chain(pieces) {
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.push((value, value.as_bytes().to_vec()));
        forms.push((value, hex.into_bytes()));
        // Base64 of text depends on where in a group of three it begins; the middle
        // of each shift is the same wherever it stands.
        for shift in 0..3 {
            let padded = [&b"xx"[..shift], value.as_bytes()].concat();
            let encoded = base64(&padded);
            forms.push((value, encoded[4..encoded.len() - 4].to_vec()));
        }
    }
    forms
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        [18, 12, 6, 0].map(|shift| LETTERS[(bits >> shift & 63) as usize])
    };
    bytes.chunks(3).flat_map(group).collect()
}

fn found_in(bytes: &[u8]) -> Option<&'static str> {
    let has = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
    forms().into_iter().find(|(_, form)| has(form)).map(|(value, _)| value)
}

#[track_caller]
fn nothing_is_found(desk: &Desk, when: &str) {
    let platform = desk.world.platform();
    for (what, text) in [("a command", &desk.said), ("`helix up`", &platform.said())] {
        assert_eq!(found_in(text.as_bytes()), None, "said by {what} {when}");
    }
    let mut count = 0;
    for folder in [desk.world.data(), desk.world.home(), desk.world.work()] {
        for_each_file(&folder, &mut |path, bytes| {
            count += 1;
            assert_eq!(found_in(bytes), None, "in {} {when}", path.display());
        });
    }
    assert!(count > 20, "only {count} files were looked at");
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let environ = fs::read(process.path().join("environ")).unwrap_or_default();
        let name = process.file_name();
        assert_eq!(found_in(&words), None, "an argument of {name:?} {when}");
        assert_eq!(found_in(&environ), None, "a variable of {name:?} {when}");
    }
    let pid = platform.pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(5), Some("0"), "{core}");
}

/// Every regular file, links not followed.
fn for_each_file(folder: &Path, look: &mut dyn FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            for_each_file(&entry.path(), look);
        } else if kind.is_file() {
            look(&entry.path(), &fs::read(entry.path()).unwrap_or_default());
        }
    }
}
