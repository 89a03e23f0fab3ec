//! A small app of our own making, for what the examples do not show.

use std::path::Path;
use std::process::Command;

/// A server for `$PORT` that is also a command: `tool exit N` ends with N, `tool say`
/// speaks on both streams, and `tool env NAME` prints a variable. Pages other than `/` are refused, which
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
    if (count > 1 && strcmp(words[1], "wait") == 0) for (;;) pause();
    if (count > 1 && strcmp(words[1], "say") == 0) {
        puts("out");
        fputs("err\n", stderr);
        return 0;
    }
    if (count > 2 && strcmp(words[1], "env") == 0) {
        const char *value = getenv(words[2]);
        if (value) puts(value);
        return value == 0;
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

/// Its folder: the manifest and the program.
pub fn write(folder: &Path) {
    std::fs::write(folder.join("helix.toml"), MANIFEST).unwrap();
    compile(folder);
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
