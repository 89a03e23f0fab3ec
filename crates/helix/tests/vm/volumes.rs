//! Volumes in a thin pool of LVM, as an operator makes one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::platform::Platform;
use crate::world::{Setup, World, until};
use crate::{keeper, machine};

const VOLUME: &str = "keeper-production-data";
const GROUP: &str = "vg0";
const MOUNTS: &str = "mounts = [{ volume = \"VOLUME\", path = \"/data\" }]";
const DECLARED: &str = "[[volumes]]\nname = \"data\"\nsize = \"1Gi\"\n";

/// A pool that goes with this.
struct Pool(&'static str);

impl Pool {
    fn new(name: &'static str, size: &str) -> Pool {
        if lvm("vgs", &[GROUP]).is_err() {
            lvm("vgcreate", &[GROUP, machine::POOL_DISK]).expect("make a group");
        }
        // Large chunks are quickly filled.
        let made = ["--type", "thin-pool", "--chunksize", "1M", "--size", size, "--name", name];
        let made = [&made[..], &[GROUP]].concat();
        lvm("lvcreate", &made).expect("make a pool");
        Pool(name)
    }

    fn path(&self) -> String {
        format!("{GROUP}/{}", self.0)
    }

    /// The volumes in it, without the beginnings of their names.
    fn volumes(&self) -> Vec<String> {
        let condition = format!("pool_lv={}", self.0);
        let text = lvm("lvs", &["--noheadings", "-o", "lv_name", "-S", &condition, GROUP]);
        let text = text.expect("list volumes");
        text.split_whitespace().map(|name| name.replace("helix_", "")).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            lvm("lvremove", &["--yes", &self.path()]).expect("remove the pool");
        }
    }
}

