//! The same instances on other machines: without cgroups, and with a unified
//! tree that lacks the controllers. Each machine is a private mount namespace in
//! a child of this binary.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::exec::{collect, command};
use crate::world::{World, block_on, is_root, wait_for_end};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("machine::without_cgroups_instances_run_unlimited", || {
        on_machine("without-cgroups");
    }),
    ("machine::a_unified_tree_without_controllers_still_groups", || on_machine("unified")),
    ("machine::where_proc_is_masked_there_is_no_user_namespace", || on_machine("masked-proc")),
    ("machine::on_an_overlay_the_root_is_a_copy", || {
        on_machine("overlay");
    }),
];

fn on_machine(kind: &str) {
    if is_root(kind) {
        let mut child = Command::new("/proc/self/exe");
        let status = child.args(["on-machine", kind]).status().unwrap();
        assert!(status.success(), "{kind}: {status}");
    }
}

pub(crate) fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let kind = args.next().unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
    if kind == "overlay" {
        run_on_overlay();
        return ExitCode::SUCCESS;
    }
    if kind == "masked-proc" {
        run_with_masked_proc();
        return ExitCode::SUCCESS;
    }
    umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).unwrap();
    let unified = kind == "unified";
    let filesystem = if unified { "cgroup2" } else { "tmpfs" };
    let flags = if unified { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    mount(Some("none"), "/sys/fs/cgroup", Some(filesystem), flags, None::<&str>).unwrap();
    start_exec_and_stop(unified);
    ExitCode::SUCCESS
}

fn start_exec_and_stop(grouped: bool) {
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["until-term"])).await;
        world.wait_for_log("ready").await;
        let status = shim.status().await.unwrap();
        let memory_limited = Path::new("/sys/fs/cgroup/helix").join(world.id()).join("memory.max");
        assert_eq!(status.limits.limits_enforced, memory_limited.exists());
        assert_eq!(status.limits.reason.is_some(), !memory_limited.exists());
        assert_eq!(status.cgroup.is_some(), grouped);
        println!("     {:?}", status.limits.reason);
        let (_, _, exit) = collect(&mut shim.exec(&command(&["exit", "5"])).await.unwrap()).await;
        assert_eq!(exit.code, 5);
        shim.stop(Duration::from_secs(20)).await.unwrap();
        assert_eq!(wait_for_end(&shim).await.exit.unwrap().code, 7);
        world.assert_no_traces().await;
    });
}

/// A machine that is itself a container whose `/proc` is partly covered: the
/// kernel then refuses a new one to user namespaces, which shows late in a start.
fn run_with_masked_proc() {
    let (proc, bind) = (Some("/proc/irq"), MsFlags::MS_BIND);
    mount(proc, "/proc/irq", None::<&str>, bind, None::<&str>).unwrap();
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["listen", "80"])).await;
        world.wait_for_log("listening").await;
        let notes = shim.status().await.unwrap().notes;
        println!("     {notes:?}");
        assert!(notes.iter().any(|note| note.contains("no user namespace")), "{notes:?}");
        assert_eq!(crate::container::ask(world.veth().ipv6.into(), 80, "hello"), "got hello");
        let (_, _, exit) = collect(&mut shim.exec(&command(&["who"])).await.unwrap()).await;
        assert_eq!(exit.code, 0);
        shim.stop(Duration::ZERO).await.unwrap();
        wait_for_end(&shim).await;
        world.assert_no_traces().await;
    });
    umount2("/proc/irq", MntFlags::MNT_DETACH).unwrap();
}

/// The instance directory lies on an overlay, as inside most containers; the
/// kernel takes no overlay as the writable layer of another.
fn run_on_overlay() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(at.join(name)).unwrap();
    }
    let root = at.display();
    let options = format!("lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work");
    let merged = at.join("merged");
    let kind = Some("overlay");
    mount(kind, &merged, kind, MsFlags::empty(), Some(options.as_str())).unwrap();
    block_on(async {
        let world = World::inside(&merged);
        let status = world.run(&world.spec(&["show"])).await;
        assert_eq!(status.exit.as_ref().unwrap().code, 0);
        assert!(status.notes.iter().any(|note| note.contains("copy")), "{:?}", status.notes);
        assert!(world.log().contains(&"mount=Ok(())".to_owned()));
        assert!(!world.path().join("rootfs/written").exists(), "the image was written to");
        world.assert_no_traces().await;
    });
    umount2(&merged, MntFlags::MNT_DETACH).unwrap();
}
