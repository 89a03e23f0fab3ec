//! Instances of a plain user, plain processes, and the probe.
//!
//! Root becomes a plain user in a child of this binary, which then runs the same
//! scenarios a user's agent would.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use helix_runtime::{
    Forward, InstanceSpec, Isolation, NetworkSpec, Reason, SECRETS_PATH, Shim, StartError, probe,
};

use crate::container::ask;
use crate::exec::{collect, command};
use crate::secrets::Kept;
use crate::world::{World, block_on, is_root, wait_for_end};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("rootless::a_user_gets_a_container_with_forwarded_ports", || as_plain_user("container")),
    ("rootless::a_user_gets_plain_processes", || {
        as_plain_user("process");
    }),
    ("rootless::the_probe_tells_a_user_what_is_missing", || {
        as_plain_user("probe");
    }),
    ("rootless::root_may_use_plain_processes_with_limits", root_process),
    ("rootless::the_probe_tells_root_that_all_works", root_probe),
];

/// An id that no account should have.
const PLAIN_ID: u32 = 65_534;

fn as_plain_user(scenario: &str) {
    let mut child = Command::new("/proc/self/exe");
    child.args(["as-plain-user", scenario]);
    let folder = tempfile::Builder::new().prefix("helix-user-").tempdir().unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(PLAIN_ID), Some(PLAIN_ID)).unwrap();
        // The test binary's folder may be closed to others; /tmp is not.
        let program = folder.path().join("helix");
        std::fs::copy("/proc/self/exe", &program).unwrap();
        child = Command::new(program);
        child.args(["as-plain-user", scenario]).uid(PLAIN_ID).gid(PLAIN_ID);
    }
    let status = child.env("TMPDIR", folder.path()).current_dir("/").status().unwrap();
    assert!(status.success(), "{scenario}: {status}");
}

pub(crate) fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    match args.next().as_deref().and_then(|arg| arg.to_str()) {
        Some("container") => container(),
        Some("process") => process(),
        Some("probe") => user_probe(),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// A port nobody listens on right now.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn rootless_spec(world: &World, mode: &[&str], forwards: Vec<Forward>) -> InstanceSpec {
    InstanceSpec {
        isolation: Isolation::ContainerRootless,
        network: NetworkSpec::Loopback { forwards },
        ..world.spec(mode)
    }
}

fn container() {
    block_on(async {
        let world = World::new();
        let status = world.run(&rootless_spec(&world, &["show"], vec![])).await;
        let log = world.log();
        assert_eq!(status.exit.as_ref().unwrap().code, 0, "{log:?}");
        for line in ["hostname=testhost", "pid=1", "uid=0 gid=0", "mount=Ok(())", "Seccomp:\t2"] {
            assert!(log.iter().any(|got| got == line), "{line:?} missing in {log:#?}");
        }
        assert!(!status.limits.limits_enforced && status.limits.reason.is_some());
        println!("     notes {:?}, limits {:?}", status.notes, status.limits.reason);
        world.assert_no_traces().await;

        // The one id a plain user has may bear any number inside.
        let mut spec = rootless_spec(&world, &["show"], vec![]);
        spec.user = "app".into();
        world.run(&spec).await;
        assert!(world.log().contains(&"uid=1234 gid=1234".to_owned()), "{:#?}", world.log());

        // In memory, and read by the one user there is.
        let kept = Kept::new(&world);
        let mut spec = rootless_spec(&world, &["secrets", SECRETS_PATH], vec![]);
        spec.secrets = Some(kept.0.clone());
        spec.user = "app".into();
        let status = world.run(&spec).await;
        let log = world.log();
        assert_eq!(status.exit.as_ref().unwrap().code, 0, "{log:?}");
        for line in ["mode=400 owner=1234:1234 directory=555", "beside=Err(ReadOnlyFilesystem)"] {
            assert!(log.iter().any(|got| got == line), "{line:?} missing in {log:#?}");
        }
        world.assert_no_traces().await;

        let host = free_port();
        let spec =
            rootless_spec(&world, &["listen", "80"], vec![Forward { host, instance_port: 80 }]);
        let shim = world.start(&spec).await;
        world.wait_for_log("listening").await;
        assert_eq!(ask(host.ip(), host.port(), "hello"), "got hello");
        let (out, _, exit) =
            collect(&mut shim.exec(&command(&["print", "1"])).await.unwrap()).await;
        assert_eq!((out.as_str(), exit.code), ("out 0\nno newline", 0));
        shim.stop(Duration::ZERO).await.unwrap();
        wait_for_end(&shim).await;
        world.assert_no_traces().await;
    });
}

fn process_spec(world: &World, mode: &[&str]) -> InstanceSpec {
    let mut spec = InstanceSpec {
        isolation: Isolation::Process,
        network: NetworkSpec::Host {},
        ..world.spec(mode)
    };
    spec.env.insert("PORT".into(), mode.get(1).copied().unwrap_or_default().into());
    spec
}

fn process() {
    block_on(async {
        let world = World::new();
        let host = free_port();
        let spec = process_spec(&world, &["listen", &host.port().to_string()]);
        let shim = world.start(&spec).await;
        world.wait_for_log("listening").await;
        assert_eq!(ask(IpAddr::V4(Ipv4Addr::LOCALHOST), host.port(), "hi"), "got hi");
        let (out, _, exit) =
            collect(&mut shim.exec(&command(&["print", "1"])).await.unwrap()).await;
        assert_eq!((out.as_str(), exit.code), ("out 0\nno newline", 0));
        assert!(shim.memory_bytes().await.unwrap().unwrap() > 0);
        shim.stop(Duration::ZERO).await.unwrap();
        wait_for_end(&shim).await;
        let status = world.run(&process_spec(&world, &["exit", "3"])).await;
        assert_eq!(status.exit.unwrap().code, 3);

        // What needs the image as its root is refused, not run on the host's.
        std::fs::write(world.path().join("rootfs/script"), "#!/bin/sh\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(world.path().join("rootfs/script"), executable).unwrap();
        let mut spec = process_spec(&world, &[]);
        spec.argv = vec!["/script".into()];
        let error =
            Shim::spawn(Path::new("/proc/self/exe"), &world.dir(), &spec).await.unwrap_err();
        let StartError::Failed(failure) = error else { panic!("{error}") };
        assert_eq!(failure.reason, Reason::ImageNeedsNamespaces);
        assert!(failure.reason.hint().is_some());
    });
}

fn root_process() {
    if !is_root("root_process") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = process_spec(&world, &["fill-memory"]);
        spec.resources.memory_bytes = Some(64 << 20);
        let status = world.run(&spec).await;
        assert!(status.limits.limits_enforced, "{:?}", status.limits);
        assert!(status.exit.unwrap().oom_killed);
        world.assert_no_traces().await;
    });
}

fn user_probe() {
    block_on(async {
        let found = probe(Path::new("/proc/self/exe")).await.unwrap();
        println!("     {found:?}");
        let root = &found.levels[0];
        assert!(!root.available && root.advice.is_some());
        let rootless = &found.levels[1];
        assert!(rootless.available || !rootless.reason.is_empty());
        assert!(found.best().is_some());
    });
}

fn root_probe() {
    if !is_root("root_probe") {
        return;
    }
    block_on(async {
        let found = probe(Path::new("/proc/self/exe")).await.unwrap();
        println!("     {found:?}");
        assert_eq!(found.best().unwrap().isolation, Isolation::Container);
        assert!(!Path::new("/sys/class/net/probe0").exists());
    });
}
