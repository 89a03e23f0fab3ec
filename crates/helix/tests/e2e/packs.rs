//! Folders that are not pages: a static program, and a Dockerfile.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::http::get;
use crate::world::{Setup, World, can_isolate};

/// The smallest server: listens on `$PORT`, answers every connection.
const SERVER: &str = r#"
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    const char *answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nfrom C\n";
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(getenv("PORT")))};
    int listener = socket(AF_INET6, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) return 1;
    for (;;) {
        char request[4096];
        int visitor = accept(listener, 0, 0);
        if (read(visitor, request, sizeof request) > 0) (void)!write(visitor, answer, strlen(answer));
        close(visitor);
    }
}
"#;

#[test]
fn a_folder_with_a_static_program() {
    if !can_isolate("a_folder_with_a_static_program") {
        return;
    }
    let world = World::start::<&str>([]);
    let folder = empty_folder(&world, "small-server");
    compile(&folder, "server", SERVER, &["-static"]);
    let deployed = world.helix_in(&folder, ["deploy"]).ok();
    assert!(
        deployed.stdout.contains("default/default/small-server@production"),
        "{}",
        deployed.stdout
    );
    let places = world.places(&folder);
    assert_eq!(places.host, "small-server.localhost");
    assert_eq!(get(places.http, &places.host, "/").unwrap().body, "from C\n");
    assert_eq!(get(places.tcp, "x", "/").unwrap().body, "from C\n");

    // A program that needs libraries would not start in an empty image; that is
    // said before anything is sent.
    compile(&folder, "server", SERVER, &[]);
    let refused = world.helix_in(&folder, ["deploy", "--json"]);
    let error = refused.code_is(1).document()["error"].clone();
    assert_eq!(error["reason"], "binary_unusable");
    assert!(error["hint"].as_str().unwrap().contains("static"), "{error:#}");
    assert_eq!(get(places.tcp, "x", "/").unwrap().body, "from C\n");
}

#[test]
fn a_folder_with_a_dockerfile() {
    if !can_isolate("a_folder_with_a_dockerfile") {
        return;
    }
    if !can_build() {
        println!("skip a_folder_with_a_dockerfile: no docker engine, buildah or podman works here");
        return;
    }
    let world = World::start::<&str>([]);
    let folder = empty_folder(&world, "built");
    compile(&folder, "server", SERVER, &["-static"]);
    let recipe = "FROM scratch\nCOPY server /bin/server\nENV PORT=8080\nEXPOSE 8080\nCMD [\"/bin/server\"]\n";
    std::fs::write(folder.join("Dockerfile"), recipe).unwrap();
    world.helix_in(&folder, ["deploy"]).ok();
    let places = world.places(&folder);
    assert_eq!(get(places.http, &places.host, "/").unwrap().body, "from C\n");

    std::fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY nothing /\n").unwrap();
    let failed = world.helix_in(&folder, ["deploy", "--json"]).code_is(1);
    assert_eq!(failed.document()["error"]["code"], "build_failed");
    assert!(failed.stderr.contains("nothing"), "the builder's own words: {}", failed.stderr);
    let build = failed.document()["build"].as_str().unwrap().to_owned();
    let said = world.helix_in(&folder, ["builds", "logs", &build]).ok().stdout;
    assert!(said.contains("nothing"), "and they are kept: {said}");
    let builds = world.json(&folder, ["builds", "list"]);
    assert!(builds["items"][0]["end"]["failure"].is_string(), "{builds:#}");
    assert!(builds["items"][1]["end"]["image"].is_string(), "{builds:#}");
    assert_eq!(get(places.http, &places.host, "/").unwrap().body, "from C\n");
}

#[test]
fn a_dockerfile_without_a_builder_says_what_to_install() {
    if !can_isolate("a_dockerfile_without_a_builder_says_what_to_install") {
        return;
    }
    let mut world = World::new(Setup::default());
    let nothing = empty_folder(&world, "nothing");
    world.up::<&str>([]);
    world.set_variable("PATH", &nothing);
    let folder = empty_folder(&world, "built");
    std::fs::write(folder.join("Dockerfile"), "FROM scratch\n").unwrap();
    let refused = world.helix_in(&folder, ["deploy", "--json"]);
    assert_ne!(refused.code, 0);
    let error = refused.document()["error"].clone();
    assert_eq!(error["reason"], "builder_missing", "{error:#}");
    let said = error.to_string();
    assert!(
        ["docker", "buildah", "podman"].iter().all(|builder| said.contains(builder)),
        "{error:#}"
    );
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains("install"), "{hint}");
}

#[test]
fn a_folder_that_is_nothing_says_what_was_looked_for() {
    if !can_isolate("a_folder_that_is_nothing_says_what_was_looked_for") {
        return;
    }
    let world = World::start::<&str>([]);
    let folder = empty_folder(&world, "empty");
    let refused = world.helix_in(&folder, ["deploy"]).code_is(1);
    assert!(refused.stderr.contains("pack_undetected"), "{}", refused.stderr);
    assert!(refused.stderr.contains("index.html"), "{}", refused.stderr);
    assert!(refused.stderr.contains("Dockerfile"), "{}", refused.stderr);
}

fn empty_folder(world: &World, name: &str) -> PathBuf {
    let folder = world.work().join(name);
    std::fs::create_dir(&folder).unwrap();
    folder
}

pub(crate) fn compile(folder: &Path, name: &str, program: &str, flags: &[&str]) {
    let source = folder.with_extension("c");
    std::fs::write(&source, program).unwrap();
    let output = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(folder.join(name))
        .args(flags)
        .arg(&source)
        .output()
        .expect("run cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether something here can build, found out by asking it.
fn can_build() -> bool {
    let works = |program: &str, argument: &str| {
        let tried = Command::new(program).arg(argument).output();
        tried.is_ok_and(|output| output.status.success())
    };
    works("docker", "info") || works("buildah", "info") || works("podman", "info")
}
