//! A disk that is full, at every use the agent has for one: nothing that runs ends,
//! nothing that was said is lost, and all goes on when there is room again.

use std::path::PathBuf;
use std::process::Command;

use helix_model::instance::{Observed, Phase};
use helix_model::node;
use helix_model::plan::NodePlan;
use helix_model::{LogFilter, Reason};
use helix_node::LogQuery;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use crate::tests::leave;
use crate::world::{DEADLINE, World, eventually, get};

const MIB: u64 = 1 << 20;

/// Room for the image these tests share, unpacked, twice.
const ROOMY_MIB: u64 = 400;

impl World {
    fn filler(&self) -> PathBuf {
        self.place.data_dir.parent().unwrap().join("filler")
    }

    fn free_bytes(&self) -> u64 {
        let stat = statvfs(&self.place.data_dir).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }

    /// Somebody else takes all the room but so much.
    fn fill_but(&self, left_bytes: u64) {
        let file = std::fs::File::create(self.filler()).unwrap();
        let mut length = self.free_bytes().saturating_sub(left_bytes);
        // What describes the file takes room, too.
        while length > 0 && fallocate(&file, FallocateFlags::empty(), 0, length as i64).is_err() {
            length = length.saturating_sub(64 << 10);
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    async fn disk_is(&self, what: &str, wanted: impl Fn(&node::Disk) -> bool) -> node::Disk {
        let mut disk = self.agent.disk();
        let search = disk.wait_for(|seen| seen.as_ref().is_some_and(&wanted));
        let found = tokio::time::timeout(DEADLINE, search).await;
        let found = found.unwrap_or_else(|_| panic!("the disk never is {what}"));
        found.unwrap().clone().unwrap()
    }
}

fn failed_for(reason: Reason) -> impl Fn(&Observed) -> bool {
    move |seen| seen.reason == Some(reason)
}

pub(crate) async fn a_full_disk_costs_nothing_that_runs() {
    let mut world = World::on_a_disk_of(ROOMY_MIB, 32).await;
    let (first, second, third) = (world.server(1), world.server(2), world.server(3));
    world.apply(&[&first]);
    let address = world.ready(&first).await;
    let seen = world.disk_is("roomy", |disk| disk.pressure.is_none()).await;
    assert!(seen.total_bytes < ROOMY_MIB * MIB && seen.reserve_bytes == 32 * MIB);

    // Below the reserve: nothing new, and what runs may crash and come back.
    world.fill_but(16 * MIB);
    let seen = world.disk_is("under pressure", |disk| disk.pressure.is_some()).await;
    assert!(seen.pressure.unwrap().contains("32Mi are kept"));
    world.apply(&[&first, &second]);
    let seen = world.until(&second, "refused", failed_for(Reason::DiskPressure)).await;
    assert!(seen.message.unwrap().contains("nothing new is started"));
    get(address, "/exit");
    let again = |seen: &Observed| seen.phase == Phase::Ready && seen.restarts == 1;
    let address = *world.until(&first, "ready again", again).await.ports.values().next().unwrap();

    // Not a byte left: plans, slots and output find no room.
    std::fs::remove_file(world.filler()).unwrap();
    world.fill_but(0);
    assert_eq!(get(address, "/talk"), "talked", "output never holds up a program");
    let plan = world.plan(&[&first, &second, &third]);
    world.agent.apply(plan.clone());
    world.until(&third, "refused", failed_for(Reason::DiskPressure)).await;
    world.restart_agent().await;
    assert_eq!(get(world.ready(&first).await, "/"), first.id.to_string(), "adopted");
    // The agent that was just started may never have read this plan.
    world.agent.apply(plan.clone());

    world.make_room();
    world.disk_is("roomy", |disk| disk.pressure.is_none()).await;
    world.ready(&second).await;
    world.ready(&third).await;
    assert_eq!(get(address, "/talk"), "talked");
    let query = LogQuery { filter: LogFilter::default(), ..LogQuery::default() };
    let mut lines = world.agent.logs(&[first.id], query);
    let mut dropped = 0;
    while let Some(line) = lines.next().await {
        dropped += line.dropped;
    }
    assert!(dropped > 0, "what could not be kept is counted");
    let path = world.place.data_dir.join("plan.json");
    eventually("the plan is on disk", || {
        let kept = std::fs::read(&path).unwrap();
        serde_json::from_slice::<NodePlan>(&kept).is_ok_and(|kept| kept == plan)
    })
    .await;
    leave(world, &[&first, &second, &third]).await;
}

/// Starts with so much room, which is too little, and goes on with more.
async fn without_room_for(left_mib: u64, what: &str) {
    let mut world = World::on_a_disk_of(ROOMY_MIB, 1).await;
    world.fill_but(left_mib * MIB);
    let plan = world.server(1);
    world.apply(&[&plan]);
    let full = |seen: &Observed| {
        seen.reason == Some(Reason::DiskFull) || seen.reason == Some(Reason::DiskPressure)
    };
    let seen = world.until(&plan, what, full).await;
    assert!(seen.phase == Phase::Pulling || seen.phase == Phase::Failed);
    eventually("what was begun is gone", || world.free_bytes() > left_mib * MIB / 2).await;
    world.make_room();
    world.ready(&plan).await;
    leave(world, &[&plan]).await;
}

pub(crate) async fn an_image_that_does_not_fit_is_told_and_fetched_when_it_does() {
    without_room_for(4, "no room to pull").await;
    // The image as it is transferred fits, and what is in it does not.
    without_room_for(60, "no room to unpack").await;
}

pub(crate) async fn unused_images_go_first() {
    let mut world = World::on_a_disk_of(ROOMY_MIB, 32).await;
    let (first, second) = (world.server(1), world.server(2));
    world.apply(&[&first]);
    world.ready(&first).await;
    let roots = world.place.image_dir.join("rootfs");
    let count = || std::fs::read_dir(&roots).unwrap().count();
    world.fill_but(16 * MIB);
    world.disk_is("under pressure", |disk| disk.pressure.is_some()).await;
    assert_eq!(count(), 1, "it is in use");

    // Under pressure nothing uses it any more: its room is the relief.
    world.apply(&[]);
    world.gone(&first).await;
    let seen = world.disk_is("relieved", |disk| disk.pressure.is_none()).await;
    assert_eq!((count(), seen.image_cache_bytes), (0, 0));
    world.make_room();
    world.apply(&[&second]);
    world.ready(&second).await;
    leave(world, &[&second]).await;
}

/// A file system of its own, gone with the test.
pub(crate) fn mount_disk(dir: &std::path::Path, size_mib: u64) -> PathBuf {
    let (file, place) = (dir.join("disk.img"), dir.join("disk"));
    std::fs::create_dir(&place).unwrap();
    std::fs::File::create(&file).unwrap().set_len(size_mib * MIB).unwrap();
    let run = |program: &str, args: &[&std::ffi::OsStr]| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    // Nothing is set aside for root, who runs these tests.
    run("mkfs.ext4", &["-q".as_ref(), "-m".as_ref(), "0".as_ref(), file.as_ref()]);
    run("mount", &["-o".as_ref(), "loop".as_ref(), file.as_ref(), place.as_ref()]);
    place
}
