//! A real PostgreSQL on a volume: what it has said is written stays written, however
//! its instance ends.

use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::other_node::OtherNode;
use crate::registry::Registry;
use crate::world::{World, can_isolate, traces, until};

const VOLUME: &str = "db-production-data";

fn write_manifest(world: &World, size: &str, setting: &str) {
    let declared = format!("[[volumes]]\nname = \"data\"\nsize = \"{size}\"");
    write_manifest_with(world, "data", &declared, setting);
}

fn write_manifest_with(world: &World, volume: &str, declared: &str, setting: &str) {
    let text = format!(
        r#"schema_version = "v1"
[app]
name = "db"
[processes.db]
user = "postgres"
vars = {{ PGDATA = "/var/lib/postgresql/data", SETTING = "{setting}" }}
ports = [{{ name = "pg", internal = 5432 }}]
health = {{ type = "exec", command = ["pg_isready", "-h", "/tmp"], interval_seconds = 1, grace_seconds = 60 }}
mounts = [{{ volume = "{volume}", path = "/var/lib/postgresql/data" }}]
{declared}
[[endpoints]]
process = "db"
protocol = "tcp"
listen_port = 5432
"#
    );
    std::fs::write(world.work().join("helix.toml"), text).expect("write the manifest");
}

/// PostgreSQL with a table of a thousand rows.
fn with_rows(registry: &Registry) -> (World, String) {
    let world = World::start::<&str>([]);
    let image = registry.postgres();
    fill(&world, &image);
    (world, image)
}

fn fill(world: &World, image: &str) {
    write_manifest(world, "1Gi", "first");
    world.helix(["deploy", "--image", image]).ok();
    query(world, "create table kept (id bigint primary key, text text not null)");
    query(world, "insert into kept select n, md5(n::text) from generate_series(1, 1000) n");
}

fn query(world: &World, sql: &str) -> String {
    query_in(world, "production", sql)
}

fn query_in(world: &World, env: &str, sql: &str) -> String {
    let exec = ["exec", "--env", env, "--process", "db", "--"];
    let psql = ["psql", "-h", "/tmp", "-U", "postgres", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql];
    world.helix(exec.iter().chain(&psql)).ok().stdout
}

/// All that is in the table, in a few characters.
fn digest(world: &World) -> String {
    query(world, "select count(*), md5(string_agg(id || text, ',' order by id)) from kept")
}

fn sh(world: &World, script: &str) -> crate::world::Output {
    world.helix(["exec", "--process", "db", "--", "sh", "-c", script])
}

fn instance(world: &World) -> Value {
    let listed = world.json(&world.work(), ["instances", "list"]);
    let running = |it: &&Value| it["desired"]["desired"] == "running";
    let items = listed["items"].as_array().cloned().unwrap_or_default();
    items.iter().find(running).cloned().unwrap_or_default()
}

fn until_ready(world: &World, why: &str) {
    until(why, || instance(world)["current"]["phase"] == "ready");
}

fn volume(world: &World) -> Value {
    world.json(&world.work(), ["volumes", "describe", VOLUME])
}

/// Whether `helix`, started from here, may grow a file system that is mounted.
fn may_grow_mounted() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status").expect("read who we are");
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    u64::from_str_radix(held.trim(), 16).expect("a mask") & CAP_SYS_RESOURCE != 0
}

/// Somebody who writes row after row and notes each that was acknowledged.
struct Writer(Child);

