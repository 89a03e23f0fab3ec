//! What the validator accepts and what it says about the rest.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::manifest::Check;

const HEAD: &str = "schema_version = \"v1\"\n";

fn check(text: &str, expected: Expect) {
    let said = match parse(&format!("{HEAD}{text}")) {
        Ok(_) => "ok".to_owned(),
        Err(error) => error
            .flaws
            .iter()
            .map(|flaw| format!("{}:{} {}: {}\n", flaw.line, flaw.column, flaw.field, flaw.message))
            .collect(),
    };
    expected.assert_eq(&said);
}

#[test]
fn the_smallest_manifest_gets_every_default() {
    let manifest =
        parse(&format!("{HEAD}[processes.web]\nports = [{{ internal = 8080 }}]")).unwrap();
    let web = &manifest.processes[&literal("web")];
    assert_eq!(web.resources.memory_bytes, 256 << 20);
    assert_eq!(web.ports[0].name.as_str(), "p8080");
    assert_eq!(web.health.as_ref().unwrap().check, Check::Tcp);
    assert_eq!(
        manifest.endpoints.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(),
        ["http", "tcp-80"]
    );
}

#[test]
fn the_built_in_words_are_names() {
    for word in ["web", "http", "tcp-80"] {
        assert!(word.parse::<Name>().is_ok());
    }
    assert_eq!(parse_with_defaults(8080).processes.len(), 1);
}

#[test]
fn env_settings_reach_each_process_and_the_process_wins() {
    let text = "[env]\nuser = \"app\"\nvars = { A = \"1\", B = \"1\" }\n\
                [processes.worker]\nvars = { B = \"2\" }\n";
    let manifest = parse(&format!("{HEAD}{text}")).unwrap();
    let worker = &manifest.processes[&literal("worker")];
    assert_eq!(worker.vars["A"], "1");
    assert_eq!(worker.vars["B"], "2");
    assert_eq!(worker.user.as_deref(), Some("app"));
    assert!(manifest.endpoints.is_empty());
}

#[test]
fn every_flaw_is_found_and_placed() {
    check(
        "[processes.web]\nresources = { memory = \"1mb\", cpu = 0.0 }\n\
         ports = [{ internal = 80, protocol = \"udp\" }]\n\
         health = { type = \"http\" }\nscaling = { min = 3, max = 1 }\n",
        expect![[r#"
            4:27 processes.web.ports[0].protocol: only "tcp" so far
            5:1 processes.web.health: type = "http" needs a path that begins with /
            3:31 processes.web.resources.cpu: more than 0 and at most 32
            3:15 processes.web.resources.memory: `1mb` is not a size; write it as 256Mi or 1Gi
            6:22 processes.web.scaling.max: less than min
        "#]],
    );
}

#[test]
fn a_command_tells_health_with_or_without_a_port() {
    let text = "[processes.worker]\nhealth = { type = \"exec\", command = [\"/check\"] }\n";
    let manifest = parse(&format!("{HEAD}{text}")).unwrap();
    let health = manifest.processes[&literal("worker")].health.clone().unwrap();
    assert_eq!(health.check, Check::Exec { command: vec!["/check".to_owned()] });
    assert_eq!(health.port, None);
    check(
        "[processes.a]\nhealth = { type = \"exec\" }\n\
         [processes.b]\nports = [{ internal = 80 }]\n\
         health = { type = \"exec\", command = [\"/check\"], path = \"/\", port = \"none\" }\n\
         [processes.c]\nhealth = { command = [\"/check\"] }\n",
        expect![[r#"
            3:1 processes.a.health: type = "exec" needs a command, such as ["/bin/check", "--quick"]
            6:49 processes.b.health.path: only with type = "http"
            6:61 processes.b.health.port: names no port of this process
            8:12 processes.c.health.command: only with type = "exec"
            8:1 processes.c.health.port: names no port of this process
        "#]],
    );
}

#[test]
fn a_typo_is_an_error_with_its_place() {
    check(
        "[processes.web]\ncomand = [\"x\"]\n",
        expect![[r#"
            3:1 : unknown field `comand`, expected one of `command`, `workdir`, `user`, `vars`, `resources`, `scaling`, `restart`, `ports`, `health`, `stop_grace_seconds`, `mounts`, `prestart`, `prestart_timeout_seconds`
        "#]],
    );
}

#[test]
fn what_is_deferred_says_what_to_do_instead() {
    check(
        "[processes.web]\n[[volumes]]\nname = \"data\"\n",
        expect![[r#"
            3:3 volumes: not supported yet: keep data in a service outside for now
        "#]],
    );
}

#[test]
fn endpoints_must_lead_somewhere() {
    check(
        "[processes.web]\nports = [{ internal = 80 }]\n[[endpoints]]\nprocess = \"api\"\n\
         [[endpoints]]\nprotocol = \"http\"\nhost = \"*.example.com\"\n",
        expect![[r#"
            5:1 endpoints[0].process: there is no process `api`
            8:1 endpoints[1].host: not a host name
        "#]],
    );
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,200}") {
        let _ = parse(&text);
    }
}
