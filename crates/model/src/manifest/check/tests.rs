//! What the validator accepts and what it says about the rest.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::manifest::{BackendProtocol, Balance, Check, Exposure, ProxyProtocol, RestartPolicy};

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
            5:1 processes.web.health: type = "http" needs a path that begins with /
            5:1 processes.web.health.port: names no TCP port of this process
            6:22 processes.web.scaling.max: less than min
            3:31 processes.web.resources.cpu: more than 0 and at most 32
            3:15 processes.web.resources.memory: `1mb` is not a size; write it as 256Mi or 1Gi
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
            8:1 processes.c.health.port: names no TCP port of this process
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
fn endpoints_say_how_they_are_reached_and_what_they_lead_to() {
    let text = "[processes.dns]\nports = [\n  { internal = 53 },\n  \
                { name = \"asked\", internal = 53, protocol = \"udp\" },\n]\n\
                [[endpoints]]\nprocess = \"dns\"\nprotocol = \"udp\"\nlisten_port = 53\n\
                [[endpoints]]\nprocess = \"dns\"\nprotocol = \"tls\"\nhost = \"Dot.example\"\n\
                [[endpoints]]\nprocess = \"dns\"\nprotocol = \"tls\"\nhost = \"a.example\"\nlisten_port = 853\n\
                proxy_protocol = \"v2\"\nbackend_expects_proxy_protocol = true\n\
                balance = \"least_connections\"\nmax_connections = 100\nmax_per_second = 7\n\
                [[endpoints]]\nprocess = \"dns\"\nprotocol = \"http\"\nmax_body = \"10Mi\"\nmax_header_bytes = 8192\nbackend_protocol = \"h2c\"\n";
    let manifest = parse(&format!("{HEAD}{text}")).unwrap();
    let ports: Vec<_> =
        manifest.endpoints.iter().map(|it| (it.name.as_str(), it.port.as_str())).collect();
    assert_eq!(ports, [("udp-53", "asked"), ("tls", "p53"), ("tls-853", "p53"), ("http", "p53")]);
    let host = "dot.example".to_owned();
    assert_eq!(manifest.endpoints[1].exposure, Exposure::Tls { host, listen_port: None });
    assert_eq!(manifest.endpoints[2].handling.proxy_protocol, Some(ProxyProtocol::V2));

    assert_eq!(manifest.endpoints[2].handling.balance, Balance::LeastConnections);
    assert_eq!(manifest.endpoints[2].handling.max_connections, Some(100));
    assert_eq!(manifest.endpoints[2].handling.max_per_second, Some(7));
    let handling = manifest.endpoints[3].handling;
    assert_eq!(handling.max_body_bytes, Some(10 << 20));
    assert_eq!(handling.max_header_bytes, Some(8_192));
    assert_eq!(handling.backend_protocol, BackendProtocol::H2c);
    let usual = serde_json::to_string(&manifest.endpoints[1]).unwrap();
    assert!(!usual.contains("balance") && !usual.contains("null"), "old hashes stay: {usual}");

    let datagrams = "[processes.game]\nports = [{ internal = 7777, protocol = \"udp\" }]\n";
    let manifest = parse(&format!("{HEAD}{datagrams}")).unwrap();
    assert_eq!(manifest.endpoints, [], "what takes datagrams only is not reached by HTTP");
    let health = manifest.processes[&literal("game")].health.clone().unwrap();
    assert_eq!(health.check, Check::Udp);
}