impl Writer {
    fn start(world: &World) -> Writer {
        let script = "n=100000; while true; do n=$((n+1)); \
                      psql -h /tmp -U postgres -Atqc \
                      \"insert into kept values ($n, 'late') returning id\" || exit 0; done";
        let mut command = world.command(world.work());
        command.args(["exec", "--process", "db", "--", "sh", "-c", script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Writer(command.spawn().expect("start a writer"))
    }

    /// The last row of which it heard that it is there.
    fn last(self) -> u64 {
        let output = self.0.wait_with_output().expect("the writer's output");
        let said = String::from_utf8_lossy(&output.stdout);
        said.lines().filter_map(|line| line.trim().parse().ok()).max().expect("rows were written")
    }
}

#[test]
fn postgres_loses_nothing_it_acknowledged_however_it_ends() {
    if !can_isolate("postgres_loses_nothing_it_acknowledged_however_it_ends") {
        return;
    }
    let registry = Registry::shared();
    let (mut world, image) = with_rows(&registry);
    let before = digest(&world);

    // Killed in the middle of writing.
    let writer = Writer::start(&world);
    until("rows to be written", || {
        let late = query(&world, "select count(*) from kept where text = 'late'");
        late.trim().parse::<u64>().expect("a number") > 5
    });
    let id = instance(&world)["id"].as_str().expect("an id").to_owned();
    let program = traces::workload_pid(&world.data(), &id).expect("a running program");
    kill(Pid::from_raw(program), Signal::SIGKILL).expect("kill it");
    let acknowledged = writer.last();
    until("another program", || {
        traces::workload_pid(&world.data(), &id).is_some_and(|pid| pid != program)
    });
    until("it to be ready again", || {
        let seen = instance(&world);
        seen["current"]["phase"] == "ready" && seen["current"]["restarts"] == 1
    });
    let kept: u64 = query(&world, "select max(id) from kept").trim().parse().expect("a number");
    assert!(kept >= acknowledged, "row {acknowledged} was acknowledged, {kept} is the last");
    query(&world, "delete from kept where text = 'late'");
    assert_eq!(digest(&world), before);

    // Another release: the same data, and the pause is told.
    write_manifest(&world, "1Gi", "second");
    let deployed = world.helix(["deploy", "--image", &image]).ok();
    assert!(deployed.stderr.contains("stops before its successor starts"), "{}", deployed.stderr);
    assert_eq!(digest(&world), before);
    let deploy = world.json(&world.work(), ["deploys", "describe", "d2"]);
    let pause = &deploy["current"]["pauses"]["db"];
    assert!(pause["since"].is_string() && pause["until"].is_string(), "{deploy:#}");

    // The agent dies, the machine is switched off politely, all of it comes back.
    world.kill();
    world.up::<&str>([]);
    assert_eq!(digest(&world), before, "adopted");
    world.interrupt();
    assert_eq!(world.traces(), Vec::<String>::new(), "nothing stays mounted");
    world.up::<&str>([]);
    until_ready(&world, "it to be started again");
    assert_eq!(digest(&world), before);
}

#[test]
fn a_full_volume_is_full_for_its_instance_alone_and_can_grow() {
    if !can_isolate("a_full_volume_is_full_for_its_instance_alone_and_can_grow") {
        return;
    }
    let registry = Registry::shared();
    let (world, image) = with_rows(&registry);
    let before = digest(&world);
    let fill = "dd if=/dev/zero of=/var/lib/postgresql/data/fill bs=1M count=1500";
    let full = sh(&world, fill);
    assert!(full.code != 0 && full.stderr.contains("No space left"), "{full:?}");
    assert_eq!(digest(&world), before, "reading goes on");
    assert_eq!(volume(&world)["current"]["size_enforced"], true);
    sh(&world, "rm /var/lib/postgresql/data/fill").ok();

    world.helix(["volumes", "resize", VOLUME, "--size", "2Gi"]).ok();
    if !may_grow_mounted() {
        until("it to be said that it cannot grow now", || {
            let told = volume(&world)["current"]["message"].to_string();
            told.contains("it grows when its instance next starts")
        });
        assert_eq!(volume(&world)["current"]["size_bytes"], 1_u64 << 30);
        write_manifest(&world, "1Gi", "second");
        world.helix(["deploy", "--image", &image]).ok();
    }
    until("the volume to have grown", || volume(&world)["current"]["size_bytes"] == 2_u64 << 30);
    sh(&world, fill).ok();
    sh(&world, "rm /var/lib/postgresql/data/fill").ok();
    assert_eq!(digest(&world), before);

    let refused = world.helix(["volumes", "destroy", VOLUME, "--yes"]).code_is(5);
    assert!(refused.stderr.contains("(volume_in_use)"), "{}", refused.stderr);
    assert!(refused.stderr.contains("db@production"), "{}", refused.stderr);
    world.helix(["envs", "destroy", "db@production", "--yes"]).ok();
    let left = world.data().join("node/volumes");
    let id = volume(&world)["id"].as_str().expect("an id").to_owned();
    assert!(left.join(id).join("disk.img").is_file(), "its data stays");
    world.helix(["volumes", "destroy", VOLUME, "--yes"]).ok();
    assert_eq!(std::fs::read_dir(&left).expect("list").count(), 0, "until it goes itself");
}

#[test]
fn a_snapshot_of_a_postgresql_that_writes_becomes_another_one_with_the_same_rows() {
    if !can_isolate("a_snapshot_of_a_postgresql_that_writes_becomes_another_one") {
        return;
    }
    let registry = Registry::shared();
    let (world, image) = with_rows(&registry);
    let early = "select count(*), md5(string_agg(id || text, ',' order by id)) from kept \
                 where text <> 'late'";
    let before = query(&world, early);
    let late = "select count(*), coalesce(max(id), 100000) from kept where text = 'late'";
    let late = |env: &str| {
        let said = query_in(&world, env, late);
        let (count, last) = said.trim().split_once('|').expect("two numbers");
        (count.parse::<u64>().expect("a number"), last.parse::<u64>().expect("a number"))
    };

    let writer = Writer::start(&world);
    until("rows to be written", || late("production").0 > 5);
    let (written, _) = late("production");
    let taken = world.json(&world.work(), ["snapshots", "create", VOLUME, "--name", "before"]);
    let seen = &taken["snapshot"]["current"];
    assert!(seen["paused_ms"].as_u64().is_some_and(|it| it <= 2_500), "{taken:#}");
    assert!(seen["stored_bytes"].as_u64().is_some_and(|it| it < 1 << 29), "{taken:#}");
    let again = late("production").0;
    until("writing to go on", || late("production").0 > again);
    let id = instance(&world)["id"].as_str().expect("an id").to_owned();
    let program = traces::workload_pid(&world.data(), &id).expect("a running program");
    kill(Pid::from_raw(program), Signal::SIGKILL).expect("kill it");
    let acknowledged = writer.last();

    // Beside the other one, in an env of its own.
    world.helix(["volumes", "restore", "before", "--as", "restored"]).ok();
    write_manifest_with(&world, "restored", "", "restored");
    world.helix(["deploy", "--env", "staging", "--image", &image]).ok();
    assert_eq!(query_in(&world, "staging", early), before);
    let (count, last) = late("staging");
    assert_eq!(count, last - 100_000, "no row is missing among those that are there");
    assert!(count >= written, "{written} were there before it was taken, {count} are in it");
    assert!(last < acknowledged, "what came after it is not in it");

    world.helix(["volumes", "clone", "restored", "--as", "cloned"]).ok();
    let listed = world.json(&world.work(), ["snapshots", "list"]);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed:#}");

    // The snapshot outlives what it is of.
    world.helix(["envs", "destroy", "db@production", "--yes"]).ok();
    world.helix(["volumes", "destroy", VOLUME, "--yes"]).ok();
    world.helix(["volumes", "restore", "before"]).ok();
    world.helix(["snapshots", "destroy", "before", "--yes"]).ok();
    let left = std::fs::read_dir(world.data().join("node/snapshots")).expect("list");
    assert_eq!(left.count(), 0);
}

#[test]
fn a_backup_of_a_postgresql_brings_it_back_on_another_node() {
    if !can_isolate("a_backup_of_a_postgresql_brings_it_back_on_another_node") {
        return;
    }
    let registry = Registry::shared();
    let store = tempfile::tempdir().expect("a directory for backups");
    let place = store.path().to_str().expect("a path");
    let world = World::start(["--backups", place]);
    let image = registry.postgres();
    fill(&world, &image);
    query(&world, "insert into kept values (5000000, 'planted-in-the-first-backup')");
    let backup = |name: &str| {
        let take = ["snapshots", "create", VOLUME, "--backup", "--name", name];
        let taken = world.json(&world.work(), take);
        taken["snapshot"]["current"]["sent_bytes"].as_u64().expect("how much was sent")
    };
    let first = backup("first");
    query(&world, "insert into kept values (5000001, 'later')");
    let before = digest(&world);
    // Killed while it writes: what the second one shows is what a power cut leaves.
    let writer = Writer::start(&world);
    let late = || query(&world, "select count(*) from kept where text = 'late'");
    until("rows to be written", || late().trim().parse::<u64>().expect("a number") > 5);
    let id = instance(&world)["id"].as_str().expect("an id").to_owned();
    let program = traces::workload_pid(&world.data(), &id).expect("a running program");
    kill(Pid::from_raw(program), Signal::SIGKILL).expect("kill it");
    let acknowledged = writer.last();
    let second = backup("second");
    assert!(second < first, "only what changed is sent: {second} after {first}");
    assert_eq!(second % (4 << 20), 0, "whole parts");

    // Nothing in the store can be read, nothing of it stays on the node.
    let planted = std::process::Command::new("grep")
        .args(["-r", "-c", "planted-in-the-first", place])
        .output()
        .expect("grep");
    assert!(!planted.status.success(), "{}", String::from_utf8_lossy(&planted.stdout));
    let left = || std::fs::read_dir(world.data().join("node/sending")).expect("list").count();
    until("the node to let go of what was sent", || left() == 0);

    world.helix(["envs", "destroy", "db@production", "--yes"]).ok();
    world.helix(["volumes", "destroy", VOLUME, "--yes"]).ok();
    let other = OtherNode::start(&world);
    world.helix(["volumes", "restore", "second", "--as", "restored", "--node", "other"]).ok();
    write_manifest_with(&world, "restored", "", "restored");
    world.helix(["deploy", "--image", &image]).ok();
    let restored = world.json(&world.work(), ["volumes", "describe", "restored"]);
    assert_eq!(restored["desired"]["node"], other.id(&world).as_str(), "{restored:#}");
    let kept: u64 = query(&world, "select max(id) from kept where text = 'late'")
        .trim()
        .parse()
        .expect("a number");
    assert!(kept >= acknowledged, "row {acknowledged} was acknowledged, {kept} is the last");
    query(&world, "delete from kept where text = 'late'");
    assert_eq!(digest(&world), before);

    world.helix(["envs", "destroy", "db@production", "--yes"]).ok();
    world.helix(["volumes", "destroy", "restored", "--yes"]).ok();
    drop(other);

    let asked = world.helix(["audit", "export", "--all"]).ok().stdout;
    for operation in ["write_backup", "read_backup"] {
        assert!(asked.contains(operation), "{operation} is not in the audit trail");
    }

    // A backup that was changed in the store becomes no volume.
    world.helix(["snapshots", "destroy", "second", "--yes"]).ok();
    let chunks: Vec<_> = files(store.path()).into_iter().filter(|it| in_chunks(it)).collect();
    for chunk in &chunks {
        let mut bytes = std::fs::read(chunk).expect("read a piece");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(chunk, bytes).expect("change a piece");
    }
    let refused = world.helix(["volumes", "restore", "first", "--wait-timeout", "15s"]);
    assert!(refused.code != 0 && refused.stderr.contains("decrypt_failed"), "{refused:?}");
    world.helix(["volumes", "destroy", "first", "--yes"]).ok();
    world.helix(["snapshots", "destroy", "first", "--yes"]).ok();
    assert_eq!(files(store.path()).len(), 0, "pieces go with the last backup that needs them");
}

fn in_chunks(path: &std::path::Path) -> bool {
    path.components().any(|part| part.as_os_str() == "chunks")
}

/// All files below a directory.
fn files(place: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).expect("list") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn write_manifest_of_two(world: &World, intra_env: bool) {
    let text = format!(
        r#"schema_version = "v1"
[app]
name = "pair"
[network]
intra_env = {intra_env}
[env]
user = "postgres"
[processes.db]
vars = {{ PGDATA = "/tmp/data" }}
ports = [{{ name = "pg", internal = 5432 }}]
health = {{ type = "exec", command = ["pg_isready", "-h", "/tmp"], interval_seconds = 1, grace_seconds = 60 }}
[processes.client]
command = ["sleep", "infinity"]
"#
    );
    std::fs::write(world.work().join("helix.toml"), text).expect("write the manifest");
}

#[test]
fn processes_of_an_env_find_each_other_by_name_once_it_asks_for_that() {
    if !can_isolate("processes_of_an_env_find_each_other_by_name_once_it_asks_for_that") {
        return;
    }
    let registry = Registry::shared();
    let world = World::start::<&str>([]);
    let image = registry.postgres();
    let ask = || {
        let exec = ["exec", "--process", "client", "--"];
        world.helix(exec.iter().chain(&["pg_isready", "-t", "5", "-h", "db.internal"]))
    };
    write_manifest_of_two(&world, false);
    world.helix(["deploy", "--image", &image]).ok();
    ask().code_is(2);

    write_manifest_of_two(&world, true);
    world.helix(["deploy", "--image", &image]).ok();
    let changes = world.helix(["releases", "diff", "v1", "v2"]).ok().stdout;
    assert!(changes.contains("network.intra_env"), "{changes}");
    let answer = ask().ok().stdout;
    assert_eq!(answer.trim(), "db.internal:5432 - accepting connections");
}