fn lvm(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().expect("run lvm");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `helix up` on a pool, with a place for backups.
fn up(world: &mut World, pool: &Pool) {
    let backups = world.home().join("backups");
    let backups = backups.to_str().expect("a path").to_owned();
    world.up(["--volume-pool", &pool.path(), "--backups", &backups]);
}

/// The app with a volume of this name.
fn deploy(world: &World, volume: &str, declared: &str) -> PathBuf {
    let folder = keeper::write(world, &MOUNTS.replace("VOLUME", volume), declared);
    world.helix_in(&folder, ["deploy"]).ok();
    folder
}

fn digest(world: &World, folder: &Path) -> String {
    keeper::sh(world, folder, "cd /data && /app/busybox sha256sum kept")
}

fn size_bytes(world: &World) -> u64 {
    let seen = world.json(&world.work(), ["volumes", "describe", VOLUME]);
    seen["current"]["size_bytes"].as_u64().unwrap_or_default()
}

pub(crate) fn a_volume_in_a_pool_is_enforced_grown_adopted_copied_and_removed() {
    let pool = Pool::new("whole", "9G");
    let mut world = World::new(Setup::default());
    up(&mut world, &pool);
    let folder = deploy(&world, "data", DECLARED);
    let seen = world.json(&world.work(), ["volumes", "describe", VOLUME]);
    assert_eq!(seen["current"]["driver"], "lvm-thin", "{seen:#}");
    assert_eq!(seen["current"]["size_enforced"], true, "{seen:#}");
    let sh = |world: &World, script: &str| keeper::try_sh(world, &folder, script);

    // What is full is the volume alone.
    sh(&world, "/app/busybox dd if=/dev/urandom of=/data/kept bs=1M count=16").ok();
    let before = digest(&world, &folder);
    sh(&world, "/app/busybox fallocate -l 850m /data/most").ok();
    let full = sh(&world, "/app/busybox dd if=/dev/zero of=/data/fill bs=1M count=200");
    assert!(full.code != 0 && full.stderr.contains("No space left"), "{full:?}");
    sh(&world, "echo elsewhere > /tmp/there").ok();
    sh(&world, "/app/busybox rm /data/fill /data/most").ok();

    world.helix(["volumes", "resize", VOLUME, "--size", "2Gi"]).ok();
    until("the volume to have grown", || size_bytes(&world) == 2 << 30);
    let room = sh(&world, "/app/busybox df -mP /data | /app/busybox tail -1").ok().stdout;
    let room = room.split_whitespace().nth(1).and_then(|it| it.parse::<u32>().ok());
    assert!(room.is_some_and(|mebibytes| mebibytes > 1_900), "{room:?}");

    // The agent is killed and finds it; another instance gets it.
    world.kill();
    up(&mut world, &pool);
    assert_eq!(digest(&world, &folder), before, "adopted");
    std::fs::write(folder.join("second"), "release").expect("change the app");
    world.helix_in(&folder, ["deploy"]).ok();
    assert_eq!(digest(&world, &folder), before, "handed over");

    copies(&world, &folder, &before, &pool);
    let left = pool.volumes();
    assert_eq!(left, Vec::<String>::new(), "removed with all that was made of it");
    world.interrupt();
    assert_eq!(world.traces(), Vec::<String>::new(), "nothing stays mounted");
}

/// A snapshot and a backup while a program writes; both restored, and a clone of what it
/// wrote; everything removed.
fn copies(world: &World, folder: &Path, before: &str, pool: &Pool) {
    let script = "i=0; while i=$((i+1)); do echo $i; done > /data/log";
    let mut writing = world.command(folder);
    writing.args(["exec", "--process", "web", "--", keeper::BUSYBOX, "sh", "-c", script]);
    let writing = Platform::spawn(writing);
    let lines = || keeper::sh(world, folder, "/app/busybox wc -l < /data/log 2>&1 || echo 0");
    let count = || lines().trim().parse::<u64>().unwrap_or_default();
    until("something to be written", || count() > 100);
    let taken = world.json(folder, ["snapshots", "create", VOLUME, "--name", "moment"]);
    let paused = taken["snapshot"]["current"]["paused_ms"].as_u64();
    assert!(paused.is_some_and(|paused| paused < 10_000), "{taken:#}");
    println!("a snapshot of LVM took {} ms", paused.unwrap_or_default());
    let later = count();
    until("writing to go on", || count() > later);
    world.helix(["snapshots", "create", VOLUME, "--backup", "--name", "stored"]).ok();
    assert_eq!(pool.volumes().len(), 1, "LVM's snapshots are gone: {:?}", pool.volumes());
    writing.signal(nix::sys::signal::Signal::SIGINT);
    writing.end();
    world.helix(["envs", "destroy", "keeper@production", "--yes"]).ok();
    world.helix(["volumes", "clone", VOLUME, "--as", "twin"]).ok();
    world.helix(["volumes", "destroy", VOLUME, "--yes"]).ok();

    let copies = [(None, "twin"), (Some("moment"), "restored"), (Some("stored"), "fetched")];
    for (copy, restored) in copies {
        if let Some(copy) = copy {
            world.helix(["volumes", "restore", copy, "--as", restored]).ok();
        }
        let folder = deploy(world, restored, "");
        assert_eq!(digest(world, &folder), before, "{restored}");
        // All numbers up to the last, which may be half of one.
        let gaps = "/app/busybox awk 'NR > 1 && $1 != last + 1 { gaps++ } { last = $1 } \
                    END { print gaps + 0, NR }' /data/log";
        let said = keeper::sh(world, &folder, gaps);
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|it| it.parse().ok()).collect();
        assert!(numbers[0] <= 1 && numbers[1] > 0, "{said}");
        world.helix(["envs", "destroy", "keeper@production", "--yes"]).ok();
        world.helix(["volumes", "destroy", restored, "--yes"]).ok();
        if let Some(copy) = copy {
            world.helix(["snapshots", "destroy", copy, "--yes"]).ok();
        }
    }
}

