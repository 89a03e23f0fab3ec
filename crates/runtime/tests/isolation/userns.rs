//! The user namespace of root's containers: who is who inside and outside, and
//! what happens where there can be none.

use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use helix_runtime::{ExecSpec, InstanceSpec, Shim, Status};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::container::ask;
use crate::exec::{collect, command};
use crate::world::{World, block_on, is_root, wait_for_end};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("userns::root_inside_is_nobody_outside", root_is_mapped),
    ("userns::files_keep_their_owners_inside", owners),
    ("userns::a_daemon_binds_a_low_port_and_changes_its_user", daemon),
    ("userns::commands_join_it", commands),
    ("userns::two_instances_have_ids_of_their_own", apart),
    ("userns::an_image_that_cannot_be_mapped_runs_without", unmappable_image),
    ("userns::a_user_that_cannot_be_mapped_runs_without", unmappable_user),
    ("userns::it_costs_little", cost),
];

/// Below are accounts and ids that others give out.
const FIRST_MAPPED: u32 = 0x7000_0000;

/// The four user and four group ids of a process as the machine sees them.
fn outside_ids(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = status.lines().filter(|line| line.starts_with("Uid:") || line.starts_with("Gid:"));
    lines.flat_map(|line| line.split_whitespace().skip(1).map(|id| id.parse().unwrap())).collect()
}

async fn first_pid(shim: &Shim) -> i32 {
    shim.status().await.unwrap().workload.unwrap().pid
}

fn has_note(status: &Status, text: &str) -> bool {
    status.notes.iter().any(|note| note.contains("no user namespace") && note.contains(text))
}

fn root_is_mapped() {
    if !is_root("root_is_mapped") {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["until-term"])).await;
        world.wait_for_log("ready").await;
        assert_eq!(shim.status().await.unwrap().notes, Vec::<String>::new());
        let pid = first_pid(&shim).await;
        let ids = outside_ids(pid);
        assert!(ids[0] >= FIRST_MAPPED && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        let map: Vec<&str> = map.split_whitespace().collect();
        assert_eq!(map, ["0", &ids[0].to_string(), "65536"]);
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        assert_ne!(namespace(&pid.to_string()), namespace("self"));
        shim.stop(Duration::from_secs(20)).await.unwrap();
        assert_eq!(wait_for_end(&shim).await.exit.unwrap().code, 7);
        world.assert_no_traces().await;
    });
}

/// Puts files of root and of user 33 into an image.
fn add_owned_files(rootfs: &Path) {
    for (name, owner) in [("of-root", 0), ("of-33", 33)] {
        std::fs::write(rootfs.join(name), "as shipped").unwrap();
        chown(rootfs.join(name), Some(owner), Some(owner)).unwrap();
    }
}

fn owners() {
    if !is_root("owners") {
        return;
    }
    block_on(async {
        let world = World::new();
        let rootfs = world.path().join("rootfs");
        add_owned_files(&rootfs);
        // A data directory is closed to others, and root inside is one of them.
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(world.path(), closed).unwrap();
        let shim = world.start(&world.spec(&["until-term"])).await;
        let first = outside_ids(first_pid(&shim).await)[0];
        let (out, err, exit) =
            collect(&mut shim.exec(&command(&["change-files"])).await.unwrap()).await;
        assert_eq!(exit.code, 0, "{out}{err}");
        for line in [
            "/ 0:0",
            "/of-root 0:0",
            "/of-33 33:33",
            "/etc/hosts 0:0",
            "/tmp 0:0",
            "/proc/self 0:0",
            "/made 0:0",
            "/given 33:33",
            // Outside the range there is nobody to give a file to.
            "give away Err(EINVAL)",
        ] {
            assert!(out.lines().any(|got| got == line), "{line:?} missing in {out}");
        }
        let owner_above = |name: &str| {
            let meta = std::fs::symlink_metadata(world.dir().join("upper").join(name)).unwrap();
            (meta.uid() - first, meta.gid() - first)
        };
        assert_eq!(owner_above("made"), (0, 0));
        assert_eq!(owner_above("given"), (33, 33));
        assert_eq!(owner_above("of-33"), (33, 33));
        let shipped = rootfs.join("of-33");
        assert_eq!(std::fs::read_to_string(&shipped).unwrap(), "as shipped");
        assert_eq!(std::fs::metadata(&shipped).unwrap().uid(), 33);
    });
}

fn daemon() {
    if !is_root("daemon") {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["daemon", "80", "33"])).await;
        world.wait_for_log("listening").await;
        // Written after the change, to /dev/stdout opened before it as root.
        world.wait_for_log("serving as uid=33 gid=33").await;
        let veth = world.veth();
        for address in [IpAddr::from(veth.ipv6), IpAddr::from(veth.ipv4.unwrap())] {
            assert_eq!(ask(address, 80, "hello"), "got hello");
        }
        let ids = outside_ids(first_pid(&shim).await);
        assert!(ids.iter().all(|id| *id >= FIRST_MAPPED && id % 65_536 == 33), "{ids:?}");
        shim.stop(Duration::ZERO).await.unwrap();
        wait_for_end(&shim).await;

        // Started as that user, who holds no capability at all.
        let mut spec = world.spec(&["daemon", "80", "33"]);
        spec.user = "33:33".into();
        let shim = world.start(&spec).await;
        world.wait_for_log("serving as uid=33 gid=33").await;
        assert_eq!(ask(veth.ipv6.into(), 80, "hello"), "got hello");
        shim.stop(Duration::ZERO).await.unwrap();
        wait_for_end(&shim).await;
    });
}

