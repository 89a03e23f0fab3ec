//! Limits under real controllers of cgroup v2: what is given to an instance is all that
//! it gets.

use std::path::{Path, PathBuf};

use crate::keeper;
use crate::world::{Setup, World};

/// Below this, the groups of instances have their limits.
const GROUPS: &str = "/sys/fs/cgroup";

pub(crate) fn an_instance_gets_what_its_cgroup_allows() {
    let mut world = World::new(Setup::default());
    world.up::<&str>([]);
    let folder = keeper::write(&world, "", "");
    world.helix_in(&folder, ["deploy"]).ok();

    let group = group_with_memory(Path::new(GROUPS), 64 << 20).expect("a group of 64 MiB");
    let limit = |name: &str| std::fs::read_to_string(group.join(name)).expect("read a limit");
    let pids: u32 = limit("pids.max").trim().parse().expect("a limit of processes");
    let weight: u32 = limit("cpu.weight").trim().parse().expect("a weight");
    assert!(pids > 0 && weight > 0, "{pids} processes, weight {weight}");
    // Where disks are shared out at all, as the processor is.
    if let Ok(of_disks) = std::fs::read_to_string(group.join("io.weight")) {
        assert_eq!(of_disks.trim(), format!("default {weight}"));
        println!("the weight of disks is {weight}");
    }

    // What asks for more memory than it has is killed, and nothing else is.
    let eaten = keeper::try_sh(&world, &folder, "/app/busybox tail /dev/zero; echo $?");
    assert_eq!(eaten.stdout.trim(), "137", "{eaten:?}");
    let kills = limit("memory.events");
    assert!(kills.lines().any(|line| line == "oom_kill 1"), "{kills}");
    let page = world.helix_in(&folder, ["status"]).ok().stdout;
    let words: Vec<&str> = page.split_whitespace().collect();
    assert!(words.join(" ").contains("web-1 v1 ready 0"), "{page}");

    let never = "restart = { policy = \"never\" }";
    let eats = keeper::write_running(&world, &[keeper::BUSYBOX, "tail", "/dev/zero"], never, "");
    let failed = world.helix_in(&eats, ["deploy"]);
    assert_ne!(failed.code, 0, "{failed:?}");
    let events = world.helix_in(&eats, ["events", "--json"]).ok();
    assert!(format!("{failed:?}{events:?}").contains("oom_killed"), "{failed:?} {events:?}");
    world.interrupt();
}

/// The group whose memory is limited to this.
fn group_with_memory(below: &Path, bytes: u64) -> Option<PathBuf> {
    let limit = std::fs::read_to_string(below.join("memory.max")).unwrap_or_default();
    if limit.trim().parse() == Ok(bytes) {
        return Some(below.to_owned());
    }
    let inside = std::fs::read_dir(below).into_iter().flatten().flatten();
    let mut folders = inside.map(|entry| entry.path()).filter(|path| path.is_dir());
    folders.find_map(|folder| group_with_memory(&folder, bytes))
}