pub(crate) fn an_agent_that_is_killed_while_it_makes_volumes_finishes_them() {
    let pool = Pool::new("killed", "4G");
    let mut world = World::new(Setup::default());
    up(&mut world, &pool);
    let node = world.json(&world.work(), ["nodes", "list"]);
    let node = node["items"][0]["name"].as_str().expect("a node").to_owned();
    // While it is half made, and when it was just renamed.
    let moments: [fn(&[String]) -> bool; 2] = [
        |names| names.iter().any(|name| name.ends_with(".next")),
        |names| names.len() == 2 && !names.iter().any(|name| name.ends_with(".next")),
    ];
    for (round, is_now) in moments.iter().enumerate() {
        let name = format!("volume-{round}");
        let mut creating = world.command(world.work());
        creating.args(["volumes", "create", &name, "--size", "1Gi", "--node", &node]);
        let creating = Platform::spawn(creating);
        until("the moment", || is_now(&pool.volumes()));
        world.kill();
        creating.end();
        up(&mut world, &pool);
        world.helix(["wait", &format!("volume/{name}")]).ok();
    }
    let names = pool.volumes();
    assert!(names.len() == 2 && names.iter().all(|name| !name.contains('.')), "{names:?}");
    for round in 0..2 {
        world.helix(["volumes", "destroy", &format!("volume-{round}"), "--yes"]).ok();
    }
    until("all to be removed", || pool.volumes().is_empty());
    world.interrupt();
}

pub(crate) fn a_full_pool_refuses_and_one_that_is_not_there_is_told() {
    let pool = Pool::new("full", "2G");
    let mut world = World::new(Setup::default());
    world.launch(["--volume-pool", "vg0/nothing"]);
    let refused = world.wait_for_end();
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("vg0/nothing"), "{refused:?}");
    assert!(refused.stderr.contains("Failed to find logical volume"), "{refused:?}");
    lvm("lvchange", &["--zero", "n", &pool.path()]).expect("change the pool");
    world.launch(["--volume-pool", &pool.path()]);
    let refused = world.wait_for_end();
    assert!(refused.code != 0 && refused.stderr.contains("lvchange --zero y"), "{refused:?}");
    lvm("lvchange", &["--zero", "y", &pool.path()]).expect("change the pool back");
    let wrong = world.helix(["up", "--volume-pool", "nothing"]).code_is(2);
    assert!(wrong.stderr.contains("VG/POOL"), "{wrong:?}");

    up(&mut world, &pool);
    let folder = deploy(&world, "data", DECLARED);
    keeper::sh(&world, &folder, "/app/busybox dd if=/dev/urandom of=/data/kept bs=1M count=4");
    let before = digest(&world, &folder);
    // Somebody else fills it.
    lvm("lvcreate", &["--virtualsize", "2G", "--thinpool", &pool.path(), "--name", "other"])
        .expect("make another volume");
    let other = File::options().write(true).open("/dev/vg0/other").expect("open it");
    for chunk in 0..1_500 {
        other.write_all_at(b"theirs", chunk << 20).expect("write to every chunk");
    }
    other.sync_all().expect("write it out");
    drop(other);
    let refused = world.helix(["snapshots", "create", VOLUME, "--json"]);
    assert!(refused.code != 0 && refused.stdout.contains("pool_low_space"), "{refused:?}");
    world.helix(["volumes", "resize", VOLUME, "--size", "1200Mi"]).ok();
    let message = || {
        let seen = world.json(&world.work(), ["volumes", "describe", VOLUME]);
        seen["current"]["message"].to_string()
    };
    until("it to be said that it cannot grow", || message().contains("pool_low_space"));
    assert_eq!(digest(&world, &folder), before, "what is there is there");
    lvm("lvremove", &["--yes", "vg0/other"]).expect("remove the other volume");
    until("it to have grown", || size_bytes(&world) == 1200 << 20);
    assert_eq!(digest(&world, &folder), before);
    world.helix(["envs", "destroy", "keeper@production", "--yes"]).ok();
    world.helix(["volumes", "destroy", VOLUME, "--yes"]).ok();
    world.interrupt();
}