#[test]
fn endpoints_that_cannot_be_are_told() {
    check(
        "[processes.web]\nports = [{ internal = 80 }]\n\
         [[endpoints]]\nprotocol = \"udp\"\nlisten_port = 53\n\
         [[endpoints]]\nprotocol = \"tls\"\n\
         [[endpoints]]\nprotocol = \"sctp\"\nlisten_port = 1\n\
         [[endpoints]]\nlisten_port = 25\nproxy_protocol = \"v2\"\n\
         [[endpoints]]\nprotocol = \"http\"\nproxy_protocol = \"v2\"\n\
         [[endpoints]]\nlisten_port = 26\nbackend_expects_proxy_protocol = true\n\
         [[endpoints]]\nlisten_port = 27\nproxy_protocol = \"v1\"\n\
         [[endpoints]]\nprotocol = \"tls\"\nhost = \"a.example\"\nlisten_port = 27\n\
         [[endpoints]]\nlisten_port = 28\nbalance = \"random\"\nmax_connections = 0\n\
         [[endpoints]]\nprotocol = \"tls\"\nname = \"b\"\nhost = \"b.example\"\n\
         [[endpoints]]\nprotocol = \"http\"\nname = \"c\"\nhost = \"b.example\"\n\
         [[endpoints]]\nlisten_port = 29\nmax_per_second = 0\nmax_body = \"1Mi\"\nmax_header_bytes = 9\n\
         [[endpoints]]\nprotocol = \"http\"\nname = \"d\"\nhost = \"d.example\"\nmax_body = \"10\"\nbackend_protocol = \"h3\"\n\
         [[endpoints]]\nlisten_port = 30\nbackend_protocol = \"h2c\"\n",
        expect![[r#"
            4:1 endpoints[0].port: names no UDP port of `web`
            7:1 endpoints[1].host: needed with protocol = "tls": the name that clients send
            10:1 endpoints[2].protocol: use "http", "tcp", "tls" or "udp"
            14:1 endpoints[3].proxy_protocol: the program must expect the header; say so with backend_expects_proxy_protocol = true
            17:1 endpoints[4].proxy_protocol: not with protocol = "http", where X-Forwarded-For says whose a request is
            20:1 endpoints[5].backend_expects_proxy_protocol: only with proxy_protocol = "v2"
            23:1 endpoints[6].proxy_protocol: use "off" or "v2"
            24:1 endpoints[7]: another endpoint has this name, host or port
            30:1 endpoints[8].balance: use "round_robin" or "least_connections"
            31:1 endpoints[8].max_connections: at least 1; remove the endpoint to let nobody in
            36:1 endpoints[10]: another endpoint has this name, host or port
            42:1 endpoints[11].max_per_second: from 1 to 1000000
            44:1 endpoints[11].max_header_bytes: from 1024 to 65536, which no edge goes beyond
            43:1 endpoints[11].max_body: only with protocol = "http"
            44:1 endpoints[11].max_header_bytes: only with protocol = "http"
            49:1 endpoints[12].max_body: write a whole number of Mi or Gi, such as "10Mi"
            50:1 endpoints[12].backend_protocol: use "http1" or "h2c"
            53:1 endpoints[13].backend_protocol: only with protocol = "http"
        "#]],
    );
}

#[test]
fn volumes_are_read_with_where_they_are_mounted() {
    let text = "[processes.db]\nmounts = [{ volume = \"data\", path = \"/var/lib/db/\" }]\n\
                [[volumes]]\nname = \"data\"\nsize = \"10Gi\"\n";
    let manifest = parse(&format!("{HEAD}{text}")).unwrap();
    assert_eq!(manifest.volumes[&literal("data")].size_bytes, 10 << 30);
    let mount = &manifest.processes[&literal("db")].mounts[0];
    assert_eq!((mount.path.as_str(), mount.read_only), ("/var/lib/db", false));
    let without = parse(&format!("{HEAD}[processes.db]\n")).unwrap();
    let json = serde_json::to_string(&without).unwrap();
    assert!(!json.contains("volumes") && !json.contains("mounts"), "old hashes stay: {json}");
}

#[test]
fn a_volume_belongs_to_one_process_with_one_instance() {
    check(
        "[processes.a]\nmounts = [{ volume = \"data\", path = \"/data\" }]\nscaling = { min = 2 }\n\
         [processes.b]\nmounts = [{ volume = \"data\", path = \"/data\" }]\n\
         [[volumes]]\nname = \"data\"\nsize = \"1Gi\"\n\
         [[volumes]]\nname = \"data\"\nsize = \"10Mi\"\nfilesystem = \"zfs\"\n\
         [[volumes]]\nname = \"spare\"\n",
        expect![[r#"
            4:1 processes.a.scaling: a process with a volume has one instance; set max = 1 (volume_replica_limit)
            12:1 volumes[1].size: from 1Gi to 16384Gi
            13:1 volumes[1].filesystem: only "ext4"
            11:1 volumes[1].name: another volume has this name
            14:1 volumes[2].size: missing; write it as 10Gi
            6:13 processes.b.mounts[0].volume: another process mounts it, and only one can
            7:3 volumes: no process mounts `spare`
        "#]],
    );
}

#[test]
fn volumes_stay_out_of_what_is_the_platforms() {
    for path in [
        "data",
        "/",
        "//",
        "/a/../b",
        "/a/./b",
        "/a//b",
        "/proc",
        "/sys/fs",
        "/dev/shm",
        "/run",
        "/run/secrets",
        "/run/secrets/x",
        "/tmp",
        "/tmp/x",
    ] {
        let text = format!("[processes.a]\nmounts = [{{ volume = \"v\", path = \"{path}\" }}]\n");
        let flaws = parse(&format!("{HEAD}{text}")).unwrap_err().flaws;
        assert_eq!(flaws[0].field, "processes.a.mounts[0].path", "{path}");
    }
    let text = "[processes.a]\nmounts = [{ volume = \"v\", path = \"/tmpfiles\" }, \
                { volume = \"w\", path = \"/tmpfiles/w\" }, { volume = \"v\", path = \"/v\" }]\n";
    check(
        text,
        expect![[r#"
            3:65 processes.a.mounts[1].path: another mount is at, over or under it
            3:91 processes.a.mounts[2].volume: this process mounts it already
        "#]],
    );
}

#[test]
fn endpoints_must_lead_somewhere() {
    check(
        "[processes.web]\nports = [{ internal = 80 }]\n[[endpoints]]\nprocess = \"api\"\n\
         [[endpoints]]\nprotocol = \"http\"\nhost = \"*.example.com\"\n\
         [[endpoints]]\nname = \"deep\"\nprotocol = \"http\"\nhost = \"a.*.example.com\"\n",
        expect![[r#"
            5:1 endpoints[0].process: there is no process `api`
            12:1 endpoints[2].host: not a host name, or one with `*.` before it
        "#]],
    );
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,200}") {
        let _ = parse(&text);
    }
}

#[test]
fn a_release_command_runs_as_one_of_the_processes_does() {
    let text = "[processes.web]\nuser = \"www\"\nvars = { A = \"1\" }\nports = [{ internal = 80 }]\n\
                scaling = { min = 3 }\n[processes.worker]\n\
                [deploy]\nrelease_command = [\"/migrate\", \"--all\"]\n";
    let manifest = parse(&format!("{HEAD}{text}")).unwrap();
    let command = manifest.release_command.clone().unwrap();
    let process = &command.process;
    assert_eq!(command.timeout_seconds, 300);
    assert_eq!(process.command.as_deref().unwrap(), ["/migrate", "--all"]);
    assert_eq!((process.user.as_deref(), process.vars["A"].as_str()), (Some("www"), "1"));
    assert!(process.ports.is_empty() && process.health.is_none(), "{process:?}");
    assert_eq!((process.scaling.min, process.restart.policy), (1, RestartPolicy::Never));
    assert_eq!(manifest.process(&literal("release")), Some(process));
    let without = parse(&format!("{HEAD}[processes.release]\n")).unwrap();
    let json = serde_json::to_string(&without).unwrap();
    assert!(!json.contains("release_command"), "old hashes stay: {json}");
    assert!(without.process(&literal("release")).is_some(), "and so do such processes");
}

#[test]
fn a_release_command_that_cannot_be_run_is_refused() {
    check(
        "[processes.a]\n[processes.release]\n\
         [deploy]\nrelease_command = []\nrelease_timeout_seconds = 0\n",
        expect![[r#"
            6:1 deploy.release_timeout_seconds: from 1 to 3600
            5:1 deploy.release_command: empty; leave it out if there is nothing to run
            3:12 processes.release: with a release command, no process can have this name
            4:2 deploy.release_process: missing: whose user, variables and resources the command has
        "#]],
    );
    check(
        "[processes.a]\n[deploy]\nrelease_command = [\"x\"]\nrelease_process = \"b\"\n",
        expect![[r#"
            5:1 deploy.release_process: names no process
        "#]],
    );
    check(
        "[processes.a]\n[deploy]\nrelease_process = \"a\"\n",
        expect![[r#"
        3:2 deploy: needs release_command, such as ["/app/migrate"]
    "#]],
    );
}

#[test]
fn what_runs_before_a_program_is_the_envs_and_then_its_own() {
    let text = "[env]\nprestart = [\"/render\"]\n[processes.web]\nprestart = [\"/warm\", \"up\"]\n\
                prestart_timeout_seconds = 90\n[processes.worker]\n";
    let manifest = parse(&format!("{HEAD}{text}")).unwrap();
    let told = |name| {
        let all = manifest.processes[&literal(name)].prestart.iter();
        all.map(|it| format!("{} {}", it.command.join(" "), it.timeout_seconds)).collect::<Vec<_>>()
    };
    assert_eq!(told("web"), ["/render 30", "/warm up 90"]);
    assert_eq!(told("worker"), ["/render 30"]);
    check(
        "[env]\nprestart = []\n[processes.a]\nprestart_timeout_seconds = 4000\n",
        expect![[r#"
            3:1 env.prestart: empty; leave it out if there is none
            5:1 processes.a.prestart_timeout_seconds: from 1 to 3600
            5:1 processes.a.prestart_timeout_seconds: only with prestart
        "#]],
    );
}
