//! What a deploy depends on besides its programs: a release command that runs once, and
//! what runs in each instance before its program.

use std::path::{Path, PathBuf};

use crate::packs::compile;
use crate::world::http::get;
use crate::world::{Output, World, can_isolate};

/// A server that answers with its version and what it finds prepared; as `server migrate`
/// and `server prepare` it says what it does, and ends with the code it is told.
const SERVER: &str = r#"
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "migrate")) {
        printf("migrating to %s as %d\n", getenv("RELEASE"), getuid());
        return atoi(getenv("CODE"));
    }
    if (argc > 1 && !strcmp(argv[1], "prepare")) {
        FILE *file = fopen("/prepared", "w");
        if (!file || fputs(", prepared", file) < 0 || fclose(file)) return 99;
        puts("preparing");
        return atoi(getenv("CODE"));
    }
    char prepared[64] = "";
    FILE *file = fopen("/prepared", "r");
    if (file) (void)!fread(prepared, 1, sizeof prepared - 1, file);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(getenv("PORT")))};
    int listener = socket(AF_INET6, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) return 1;
    for (;;) {
        char request[4096], answer[256];
        int visitor = accept(listener, 0, 0);
        int size = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s%s", getenv("RELEASE"), prepared);
        if (read(visitor, request, sizeof request) > 0) (void)!write(visitor, answer, size);
        close(visitor);
    }
}
"#;

fn write_manifest(folder: &Path, release: &str, code: i32, more: &str) {
    let user = if more == PREPARING { "" } else { "user = \"1234\"" };
    let text = format!(
        r#"schema_version = "v1"
[app]
name = "shop"
[processes.web]
{user}
vars = {{ RELEASE = "{release}", CODE = "{code}" }}
ports = [{{ name = "http", internal = 8080 }}]
resources = {{ memory = "64Mi" }}
stop_grace_seconds = 1
{more}
"#
    );
    std::fs::write(folder.join("helix.toml"), text).unwrap();
}

/// The app's folder, and what it serves once it is deployed.
struct Shop {
    world: World,
    folder: PathBuf,
}

impl Shop {
    fn open() -> Shop {
        let world = World::start::<&str>([]);
        let folder = world.work().join("shop");
        std::fs::create_dir(&folder).unwrap();
        compile(&folder, "server", SERVER, &["-static"]);
        Shop { world, folder }
    }

    fn helix<const N: usize>(&self, args: [&str; N]) -> Output {
        self.world.helix_in(&self.folder, args)
    }

    fn served(&self) -> String {
        let places = self.world.places(&self.folder);
        get(places.http, &places.host, "/").unwrap().body
    }

    /// All that release commands have printed.
    fn migrations(&self) -> String {
        self.helix(["logs", "--process", "release"]).ok().stdout
    }
}

const MIGRATING: &str = "[deploy]\nrelease_command = [\"/app/server\", \"migrate\"]";
const PREPARING: &str = "prestart = [\"/app/server\", \"prepare\"]";

#[test]
fn a_release_command_runs_once_before_anything_is_replaced_and_can_stop_the_deploy() {
    if !can_isolate("a_release_command_runs_once_before_anything_is_replaced") {
        return;
    }
    let shop = Shop::open();
    write_manifest(&shop.folder, "one", 0, MIGRATING);
    let deployed = shop.helix(["deploy"]).ok();
    assert!(deployed.stderr.contains("release-1  done"), "{}", deployed.stderr);
    assert_eq!(shop.served(), "one");
    assert_eq!(
        shop.migrations().matches("migrating to one as 1234").count(),
        1,
        "{}",
        shop.migrations()
    );

    write_manifest(&shop.folder, "two", 3, MIGRATING);
    let refused = shop.helix(["deploy", "--json"]);
    assert_ne!(refused.code, 0);
    let error = refused.document()["error"].clone();
    assert_eq!(error["reason"], "release_command_failed", "{error:#}");
    let said = error.to_string();
    assert!(said.contains("exited with code 3") && said.contains("v1 keeps serving"), "{said}");
    assert!(said.contains("migrating to two"), "what it said last is told: {said}");
    assert_eq!(shop.served(), "one");

    write_manifest(&shop.folder, "three", 0, MIGRATING);
    shop.helix(["deploy"]).ok();
    assert_eq!(shop.served(), "three");
    let deploy = shop.world.json(&shop.folder, ["deploys", "describe", "d3"]);
    assert_eq!(deploy["current"]["release_command"]["exit"]["code"], 0, "{deploy:#}");
    shop.helix(["rollback"]).ok();
    assert_eq!(shop.served(), "one");
    assert_eq!(
        shop.migrations().matches("migrating").count(),
        3,
        "a rollback runs none: {}",
        shop.migrations()
    );
    let instances = shop.world.json(&shop.folder, ["instances", "list"]);
    let left = instances["items"].as_array().unwrap();
    assert!(left.iter().all(|it| it["desired"]["process"] != "release"), "{instances:#}");
}

#[test]
fn a_program_starts_when_what_runs_before_it_has_ended_well() {
    if !can_isolate("a_program_starts_when_what_runs_before_it_has_ended_well") {
        return;
    }
    let shop = Shop::open();
    write_manifest(&shop.folder, "one", 0, PREPARING);
    shop.helix(["deploy"]).ok();
    assert_eq!(shop.served(), "one, prepared");

    write_manifest(&shop.folder, "two", 4, PREPARING);
    let refused = shop.helix(["deploy", "--json"]);
    assert_ne!(refused.code, 0);
    let error = refused.document()["error"].clone();
    assert_eq!(error["reason"], "prestart_failed", "{error:#}");
    let said = error.to_string();
    assert!(said.contains("`/app/server` exited with code 4"), "{said}");
    assert!(said.contains("preparing"), "what it said last is told: {said}");
    assert_eq!(shop.served(), "one, prepared", "the old one keeps serving");
}