fn commands() {
    if !is_root("commands") {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["until-term"])).await;
        world.wait_for_log("ready").await;
        let pid = first_pid(&shim).await;
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        for (user, id) in [("", 0), ("33:33", 33), ("app", 1234)] {
            let spec = ExecSpec { user: user.into(), ..command(&["who"]) };
            let (out, err, exit) = collect(&mut shim.exec(&spec).await.unwrap()).await;
            assert_eq!(exit.code, 0, "{out}{err}");
            for line in [
                format!("uid={id} gid={id} groups=[]"),
                format!("user namespace {}", namespace.display()),
                // Its pipes belong to it, under each of their names.
                "again to /dev/stdout".to_owned(),
            ] {
                assert!(out.lines().any(|got| got == line), "{line:?} missing in {out}");
            }
            assert!(err.contains("again to /dev/stderr"), "{err}");
        }
        let spec = ExecSpec { user: "70000".into(), ..command(&["who"]) };
        let error = match shim.exec(&spec).await {
            Ok(mut session) => session.output.next().await.unwrap_err(),
            Err(error) => error,
        };
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("70000") && cause.contains("does not exist"), "{cause}");
    });
}

fn apart() {
    if !is_root("apart") {
        return;
    }
    block_on(async {
        let worlds = [World::new(), World::new()];
        let mut firsts = Vec::new();
        for (world, id) in worlds.iter().zip(["apart-a", "apart-b"]) {
            let mut spec = world.spec(&["until-term"]);
            // The range follows from the id, and these two are known to differ.
            spec.instance_id = format!("{id}-{}", "x".repeat(20));
            let shim = world.start(&spec).await;
            firsts.push(outside_ids(first_pid(&shim).await)[0]);
            shim.stop(Duration::ZERO).await.unwrap();
            wait_for_end(&shim).await;
        }
        assert_ne!(firsts[0], firsts[1]);
    });
}

/// Runs to the end with the image on an overlay: that file system shows its files
/// to one owner only, so there is no user namespace.
pub(crate) async fn with_image_on_overlay(world: &World, mut spec: InstanceSpec) -> Status {
    let at = world.path().display();
    for name in ["below", "above"] {
        std::fs::create_dir(world.path().join(name)).unwrap();
    }
    let image = world.path().join("image");
    std::fs::create_dir(&image).unwrap();
    let options = format!("lowerdir={at}/rootfs:{at}/below");
    let kind = Some("overlay");
    mount(kind, &image, kind, MsFlags::MS_RDONLY, Some(options.as_str())).unwrap();
    spec.rootfs.clone_from(&image);
    let outcome = tokio::spawn({
        let dir = world.dir();
        async move {
            let shim = Shim::spawn(Path::new("/proc/self/exe"), &dir, &spec).await.unwrap();
            wait_for_end(&shim).await
        }
    })
    .await;
    umount2(&image, MntFlags::MNT_DETACH).unwrap();
    outcome.unwrap()
}

fn unmappable_image() {
    if !is_root("unmappable_image") {
        return;
    }
    block_on(async {
        let world = World::new();
        let status = with_image_on_overlay(&world, world.spec(&["who"])).await;
        assert_eq!(status.exit.as_ref().unwrap().code, 0, "{:?}", world.log());
        assert!(has_note(&status, "map the owners of"), "{:?}", status.notes);
        assert!(world.log().contains(&"uid=0 gid=0 groups=[]".to_owned()), "{:?}", world.log());
        world.assert_no_traces().await;
    });
}

fn unmappable_user() {
    if !is_root("unmappable_user") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = world.spec(&["until-term"]);
        spec.user = "70000:70000".into();
        let shim = world.start(&spec).await;
        world.wait_for_log("ready").await;
        assert!(has_note(&shim.status().await.unwrap(), "65535"));
        assert_eq!(outside_ids(first_pid(&shim).await), [70_000; 8]);
        let (out, err, exit) = collect(&mut shim.exec(&command(&["who"])).await.unwrap()).await;
        assert_eq!(exit.code, 0, "{out}{err}");
        assert!(out.contains("uid=70000 gid=70000"), "{out}");
    });
}

/// Starts with and without, in turn, since machines have moods.
fn cost() {
    if !is_root("cost") {
        return;
    }
    block_on(async {
        let mut took_ms = [Vec::new(), Vec::new()];
        for _ in 0..20 {
            for (user, took_ms) in ["", "70000"].into_iter().zip(&mut took_ms) {
                let world = World::new();
                let spec =
                    helix_runtime::InstanceSpec { user: user.into(), ..world.spec(&["exit", "0"]) };
                let status = world.run(&spec).await;
                assert_eq!(status.exit.unwrap().code, 0);
                took_ms.push(status.start_took_ms.unwrap());
            }
        }
        let [with, without] = took_ms.map(|mut all| {
            all.sort_unstable();
            (all[0], all[all.len() / 2])
        });
        println!("     fastest and median: with {with:?} ms, without {without:?} ms");
        // Far beyond a fork and three mounts, yet below any timeout on the path.
        assert!(with.0 < without.0 + 50, "with {with:?}, without {without:?}");
    });
}
