//! Secrets: where the program finds them, who can read them there, and where they
//! are not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use helix_runtime::{
    InstanceSpec, Reason, SECRETS_PATH, Shim, StartError, keep_secrets, memory_dir,
};

use crate::exec::{collect, command};
use crate::world::{World, block_on, is_root, wait_for_end};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("secrets::its_user_reads_them_and_nobody_changes_them", readable),
    ("secrets::another_user_inside_does_not_read_them", unreadable),
    ("secrets::they_are_in_memory_and_nowhere_below_the_instance", in_memory),
    ("secrets::without_them_an_instance_does_not_start", missing),
];

pub(crate) const CONTENTS: &str = "# HELIX_SECRETS_V1\nKEY=pl4nted-cc0912\n";

/// A file as a node keeps it, gone with the guard.
pub(crate) struct Kept(pub PathBuf);

impl Kept {
    pub(crate) fn new(world: &World) -> Kept {
        let folder = memory_dir().expect("this machine has memory").join(world.id());
        let path = folder.join("platform.env");
        keep_secrets(&path, CONTENTS.as_bytes()).unwrap();
        Kept(path)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

pub(crate) fn spec(world: &World, kept: &Kept, mode: &[&str]) -> InstanceSpec {
    InstanceSpec { secrets: Some(kept.0.clone()), ..world.spec(mode) }
}

fn readable() {
    if !is_root("readable") {
        return;
    }
    block_on(async {
        // Mapped by a user namespace, and one that cannot be.
        for (user, owner) in [("", "0:0"), ("1000:1001", "1000:1001"), ("70000:5", "70000:5")] {
            // Root inside may open what has no mode for writing, but nothing here.
            let refusal = if user.is_empty() { "ReadOnlyFilesystem" } else { "PermissionDenied" };
            let world = World::new();
            let kept = Kept::new(&world);
            let mut spec = spec(&world, &kept, &["secrets", SECRETS_PATH]);
            spec.user = user.into();
            let status = world.run(&spec).await;
            let log = world.log();
            assert_eq!(status.exit.as_ref().unwrap().code, 0, "{user}: {log:?}");
            let expected = [
                format!("mode=400 owner={owner} directory=555"),
                format!("contents={CONTENTS:?}"),
                format!("write=Err({refusal})"),
                "beside=Err(ReadOnlyFilesystem)".to_owned(),
                "entries=1".to_owned(),
                "core=0:0".to_owned(),
            ];
            for line in expected {
                assert!(log.contains(&line), "{user}: {line:?} missing in {log:#?}");
            }
            world.assert_no_traces().await;
        }
    });
}

fn unreadable() {
    if !is_root("unreadable") {
        return;
    }
    block_on(async {
        let world = World::new();
        let kept = Kept::new(&world);
        let mut spec = spec(&world, &kept, &["until-term"]);
        spec.user = "1000:1000".into();
        let shim = world.start(&spec).await;
        world.wait_for_log("ready").await;
        for (user, reads) in [("1000:1000", true), ("2000:2000", false)] {
            let mut asked = command(&["secrets", SECRETS_PATH]);
            asked.user = user.into();
            let (out, err, exit) = collect(&mut shim.exec(&asked).await.unwrap()).await;
            assert_eq!(exit.code == 0, reads, "{user}: {out}{err}");
            assert_eq!(out.contains("pl4nted"), reads, "{user}: {out}");
        }
        shim.stop(std::time::Duration::ZERO).await.unwrap();
        wait_for_end(&shim).await;
    });
}

fn in_memory() {
    if !is_root("in_memory") {
        return;
    }
    block_on(async {
        let world = World::new();
        let kept = Kept::new(&world);
        let shim = world.start(&spec(&world, &kept, &["until-term"])).await;
        world.wait_for_log("ready").await;
        let pid = shim.status().await.unwrap().workload.unwrap().pid;
        let inside = PathBuf::from(format!("/proc/{pid}/root{SECRETS_PATH}"));
        assert_eq!(std::fs::read_to_string(&inside).unwrap(), CONTENTS);
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let mount = mounts.lines().find(|line| line.contains(" /run/secrets ")).unwrap();
        assert!(mount.contains(" - tmpfs "), "{mount}");
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(mount.split([' ', ',']).any(|word| word == option), "no {option}: {mount}");
        }
        for (path, bytes) in files_below(&world.dir()) {
            let found = bytes.windows(7).any(|window| window == b"pl4nted");
            assert!(!found, "in {}", path.display());
        }
        assert_eq!(std::fs::metadata(&kept.0).unwrap().permissions().mode() & 0o777, 0o400);
        shim.stop(std::time::Duration::ZERO).await.unwrap();
        wait_for_end(&shim).await;
        world.assert_no_traces().await;
    });
}

fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push((entry.path(), std::fs::read(entry.path()).unwrap()));
        }
    }
    found
}

fn missing() {
    if !is_root("missing") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = world.spec(&["exit", "0"]);
        spec.secrets = Some("/dev/shm/helix-none/platform.env".into());
        let error = Shim::spawn(Path::new("/proc/self/exe"), &world.dir(), &spec).await;
        let Err(StartError::Failed(failure)) = error else { panic!("it started") };
        assert_eq!(failure.reason, Reason::SecretsInjectionFailed);
        assert!(failure.detail.contains("/dev/shm/helix-none"), "{failure}");
        world.assert_no_traces().await;
    });
}
